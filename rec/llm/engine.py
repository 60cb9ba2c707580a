"""Sampling many responses at once through llama.cpp's low-level interface.

A prompt is computed once and its keys and values are copied to each of its responses; what all
prompts begin with is computed once for all. Responses of several prompts are in flight together:
each step decodes one token of every sequence, one row of a matrix product each, and the place of a
finished response is taken at once by the next.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import llama_cpp

from rec.errors import RecError
from rec.llm.context import CacheFull, Context
from rec.llm.form import Form
from rec.llm.model import Model
from rec.llm.request import Request, Response, require_fit
from rec.llm.sampler import Bias, SamplerSettings, banning, sampler_chain
from rec.seeds import derive_seed

#: Sequences of the context: what all prompts share, the prompt at hand, then the responses.
_PREFIX, _PROMPT, _FIRST = 0, 1, 2
_NO_ROOM = (
    "llama.cpp's cache has no room for a single response; lower llm.context or prompts.history"
)


#: Told of responses while they are written: key, sample, and the tokens that were added.
Watch = Callable[[str, int, Sequence[int]], None]


@dataclass(frozen=True)
class _Sample:
    """One response to draw."""

    request: Request
    index: int


@dataclass(eq=False)
class _Sequence:
    """A response in flight. `given` are the tokens yet to be decoded, one in each step."""

    sample: _Sample
    opening: llama_cpp.llama_sampler_p  # for the first token of a slot, which may not end it
    sampler: llama_cpp.llama_sampler_p
    position: int  # of the next token to be decoded
    given: deque[int]
    started: float
    written: list[int] = field(default_factory=list)
    slot: int = 0  # of the form
    slot_length: int = 0
    cut_slots: int = 0
    row: int = 0  # of the batch
    done: bool = False


class Engine:
    """Draws responses of one form from one model, with or without a LoRA adapter.

    `parallel` responses are decoded together, of at most `context` tokens with their prompt. With
    `deterministic` it is one at a time by one thread, and nothing is shared between prompts, so
    that on one kind of processor a response depends on its prompt and its seed alone. `watch` is
    told of tokens as they are written; a response that has to begin anew is told from its start.
    """

    def __init__(
        self,
        model: Model,
        form: Form,
        settings: SamplerSettings,
        *,
        context: int,
        parallel: int,
        threads: int,
        adapter: Path | None = None,
        deterministic: bool = False,
        unified: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.model = model
        self.form = form
        self.watch = watch
        self.settings = settings
        self.cells = context
        self.deterministic = deterministic
        self.places = 1 if deterministic else parallel
        self.bias, self.bias_first = banning(form.banned), banning(form.banned_first)
        self.active: list[_Sequence | None] = []  # by place; None is free
        self.prompt: Request | None = None  # whose tokens the sequence _PROMPT holds
        self.context = self._open(model, threads, unified)
        try:
            if adapter:
                self.context.use_adapter(adapter)
        except RecError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the cache, and what an unfinished `generate` holds."""
        self._abandon()
        self.context.close()

    def _open(self, model: Model, threads: int, unified: bool) -> Context:
        """The largest context that there is memory for, of `places` responses or fewer."""
        most = llama_cpp.llama_max_parallel_sequences() - _FIRST
        self.places = min(self.places, most)
        while True:
            try:
                return Context(
                    model,
                    sequences=self.places + _FIRST,
                    cells=self.cells,
                    threads=threads,
                    decode_threads=1 if self.deterministic else threads,
                    unified=unified,
                )
            except RecError:
                if self.places == 1:
                    raise
                self.places //= 2

    def generate(self, requests: Iterable[Request]) -> Generator[Response]:
        """Yield the responses of all requests as they are finished, in no particular order.

        One call at a time; it may be abandoned. Raises RecError where a prompt and its response do
        not fit the context.
        """
        wanted = [request for request in requests if request.seeds]
        require_fit(wanted, self.form.longest, self.cells)
        prefix = [] if self.deterministic else common_prefix([r.prompt for r in wanted])
        waiting = deque(_Sample(request, index) for request in wanted for index in request.seeds)
        self._abandon()
        self.context.clear()
        self.prompt = None
        try:
            self.context.extend(_PREFIX, prefix, 0)
            while waiting or self._in_flight():
                self._admit(waiting, len(prefix))
                self._step(waiting)
                yield from self._finish()
        finally:
            self._abandon()

    def _abandon(self) -> None:
        for sequence in self._in_flight():
            self._free_samplers(sequence)
        self.active.clear()

    def _in_flight(self) -> list[_Sequence]:
        return [sequence for sequence in self.active if sequence]

    def _admit(self, waiting: deque[_Sample], prefix: int) -> None:
        """Give the free places to waiting responses, computing their prompts when needed."""
        while waiting and (place := self._free_place()) is not None:
            if waiting[0].request is not self.prompt:
                try:
                    self._compute_prompt(waiting[0].request, prefix)
                except CacheFull:
                    if not self._in_flight():
                        raise RecError(_NO_ROOM) from None
                    break  # until a response ends and leaves its cells
            self.context.copy(_PROMPT, _FIRST + place)
            self.active[place : place + 1] = [self._begin(waiting.popleft())]
        self._close_gaps()

    def _free_place(self) -> int | None:
        if None in self.active:
            return self.active.index(None)
        return len(self.active) if len(self.active) < self.places else None

    def _drop_free(self) -> None:
        for place, sequence in enumerate(self.active):
            if sequence is None:
                self.context.drop(_FIRST + place)

    def _close_gaps(self) -> None:
        """Move the last responses to free places: llama.cpp wants neighbours in one batch."""
        while None in self.active:
            place = self.active.index(None)
            last = self.active.pop()
            if last:
                self.active[place] = last
                self.context.copy(_FIRST + len(self.active), _FIRST + place)
            self.context.drop(_FIRST + len(self.active))

    def _compute_prompt(self, request: Request, prefix: int) -> None:
        """Put a prompt and the first label into the cache, but for the last token of them.

        The last token is each response's own to decode, since it gives the first logits.
        """
        self._drop_free()
        self.prompt = None
        if self.deterministic:
            self.context.clear()
        if prefix:
            self.context.copy(_PREFIX, _PROMPT)
        else:
            self.context.drop(_PROMPT)
        self.context.extend(_PROMPT, self._opening(request)[prefix:-1], prefix)
        self.prompt = request

    def _opening(self, request: Request) -> tuple[int, ...]:
        return request.prompt + self.form.slots[0].label

    def _begin(self, sample: _Sample) -> _Sequence:
        request, seed = sample.request, sample.request.seeds[sample.index]
        opening = self._opening(request)
        sequence = _Sequence(
            sample,
            self._chain(derive_seed(seed, "opening"), self.bias_first),
            self._chain(seed, self.bias),
            position=len(opening) - 1,
            given=deque(opening[-1:]),
            started=time.perf_counter(),
        )
        self._add(sequence, self.form.slots[0].label)
        return sequence

    def _add(self, sequence: _Sequence, tokens: Sequence[int]) -> None:
        sequence.written += tokens
        if self.watch:
            self.watch(sequence.sample.request.key, sequence.sample.index, tokens)

    def _make_room(self, waiting: deque[_Sample]) -> None:
        """Put the younger half of the responses back, and draw fewer together from now on."""
        self._close_gaps()
        if len(self.active) == 1 and self.prompt is None:
            raise RecError(_NO_ROOM)
        self.context.drop(_PROMPT)
        self.prompt = None
        self.places = max(1, len(self.active) // 2)
        for sequence in self._in_flight()[self.places :]:
            self._free_samplers(sequence)
            waiting.appendleft(sequence.sample)
        while len(self.active) > self.places:
            self.active.pop()
            self.context.drop(_FIRST + len(self.active))

    def _step(self, waiting: deque[_Sample]) -> None:
        """Decode one token of every response, and draw the next one of those that have no more."""
        while True:
            self._fill_batch()
            try:
                self.context.decode()
                break
            except CacheFull:
                self._make_room(waiting)
        for sequence in self._in_flight():
            sequence.given.popleft()
            sequence.position += 1
            if not sequence.given:
                self._write(sequence, self._draw(sequence))

    def _fill_batch(self) -> None:
        batch = self.context.batch
        batch.clear()
        for place, sequence in enumerate(self._in_flight()):
            sequence.row = batch.count
            token, last = sequence.given[0], len(sequence.given) == 1
            batch.add((token,), sequence.position, _FIRST + place, wanted=last)

    def _draw(self, sequence: _Sequence) -> int:
        sampler, other = sequence.sampler, sequence.opening
        if sequence.slot_length == 0:
            sampler, other = other, sampler
        token = llama_cpp.llama_sampler_sample(sampler, self.context.handle, sequence.row)
        llama_cpp.llama_sampler_accept(other, token)  # the penalty counts all tokens
        return int(token)

    def _write(self, sequence: _Sequence, token: int) -> None:
        """Add a drawn token, and what the form gives after it."""
        form = self.form
        sequence.slot_length += 1
        ended = token == form.end
        full = sequence.slot_length >= form.slots[sequence.slot].limit
        if not ended:
            self._add(sequence, [token])
            sequence.given.append(token)
        if not ended and not full:
            return
        sequence.cut_slots += not ended
        sequence.slot += 1
        sequence.slot_length = 0
        if sequence.slot == len(form.slots):
            sequence.done = True
            return
        given = [form.end, *form.slots[sequence.slot].label]
        self._add(sequence, given)
        sequence.given += given

    def _finish(self) -> Iterator[Response]:
        for place, sequence in enumerate(self.active):
            if sequence and sequence.done:
                self.active[place] = None
                self._free_samplers(sequence)
                yield self._response(sequence)

    def _response(self, sequence: _Sequence) -> Response:
        sample, request = sequence.sample, sequence.sample.request
        return Response(
            key=request.key,
            sample=sample.index,
            seed=request.seeds[sample.index],
            prompt_tokens=len(request.prompt),
            token_ids=tuple(sequence.written),
            cut_slots=sequence.cut_slots,
            seconds=time.perf_counter() - sequence.started,
        )

    def _free_samplers(self, sequence: _Sequence) -> None:
        llama_cpp.llama_sampler_free(sequence.opening)
        llama_cpp.llama_sampler_free(sequence.sampler)

    def _chain(self, seed: int, bias: Bias) -> llama_cpp.llama_sampler_p:
        return sampler_chain(self.model, self.settings, seed, bias)


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> list[int]:
    """Longest common prefix of all prompts, at least one token short of each."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return list(first[:length])
