"""Drawing responses from an OpenAI-compatible completions server.

What the kinds of servers take, and what differs from the engine in this process:

- vLLM (0.9 or newer) takes prompts as token ids. It draws many requests together, adds no token
  to ids, and knows `repetition_penalty`, which counts the whole prompt; it drops low
  probabilities after the temperature was applied, llama.cpp before. Its temperature is at most 2.
- llama-server of llama.cpp takes token ids, and draws as many requests together as it has slots
  (--parallel); others wait. Its `repeat_penalty` counts the last 64 tokens, those of the prompt
  too.
- llama-cpp-python's server takes strings only (sampling.server_prompts: text) and draws one
  request at a time; the others wait, which counts for the time-out. `repeat_penalty` counts what
  the request has written, so nothing of the slots before.

All three ignore settings that they do not know, so a request names both penalties. Settings that
are off are named too: a server's own defaults are others (1.1 as penalty in llama-cpp-python, and
in vLLM what the model's publisher advises). `best_of`, `echo` and `suffix`, which llama-server
refuses, are never sent.

A server is asked for the names of its models before it draws (see `rec.llm.server.models`).
Requests that time out, whose connection is refused or breaks, or that the server answers with
status 429 or 5xx are tried again (see `rec.llm.server.http`); any other failure ends the drawing.

As text a prompt keeps its control tokens, but text that spells one is changed (see
`rec.llm.server.wire.PromptText`), and the server may cut words at a message's ends into other
tokens. A BOS token comes from the server where the vocabulary asks for it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from itertools import chain, count, islice
from types import TracebackType
from typing import Any, Self

from rec.errors import RecError
from rec.llm.form import Form
from rec.llm.model import Model
from rec.llm.request import Request, Response
from rec.llm.sampler import SamplerSettings
from rec.llm.server.endpoint import Endpoint
from rec.llm.server.http import Poster
from rec.llm.server.models import require_model
from rec.llm.server.run import Run
from rec.llm.server.wire import AnswerTokens, PromptText
from rec.seeds import derive_seed

ATTEMPTS = 6  # requests in a row for a slot that bring no token
REST = 3  # tokens that complete a character
FEW_EMPTY = 8  # slots that may stay empty, whatever their share


class CompletionServer:
    """Draws responses of one form from a server, `parallel` of them at a time.

    `model` is the server's model here, of which only the vocabulary is used; `name` is its name
    there. `prompts` is "tokens" or "text", whichever the server takes. `timeout` is in seconds for
    one request, `retries` counts further tries. The key is read from OPENAI_API_KEY.

    A slot is one request: all that stands before it, until the end of the line. What the server
    writes is tokenized here. Where its text has fewer tokens than the limit that it met, it is
    asked for the rest. After ATTEMPTS requests in a row that brought no token the slot ends where
    it is, and training takes that for the LLM's choice (a slot counts as cut by its length alone).
    The end and blanks cannot be forbidden for the first token alone, so a slot that came empty is
    asked again with a `logit_bias` against them and few tokens, until something is written, then
    without. A slot that stays empty becomes "none" and is counted in its response; how many did is
    printed at the end of a `with`.

    Raises RecError for an address that is none, and for a key that would go unencrypted to another
    machine.
    """

    def __init__(
        self,
        model: Model,
        form: Form,
        settings: SamplerSettings,
        *,
        address: str,
        name: str,
        prompts: str,
        parallel: int,
        timeout: float,
        retries: int,
    ) -> None:
        self.form = form
        self.name = name
        self.parallel = parallel
        self.endpoint = Endpoint.checked(address, timeout=timeout, retries=retries)
        self.slots = 0
        self.empty_slots = 0
        self._answers = AnswerTokens(model, form)
        self._bias = self._answers.opening_bias()
        self._none = self._answers.read(" none", first=True)[0]
        self._text = PromptText(model) if prompts == "text" else None
        self._sampling = _sampling(settings)
        self._lock = threading.Lock()
        self._runs: set[Run] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if kind is None and self.empty_slots:
            share = f"{self.empty_slots} of {self.slots} slots"
            print(f"{self.endpoint.address}: {share} stayed empty, now 'none'", file=sys.stderr)

    def close(self) -> None:
        """Break off what an unfinished `generate` waits for."""
        for run in list(self._runs):
            run.close()

    def generate(self, requests: Iterable[Request]) -> Generator[Response]:
        """Yield the responses of all requests as they are finished, in no particular order.

        It may be abandoned: requests under way are broken off. Raises RecError where the server
        does not list a model `name`, does not answer, refuses a request, answers something else
        than a completion, or leaves most slots empty; what arrived by then is yielded before.
        """
        run = Run(self.endpoint, self.parallel)
        self._runs.add(run)
        jobs = ((request, *pair) for request in requests for pair in request.seeds.items())
        try:
            first = next(jobs, None)
            if first is None:
                return
            require_model(run.poster, self.name)
            for job in islice(chain([first], jobs), 2 * self.parallel):
                run.start(self._draw, job)
            while run.waiting:
                responses, error = run.finished()
                for response in responses:
                    for job in islice(jobs, 0 if error else 1):
                        run.start(self._draw, job)
                    yield response
                if error:
                    raise error
        finally:
            self._runs.discard(run)
            run.close()

    def _draw(self, poster: Poster, request: Request, sample: int, seed: int) -> Response:
        start = time.perf_counter()
        written: list[int] = []
        cut_slots = empty_slots = 0
        for number, slot in enumerate(self.form.slots):
            written += [*([self.form.end] if number else []), *slot.label]
            own = derive_seed(seed, "slot", number) if len(self.form.slots) > 1 else seed
            filled = self._fill(poster, [*request.prompt, *written], slot.limit, own)
            self._count(bool(filled))
            empty_slots += not filled
            filled = filled or self._none[: slot.limit]
            written += filled
            cut_slots += len(filled) == slot.limit
        return Response(
            key=request.key,
            sample=sample,
            seed=seed,
            prompt_tokens=len(request.prompt),
            token_ids=tuple(written),
            cut_slots=cut_slots,
            empty_slots=empty_slots,
            seconds=time.perf_counter() - start,
        )

    def _fill(self, poster: Poster, before: Sequence[int], limit: int, seed: int) -> list[int]:
        """The tokens of one slot, `limit` at most; none where it stays empty."""
        ids: list[int] = []
        idle = 0  # requests since one that brought tokens
        for attempt in count():
            # The limit may fall into a character, which comes as no token unless it is whole.
            body = self._body([*before, *ids], limit - len(ids) + (REST if idle else 0))
            body["seed"] = derive_seed(seed, "again", attempt) if attempt else seed
            if attempt and not ids:
                # One token, as in the engine; more where it was a part of a character.
                body |= {"logit_bias": self._bias, "max_tokens": min(attempt, limit)}
            text, ended = _completion(poster, body)
            more, closed = self._answers.read(text, first=not ids)
            ids = [*ids, *more][:limit]
            idle = 0 if more else idle + 1
            if idle == ATTEMPTS or (ids and (ended or closed or len(ids) == limit)):
                break
        return ids

    def _body(self, prompt: Sequence[int], tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "prompt": self._text.write(prompt) if self._text else list(prompt),
            "max_tokens": tokens,
            "n": 1,
            "stream": False,
            **self._sampling,
        }
        if self._answers.end:
            body["stop"] = [self._answers.end]
        return body

    def _count(self, filled: bool) -> None:
        with self._lock:
            self.slots += 1
            self.empty_slots += not filled
            empty, slots = self.empty_slots, self.slots
        if empty > FEW_EMPTY and 2 * empty > slots:
            raise RecError(
                f"{self.endpoint.address}: {empty} of {slots} slots stayed empty after {ATTEMPTS}"
                f" requests each; is {self.name} the model of llm.name, and does the server know"
                " logit_bias?"
            )


def _sampling(settings: SamplerSettings) -> dict[str, float]:
    return {
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "repeat_penalty": settings.repeat_penalty,
        "repetition_penalty": settings.repeat_penalty,
    }


def _completion(poster: Poster, body: dict[str, Any]) -> tuple[str, bool]:
    """The text that the server writes, and whether it ended of itself."""
    answer = poster.post("completions", body)
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(text := choice.get("text"), str):
        raise RecError(f"{poster.endpoint.address}: the answer holds no choices[0].text")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise RecError(
            f"{poster.endpoint.address}: finish_reason is {reason!r:.40} and must be stop or length"
        )
    return text, reason == "stop"
