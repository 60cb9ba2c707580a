"""Drawing responses in tests, and what they must be: the same form filled by transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rec.llm.engine import Engine, Watch
from rec.llm.form import Form, card, free_text
from rec.llm.model import Model
from rec.llm.request import Request, Response
from rec.llm.sampler import SamplerSettings
from rec.prompts import DOMAINS
from tests.llm.tiny import hf_logits

Drawn = dict[tuple[str, int], Response]


@dataclass(frozen=True)
class Options:
    """How to draw: the form, the sampler and the engine."""

    card: bool = True
    limit: int = 6
    temperature: float = 0.9
    repeat_penalty: float = 1.0
    context: int = 256
    parallel: int = 8
    deterministic: bool = False
    adapter: Path | None = None
    threads: int = 1
    unified: bool = False
    watch: Watch | None = None


def make_form(model: Model, options: Options) -> Form:
    if options.card:
        return card(model, DOMAINS["films"].labels, options.limit)
    return free_text(model, options.limit)


@contextmanager
def open_engine(path: Path, options: Options) -> Iterator[Engine]:
    sampler = SamplerSettings(options.temperature, 0, 1.0, 0.0, options.repeat_penalty)
    with (
        Model(path) as model,
        Engine(
            model,
            make_form(model, options),
            sampler,
            context=options.context,
            parallel=options.parallel,
            threads=options.threads,
            adapter=options.adapter,
            deterministic=options.deterministic,
            unified=options.unified,
            watch=options.watch,
        ) as engine,
    ):
        yield engine


def draw(path: Path, requests: Sequence[Request], options: Options) -> Drawn:
    """All responses by key and sample; each must come once."""
    with open_engine(path, options) as engine:
        responses = list(engine.generate(requests))
    drawn = {(response.key, response.sample): response for response in responses}
    assert len(drawn) == len(responses)
    return drawn


def prompts(count: int, *, shared: int = 0, seed: int = 1) -> list[tuple[int, ...]]:
    """Random prompts of 5 to 40 tokens after `shared` tokens that all begin with."""
    random = np.random.default_rng(seed)
    start = tuple(int(token) for token in random.integers(0, 600, shared))
    return [
        start + tuple(int(token) for token in random.integers(0, 600, random.integers(5, 40)))
        for _ in range(count)
    ]


def requests(count: int, seeds: int, *, shared: int = 0) -> list[Request]:
    """A request per prompt, each with its own seeds."""
    return [
        Request(f"user:{index}", prompt, {n: 1 + 100 * index + n for n in range(seeds)})
        for index, prompt in enumerate(prompts(count, shared=shared))
    ]


def slots(form: Form, ids: Sequence[int]) -> list[list[int]]:
    """What stands in each slot of a response; its labels and ends must be where they belong."""
    rest = list(ids)
    filled: list[list[int]] = []
    for index, slot in enumerate(form.slots):
        given = [*([form.end] if index else []), *slot.label]
        assert rest[: len(given)] == given
        rest = rest[len(given) :]
        length = rest.index(form.end) if form.end in rest else len(rest)
        filled.append(rest[:length])
        rest = rest[length:]
    assert not rest
    return filled


def greedy(hf: Any, prompt: Sequence[int], form: Form, penalty: float = 1.0) -> list[int]:
    """The form filled by transformers, always with the likeliest token.

    Stops early at a choice that rounding could turn.
    """
    torch.set_num_threads(1)
    ids: list[int] = []
    chosen: set[int] = set()
    for index, slot in enumerate(form.slots):
        ids += [*([form.end] if index else []), *slot.label]
        for place in range(slot.limit):
            logits = hf_logits(hf, [*prompt, *ids])[-1]
            seen = np.array(sorted(chosen), np.int64)
            logits[seen] = np.where(
                logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty
            )
            logits[list(form.banned if place else form.banned_first)] = -np.inf
            second, token = (int(one) for one in np.argsort(logits)[-2:])
            if logits[token] - logits[second] < 0.01:
                return ids
            chosen.add(token)
            if token == form.end:
                break
            ids.append(token)
    return ids
