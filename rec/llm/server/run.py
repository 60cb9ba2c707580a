"""The requests to a server that are under way together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait

from rec.llm.request import Request, Response
from rec.llm.server.endpoint import Endpoint
from rec.llm.server.http import Poster

Job = tuple[Request, int, int]  # with the sample and its seed
Draw = Callable[[Poster, Request, int, int], Response]


class Run:
    """One call of `CompletionServer.generate`: its threads and connections."""

    def __init__(self, endpoint: Endpoint, parallel: int) -> None:
        self.poster = Poster(endpoint, parallel)
        self.pool = ThreadPoolExecutor(parallel, thread_name_prefix="completions")
        self.waiting: set[Future[Response]] = set()

    def start(self, draw: Draw, job: Job) -> None:
        """Have a response drawn as soon as a thread is free."""
        self.waiting.add(self.pool.submit(draw, self.poster, *job))

    def finished(self) -> tuple[list[Response], BaseException | None]:
        """Wait for some responses; with the error of one that failed beside them."""
        done: set[Future[Response]] = set()
        while not done and self.waiting:  # polars' handler of Ctrl-C lets waits without end go on
            done, self.waiting = wait(self.waiting, timeout=1, return_when=FIRST_COMPLETED)
        errors = {future: error for future in done if (error := _error(future))}
        responses = [future.result() for future in done if future not in errors]
        return responses, next(iter(errors.values()), None)

    def close(self) -> None:
        """Cancel what waits, break off what runs, and wait for the threads."""
        running = {future for future in self.waiting if not future.cancel()}
        self.poster.abort()  # the list of models may be asked for
        while running:
            self.poster.abort()
            running = wait(running, timeout=0.1).not_done
        self.pool.shutdown()
        self.poster.close()


def _error(future: Future[Response]) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()
