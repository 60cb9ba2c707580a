"""How far an adapter's effect in llama.cpp is from that in PEFT, on real prompts.

`check` reads the same prompts with the same adapter in both runtimes, transformers in fp32 and
llama.cpp as the engine runs it, and follows the greedy continuation that transformers takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import llama_cpp
import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.helpers import rescale_adapter_scale
from transformers import AutoModelForCausalLM

from rec.llm.context import Context
from rec.llm.model import Message, Model
from rec.machine import cores

#: Tokens of a continuation that are compared.
STEPS = 16

Logits = NDArray[np.float32]


class Runtime(Protocol):
    """A model, with or without an adapter, that reads a prompt and then token after token."""

    def start(self, prompt: Sequence[int]) -> Logits:
        """The logits after a prompt; computed once for a prompt that is started again."""

    def step(self, token: int) -> Logits:
        """The logits after one more token."""


class Transformers:
    """A PEFT model in fp32; the base itself where `scale` is 0."""

    def __init__(self, model: Any, scale: float) -> None:
        self.model = model
        self.scale = scale
        self.prompt: list[int] = []
        self.cache: Any = None

    def start(self, prompt: Sequence[int]) -> Logits:
        """See Runtime."""
        if self.prompt == list(prompt):
            self.cache.crop(len(prompt) - self.cache.get_seq_length())
        else:
            self.prompt, self.cache = list(prompt), None
            self.first = self._compute(self.prompt)
        return self.first

    def step(self, token: int) -> Logits:
        """See Runtime."""
        return self._compute([token])

    def _compute(self, tokens: list[int]) -> Logits:
        with self._scaled(), torch.no_grad():
            ids = torch.tensor([tokens])
            result = self.model(
                input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1
            )
        self.cache = result.past_key_values
        return np.asarray(result.logits[0, -1].numpy(), np.float32)

    def _scaled(self) -> AbstractContextManager[Any]:
        if self.scale:
            return rescale_adapter_scale(self.model, self.scale)  # type: ignore[no-any-return]
        return self.model.disable_adapter()  # type: ignore[no-any-return]


class LlamaCpp:
    """llama.cpp in the engine's own context; the base without an adapter."""

    def __init__(
        self, model: Model, cells: int, threads: int, adapter: Path | None = None, scale: float = 1
    ) -> None:
        self.context = Context(model, sequences=2, cells=cells, threads=threads)
        self.size = model.size
        self.prompt: list[int] = []
        if adapter:
            self.context.use_adapter(adapter, scale)

    def start(self, prompt: Sequence[int]) -> Logits:
        """See Runtime."""
        if self.prompt != list(prompt):
            self.prompt = list(prompt)
            self.context.drop(0)
            self.context.extend(0, prompt[:-1], 0)
        self.context.copy(0, 1)
        self.position = len(prompt) - 1
        return self.step(prompt[-1])

    def step(self, token: int) -> Logits:
        """See Runtime."""
        self.context.batch.clear()
        self.context.batch.add((token,), self.position, 1, wanted=True)
        self.context.decode()
        self.position += 1
        logits = llama_cpp.llama_get_logits_ith(self.context.handle, 0)
        return np.array(np.ctypeslib.as_array(logits, (self.size,)), np.float32)


def greedy(runtime: Runtime, prompt: Sequence[int]) -> tuple[list[int], Logits]:
    """The likeliest continuation of `STEPS` tokens, and the logits that each was taken from."""
    rows = [runtime.start(prompt)]
    path = [int(rows[0].argmax())]
    while len(path) < STEPS:
        rows.append(runtime.step(path[-1]))
        path.append(int(rows[-1].argmax()))
    return path, np.stack(rows)


def follow(runtime: Runtime, prompt: Sequence[int], path: Sequence[int]) -> Logits:
    """The logits that each token of a continuation would be taken from."""
    return np.stack([runtime.start(prompt), *(runtime.step(token) for token in path[:-1])])


