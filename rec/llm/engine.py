"""Sampling many responses at once through llama.cpp's low-level interface.

A prompt is computed once and its cached keys and values are shared by its N responses (one unified
cache, in which a copy only adds a sequence's name to the cells). Responses of several prompts are
in flight together: each step decodes one token of every sequence, the labels that the form gives,
and the prompts that have just been admitted; a finished response makes room for the next prompt.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp

from rec.errors import RecError
from rec.llm.batch import Batch
from rec.llm.form import Form
from rec.llm.model import Model
from rec.llm.sampler import SamplerSettings, sampler_chain
from rec.seeds import derive_seed


@dataclass(frozen=True)
class Request:
    """A prompt in tokens, and the seed of each response wanted."""

    key: str
    prompt: tuple[int, ...]
    seeds: tuple[int, ...]
    first_sample: int = 0


@dataclass(frozen=True)
class Response:
    """A response in tokens, without the token that ends it."""

    key: str
    sample: int
    seed: int
    prompt_tokens: int
    token_ids: tuple[int, ...]
    cut_slots: int  # how many slots met their limit


@dataclass(eq=False)
class _Group:
    """A prompt in flight: its sequences share its cells until the last of them is finished."""

    request: Request
    cells: int
    alive: int


@dataclass(eq=False)
class _Sequence:
    group: _Group
    sample: int
    slot: int  # cache sequence
    opening: llama_cpp.llama_sampler_p  # for the first token of a slot, which may not end it
    sampler: llama_cpp.llama_sampler_p
    position: int  # of the first pending token
    pending: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    form_slot: int = 0
    slot_length: int = 0
    cut_slots: int = 0
    output: int = -1  # row of the batch whose logits are this sequence's


class Engine:
    """Draws responses of one form from one model, with or without a LoRA adapter.

    `parallel` sequences are decoded together. With `deterministic`, one prompt is in flight at a
    time and nothing is shared between prompts, so that a response depends on its prompt, its seed
    and the number of its siblings alone.
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
    ) -> None:
        self.model = model
        self.form = form
        self.settings = settings
        self.context = context
        self.deterministic = deterministic
        self.parallel = min(parallel, llama_cpp.llama_max_parallel_sequences() - 1)
        groups = 1 if deterministic else max(2, self.parallel // 4)
        self.cells = groups * context + self.parallel * form.longest
        step = 2 + max(len(slot.label) for slot in form.slots)  # most tokens of one sequence
        self.batch = Batch(context + self.parallel * step)
        self.active: list[_Sequence] = []
        self.first_label = form.slots[0].label
        self.handle = self._create_context(threads)
        self.memory = llama_cpp.llama_get_memory(self.handle)
        try:
            self.adapter = self._load_adapter(adapter) if adapter else None
        except RecError:
            self.close()
            raise

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the cache, and what an unfinished `generate` holds."""
        self._abandon()
        if self.handle:
            llama_cpp.llama_free(self.handle)
            self.handle = None

    def _create_context(self, threads: int) -> llama_cpp.llama_context_p:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = self.cells
        options.n_batch = self.batch.size
        options.n_ubatch = min(512, self.batch.size)
        options.n_seq_max = self.parallel + 1
        options.n_threads = threads
        options.n_threads_batch = threads
        options.kv_unified = True
        handle = llama_cpp.llama_init_from_model(self.model.handle, options)
        if not handle:
            raise RecError(
                f"llama.cpp has no memory for {self.cells} cache cells; "
                "lower machine.parallel_sequences or llm.context"
            )
        return handle

    def _load_adapter(self, path: Path) -> llama_cpp.llama_adapter_lora_p:
        adapter = llama_cpp.llama_adapter_lora_init(self.model.handle, str(path).encode())
        if not adapter:
            raise RecError(f"{path}: not a LoRA adapter for {self.model.path}")
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(1.0)
        if llama_cpp.llama_set_adapters_lora(self.handle, adapters, 1, scales) != 0:
            raise RecError(f"{path}: llama.cpp cannot apply this adapter")
        return adapter

    def generate(self, requests: Iterable[Request]) -> Generator[Response]:
        """Yield the responses of all requests as they are finished, in no particular order.

        One call at a time; it may be abandoned. Raises RecError where a prompt and its response do
        not fit the context.
        """
        waiting = deque(self._fitting(requests))
        prefix = [] if self.deterministic else common_prefix([r.prompt for r in waiting])
        self._start(prefix)
        try:
            while waiting or self.active:
                if self.deterministic and not self.active:
                    self._start(prefix)
                self.batch.clear()
                for sequence in self.active:
                    pending = sequence.pending
                    sequence.output = self.batch.add(pending, sequence.position, sequence.slot)
                admitted = self._admit_fitting(waiting, len(prefix))
                self._decode()
                self._share(admitted)
                for sequence in self.active:
                    self._sample(sequence)
                for sequence in [s for s in self.active if not s.pending]:
                    yield self._finish(sequence)
        finally:
            self._abandon()

    def _start(self, prefix: Sequence[int]) -> None:
        """Empty the cache, and compute what all prompts begin with."""
        self._abandon()
        llama_cpp.llama_memory_clear(self.memory, True)
        self.free = list(range(self.parallel, 0, -1))
        self.room = self.cells - len(prefix)
        if prefix:
            self.batch.clear()
            self.batch.add(prefix, 0, 0)
            self._decode()

    def _abandon(self) -> None:
        while self.active:
            self._free_samplers(self.active.pop())

    def _admit_fitting(self, waiting: deque[Request], prefix: int) -> list[_Sequence]:
        """Put waiting prompts into the batch while there are sequences, cells and rows for them."""
        admitted: list[_Sequence] = []
        while waiting and not (self.deterministic and self.active):
            request = waiting[0]
            need = self._cells(request, prefix)
            tokens = len(request.prompt) - prefix + len(self.first_label)
            if len(request.seeds) > len(self.free) or need > self.room:
                break
            if self.batch.count + tokens > self.batch.size:
                break
            self.room -= need
            group = _Group(waiting.popleft(), need, len(request.seeds))
            admitted += self._admit(group, prefix)
        return admitted

    def _fitting(self, requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            length = len(request.prompt) + self.form.longest
            if length > self.context:
                raise RecError(
                    f"prompt {request.key}: {len(request.prompt)} tokens and a response of up to "
                    f"{self.form.longest} exceed llm.context ({self.context})"
                )
            for start in range(0, len(request.seeds), self.parallel):
                seeds = request.seeds[start : start + self.parallel]
                key = request.key
                yield Request(key, request.prompt, seeds, request.first_sample + start)

    def _cells(self, request: Request, prefix: int) -> int:
        return len(request.prompt) - prefix + len(request.seeds) * self.form.longest

    def _admit(self, group: _Group, prefix: int) -> list[_Sequence]:
        request = group.request
        sequences = []
        for index, seed in enumerate(request.seeds):
            sequence = _Sequence(
                group,
                request.first_sample + index,
                self.free.pop(),
                self._chain(derive_seed(seed, "opening"), self.form.banned_first),
                self._chain(seed, self.form.banned),
                len(request.prompt),
                pending=list(self.first_label),
                written=list(self.first_label),
            )
            sequences.append(sequence)
            self.active.append(sequence)
        lead = sequences[0].slot
        if prefix:
            llama_cpp.llama_memory_seq_cp(self.memory, 0, lead, 0, prefix)
        row = self.batch.add([*request.prompt[prefix:], *self.first_label], prefix, lead)
        for sequence in sequences:
            sequence.output = row
        return sequences

    def _share(self, admitted: Sequence[_Sequence]) -> None:
        leads: dict[_Group, int] = {}
        for sequence in admitted:
            lead = leads.setdefault(sequence.group, sequence.slot)
            if sequence.slot != lead:
                llama_cpp.llama_memory_seq_cp(self.memory, lead, sequence.slot, -1, -1)

    def _require_open(self) -> None:
        if not self.handle:
            raise RuntimeError("the engine is closed")

    def _decode(self) -> None:
        self._require_open()
        status = llama_cpp.llama_decode(self.handle, self.batch.struct)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status} for {self.batch.count} tokens")

    def _sample(self, sequence: _Sequence) -> None:
        sampler, other = sequence.sampler, sequence.opening
        if sequence.slot_length == 0:
            sampler, other = other, sampler
        token = llama_cpp.llama_sampler_sample(sampler, self.handle, sequence.output)
        llama_cpp.llama_sampler_accept(other, token)  # the penalty counts all tokens
        sequence.position += len(sequence.pending)
        sequence.slot_length += 1
        ended = token == self.form.end
        full = sequence.slot_length >= self.form.slots[sequence.form_slot].limit
        if not ended:
            sequence.written.append(token)
            sequence.pending = [token]
        if not ended and not full:
            return
        sequence.cut_slots += not ended
        sequence.form_slot += 1
        sequence.slot_length = 0
        if sequence.form_slot == len(self.form.slots):
            sequence.pending = []
            return
        given = [self.form.end, *self.form.slots[sequence.form_slot].label]
        sequence.written += given
        sequence.pending = given if ended else [token, *given]

    def _finish(self, sequence: _Sequence) -> Response:
        self._require_open()
        group, request = sequence.group, sequence.group.request
        self.active.remove(sequence)
        self._free_samplers(sequence)
        llama_cpp.llama_memory_seq_rm(self.memory, sequence.slot, -1, -1)
        self.free.append(sequence.slot)
        group.alive -= 1
        if not group.alive:
            self.room += group.cells
        return Response(
            key=request.key,
            sample=sequence.sample,
            seed=request.seeds[sequence.sample - request.first_sample],
            prompt_tokens=len(request.prompt),
            token_ids=tuple(sequence.written),
            cut_slots=sequence.cut_slots,
        )

    def _free_samplers(self, sequence: _Sequence) -> None:
        llama_cpp.llama_sampler_free(sequence.opening)
        llama_cpp.llama_sampler_free(sequence.sampler)

    def _chain(self, seed: int, banned: Sequence[int]) -> llama_cpp.llama_sampler_p:
        return sampler_chain(self.model, self.settings, seed, banned)


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
