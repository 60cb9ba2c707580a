"""Sampling with transformers: for CUDA machines without a llama.cpp build that uses the GPU.

A prompt is computed once and its cached keys and values are copied to its samples. Prompts are
padded on the left, those of like length together. Each step computes one token of every response
in flight; when half of them are finished, they make room for the next prompts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache

from rec.errors import RecError
from rec.llm.form import Form
from rec.llm.hf.flight import Flight, Sample, by_prompt, join
from rec.llm.hf.policy import load_policy
from rec.llm.hf.rows import FormTable, Rows
from rec.llm.request import Request, Response, require_fit
from rec.llm.sampler import SamplerSettings
from rec.machine import use_threads

#: Most tokens of prompts, with their padding, that are computed in one go.
PROMPT_TOKENS = 8192


class Generator:
    """Draws responses of one form from a Hugging Face folder, with or without a PEFT adapter.

    `parallel` responses are in flight together, fewer once the device had no memory for them. With
    `deterministic` there is one, so that it depends on its prompt and its seed alone; else the
    responses beside it can turn a choice by rounding, though never by their random numbers.
    """

    def __init__(
        self,
        folder: Path,
        form: Form,
        settings: SamplerSettings,
        *,
        context: int,
        parallel: int,
        threads: int,
        adapter: Path | None = None,
        deterministic: bool = False,
    ) -> None:
        use_threads(threads)
        self.form = form
        self.settings = settings
        self.context = context
        self.parallel = 1 if deterministic else parallel
        self.model: Any = load_policy(folder, adapter)
        self.device = self.model.device
        tokens = self.model.get_output_embeddings().weight.shape[0]
        self.table = FormTable(form, tokens, self.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model's memory."""
        self.model = None
        _free_memory()

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Yield the responses of all requests as they are finished, in no particular order.

        It may be abandoned. Raises RecError where a prompt and its response do not fit the context,
        and where the device has no memory for a single response.
        """
        waiting = deque(self._samples(requests))
        flight: Flight | None = None
        while waiting or flight:
            alive = flight.alive if flight else []
            newcomers: list[Sample] = []
            if flight is None or flight.sparse:
                room = min(len(waiting), self.parallel - len(alive))
                newcomers = [waiting.popleft() for _ in range(room)]
            rows = max(len(flight.samples) if flight else 0, len(alive) + len(newcomers))
            flight = self._try_step(flight, newcomers)
            if flight is None:
                waiting.extendleft(reversed(alive + newcomers))
                self._halve(rows)
                continue
            yield from self._finished(flight)
            flight = flight if flight.alive else None

    def _samples(self, requests: Iterable[Request]) -> list[Sample]:
        """All samples, those of the longest prompts first, so that lack of memory shows early."""
        fitting = list(requests)
        require_fit(fitting, self.form.longest, self.context)
        fitting.sort(key=lambda request: len(request.prompt), reverse=True)
        return [Sample(request, index) for request in fitting for index in request.seeds]

    def _try_step(self, flight: Flight | None, newcomers: Sequence[Sample]) -> Flight | None:
        """A step; None where the device has no memory for it."""
        try:
            return self._step(flight, newcomers)
        except torch.OutOfMemoryError:
            return None

    def _halve(self, rows: int) -> None:
        _free_memory()
        if rows == 1:
            raise RecError(
                f"{self.device} has no memory for a single response; lower llm.context or take a "
                "smaller model"
            )
        self.parallel = rows // 2

    @torch.inference_mode()
    def _step(self, flight: Flight | None, newcomers: Sequence[Sample]) -> Flight:
        """The next token of all responses in flight, and the first one of the newcomers."""
        parts = []
        if flight:
            if flight.sparse:
                flight.drop_finished()
            rows = flight.rows
            logits = self._logits(rows.token[:, None], rows.pad, flight.cache)
            rows.advance(self.table, logits, self.settings)
            parts.append(flight)
        parts += [self._admit(prompts) for prompts in by_prompt(newcomers, PROMPT_TOKENS)]
        return parts[0] if len(parts) == 1 else join(parts)

    def _admit(self, prompts: Sequence[Sequence[Sample]]) -> Flight:
        """Compute prompts, each given by its samples, and draw the first token of each sample."""
        started = perf_counter()
        texts = [[*samples[0].request.prompt, *self.table.label] for samples in prompts]
        width = max(map(len, texts))
        blank = [width - len(text) for text in texts]
        padded = [[0] * count + text for count, text in zip(blank, texts, strict=True)]
        ids, pad = torch.tensor(padded).to(self.device), torch.tensor(blank).to(self.device)
        cache = DynamicCache()
        logits = self._logits(ids, pad, cache)
        counts = [number for number, samples in enumerate(prompts) for _ in samples]
        copies = torch.tensor(counts).to(self.device)
        cache.batch_select_indices(copies)
        flying = [sample for samples in prompts for sample in samples]
        for sample in flying:
            sample.started = started
        seeds = [sample.request.seeds[sample.index] for sample in flying]
        rows = Rows.start(self.table, seeds, pad[copies])
        rows.advance(self.table, logits[copies], self.settings)
        return Flight(rows, cache, [*flying])

    def _logits(self, ids: Tensor, pad: Tensor, cache: DynamicCache) -> Tensor:
        """fp32 logits [rows, tokens] after `ids` [rows, new]; `pad` [rows] columns are blank."""
        if self.model is None:
            raise RuntimeError("the generator is closed")
        length = cache.get_seq_length() + ids.shape[1]
        keys = torch.arange(length, device=self.device)
        queries = keys[-ids.shape[1] :, None]
        read = (keys >= pad[:, None, None]) & (keys <= queries)
        output = self.model(
            input_ids=ids,
            attention_mask=(read | (keys == queries))[:, None],  # no row may be empty
            position_ids=(queries[:, 0] - pad[:, None]).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _finished(self, flight: Flight) -> Iterator[Response]:
        done = enumerate(flight.rows.finished(self.table))
        places = [place for place, finished in done if finished and flight.samples[place]]
        now = perf_counter()
        for place, (cut, ids) in zip(places, flight.rows.responses(places), strict=True):
            sample = flight.samples[place]
            assert sample is not None
            flight.samples[place] = None
            request, index = sample.request, sample.index
            yield Response(
                key=request.key,
                sample=index,
                seed=request.seeds[index],
                prompt_tokens=len(request.prompt),
                token_ids=ids,
                cut_slots=cut,
                seconds=now - sample.started,
            )


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