@dataclass
class Agreement:
    """Of two greedy continuations from the same prompts, and of the choices along the first."""

    kept: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def add(self, path: Sequence[int], rows: Logits, others: Logits) -> None:
        """Compare the choices of `rows`, which are `path`, with those of `others`."""
        chosen = others.argmax(1)
        equal = chosen == path
        self.kept.append(float(np.logical_and.accumulate(equal).mean()))
        self.same.append(float(equal.mean()))
        self.gaps += [
            float(row[taken] - row[other])
            for row, taken, other in zip(rows, path, chosen, strict=True)
        ]

    def figures(self) -> dict[str, float]:
        """Shares of tokens until the first difference and in all; the largest loss of logit."""
        return {
            "until_first_difference": float(np.mean(self.kept)),
            "step_by_step": float(np.mean(self.same)),
            "largest_gap_of_a_difference": max(self.gaps),
        }


class Moments:
    """Second moments of two quantities over the vocabulary, less each position's mean."""

    def __init__(self) -> None:
        self.sums = np.zeros(4)
        self.count = 0
        self.lowest = 1.0

    def add(self, left: Logits, right: Logits) -> None:
        """Add a prompt's positions. A constant added to all logits of a position is no change."""
        x, y = (rows - rows.mean(1, keepdims=True) for rows in (left, right))
        sums = np.array([np.vdot(x, x), np.vdot(y, y), np.vdot(x, y), np.vdot(y - x, y - x)])
        self.sums += sums
        self.count += x.size
        self.lowest = min(self.lowest, _correlation(sums))

    @property
    def correlation(self) -> float:
        """Over all prompts."""
        return _correlation(self.sums)

    @property
    def slope(self) -> float:
        """Of the second on the first: 1 where they differ by noise alone."""
        return float(self.sums[2] / self.sums[0])

    @property
    def deviation(self) -> float:
        """Standard deviation of the first quantity."""
        return float(np.sqrt(self.sums[0] / self.count))

    @property
    def difference(self) -> float:
        """Standard deviation of the difference of the two."""
        return float(np.sqrt(self.sums[3] / self.count))


def _correlation(sums: NDArray[np.float64]) -> float:
    return float(sums[2] / np.sqrt(sums[0] * sums[1]))


def check(
    gguf: Path,
    hf: Path,
    adapter: Path,
    prompts: Sequence[Sequence[Message]],
    scale: float = 1.0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Compare the runtimes with the adapter in the folder `adapter` (a policy's) times `scale`.

    `correlation`, `slope` and `change` (a standard deviation) are of what the adapter changes in
    the logits after the prompt and along the adapted model's greedy continuation in transformers.
    """
    base = AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32, local_files_only=True)
    peft = PeftModel.from_pretrained(base, adapter).eval()
    change, noise = Moments(), Moments()
    adapted, unadapted = Agreement(), Agreement()
    zero = 0.0
    with Model(gguf) as model, ExitStack() as stack:
        ids = [model.chat(messages) for messages in prompts]
        cells = max(map(len, ids)) + STEPS
        file = adapter / "adapter.gguf"
        size = cells, threads or cores()
        ours, ours_zero = (LlamaCpp(model, *size, file, factor) for factor in (scale, 0.0))
        ours_base = LlamaCpp(model, *size)
        for runtime in (ours, ours_base, ours_zero):
            stack.callback(runtime.context.close)
        theirs, theirs_base = Transformers(peft, scale), Transformers(peft, 0.0)
        for prompt in ids:
            path, rows = greedy(theirs_base, prompt)
            unadapted.add(path, rows, follow(ours_base, prompt, path))
            path, rows = greedy(theirs, prompt)
            ours_rows = follow(ours, prompt, path)
            adapted.add(path, rows, ours_rows)
            before = follow(theirs_base, prompt, path)
            ours_before = follow(ours_base, prompt, path)
            change.add(rows - before, ours_rows - ours_before)
            noise.add(before, ours_before)
            off = follow(ours_zero, prompt, path) - ours_before
            zero = max(zero, float(np.abs(off).max()))
    return {
        "prompts": len(ids),
        "positions": STEPS * len(ids),
        "correlation": change.correlation,
        "lowest_correlation_of_a_prompt": change.lowest,
        "slope": change.slope,
        "change": change.deviation,
        "difference_of_changes": change.difference,
        "difference_of_bases": noise.difference,
        "scale_zero_from_base": zero,
        "greedy": adapted.figures(),
        "greedy_base": unadapted.figures(),
    }
