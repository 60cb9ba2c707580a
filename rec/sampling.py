"""Sampling: responses for every user, from the base LLM or from an aligned one.

Paper, section 4.1. A response's seed derives from the base seed, its prompt and its index alone.
What the store holds is not drawn again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from rec.config import Machine, Sampling
from rec.errors import RecError
from rec.files import sha256
from rec.llm.backends import Policy, open_backend, sampler_settings, server_model
from rec.llm.form import Form
from rec.llm.model import Message, Model
from rec.llm.request import Backend, Request, Response, require_fit
from rec.llm.store.responses import ResponseStore
from rec.progress import bar
from rec.responses import response_form, responses_table
from rec.seeds import derive_seed

#: To be raised with a change of a backend after which the same seed gives another response: what
#: the store holds of before is then no longer found.
VERSION = 1


@dataclass
class Work:
    """What a run of sampling did."""

    wanted: int
    found: int  # in the store
    damaged: int  # entries of the store that were dropped
    tokens: int = 0  # drawn
    seconds: float = 0.0  # of drawing, without loading the model

    def __str__(self) -> str:
        drawn = self.wanted - self.found
        text = f"{self.wanted} responses, {self.found} from the store"
        if drawn:
            rate = f"{self.tokens / self.seconds:,.0f} tokens/s"
            text += f", {drawn} drawn in {self.seconds:.1f} s ({rate})"
        if self.damaged:
            text += f"; {self.damaged} damaged entries of the store were dropped"
        return text


def sample(
    prompts: pl.DataFrame,
    policy: Policy,
    *,
    domain: str,
    response: str,
    settings: Sampling,
    context: int,
    seed: int,
    machine: Machine,
    store: Path,
    rated: bool = True,
) -> tuple[pl.DataFrame, Work]:
    """The responses of all prompts (table PROMPTS) as the table RESPONSES, and the work it was.

    `domain`, `response` and `rated` are those of the prompts; `context` is the most tokens that a
    prompt and its response may take. Raises RecError where they take more, or the backend fails;
    what was drawn until then is in the store.
    """
    if prompts.is_empty():
        raise RecError("sample: the table of prompts is empty")
    with Model(policy.gguf, vocabulary_only=True) as model:
        limits = (settings.slot_tokens, settings.text_tokens)
        form = response_form(model, domain, response, *limits, rated=rated)
        counts = sample_counts(settings)
        requests = [
            prompt_request(model, row["key"], row["messages"], counts[row["split"]], seed)
            for row in prompts.iter_rows(named=True)
        ]
        require_fit(requests, form.longest, context)
        longest = max(len(request.prompt) for request in requests) + form.longest
        with ResponseStore(store, _space(policy, form, settings)) as kept:
            responses, missing = kept.find(requests)
            wanted = sum(len(request.seeds) for request in requests)
            work = Work(wanted, len(responses), kept.damaged)
            if missing:
                cells = context if settings.deterministic else longest
                with open_backend(policy, model, form, settings, machine, context=cells) as backend:
                    started = time.perf_counter()
                    responses += _draw(backend, missing, kept, work)
                    work.seconds = time.perf_counter() - started
        return responses_table(model, form, responses), work


def _draw(
    backend: Backend, missing: Sequence[Request], kept: ResponseStore, work: Work
) -> list[Response]:
    """Draw what is missing, each prompt once: users with the same prompt share its responses."""
    sharing: dict[tuple[int, ...], list[Request]] = {}
    for request in missing:
        sharing.setdefault(request.prompt, []).append(request)
    distinct = {
        same[0].key: replace(same[0], seeds={n: s for one in same for n, s in one.seeds.items()})
        for same in sharing.values()
    }
    responses = []
    total = sum(len(request.seeds) for request in missing)
    with bar("sampling", total, "response") as moved:
        for drawn in backend.generate(distinct.values()):
            prompt = distinct[drawn.key].prompt
            kept.add(drawn, prompt)
            work.tokens += len(drawn.token_ids)
            keys = [one.key for one in sharing[prompt] if drawn.sample in one.seeds]
            responses += [replace(drawn, key=key) for key in keys]
            moved.update(len(keys))
    return responses


def sample_counts(settings: Sampling) -> dict[str, int]:
    """How many responses there are about a user, by the user's split."""
    return {
        "train": settings.responses,
        "valid": settings.responses_valid,
        "test": settings.responses_eval,
    }


def prompt_request(
    model: Model, key: str, messages: Sequence[Message], count: int, seed: int
) -> Request:
    """A prompt in tokens, with the seeds of its first `count` samples, which need no other."""
    ids = tuple(model.chat(messages))
    seeds = {index: derive_seed(seed, "sample", ids, index) for index in range(count)}
    return Request(key, ids, seeds)


def _space(policy: Policy, form: Form, settings: Sampling) -> dict[str, Any]:
    """What all responses of this run share: another value of any of it gives other responses."""
    server = settings.backend == "openai"
    return {
        "version": VERSION,
        "backend": settings.backend,
        "weights": [sha256(path) for path in policy.files(settings.backend)],
        "server_model": server_model(policy, settings) if server else None,
        "server_prompts": settings.server_prompts if server else None,
        "sampler": asdict(sampler_settings(settings)),
        "slots": [[slot.label, slot.limit] for slot in form.slots],
        "form": hashlib.sha256(repr(form).encode()).hexdigest(),
        "deterministic": settings.deterministic,
    }
