"""Sampling: N responses for every train user, from the base LLM or from an aligned one.

Paper, section 4.1. A response's seed derives from the base seed, its prompt and its index alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from rec.config import Sampling
from rec.errors import RecError
from rec.llm.engine import Engine, Request, Response
from rec.llm.form import Form, card, free_text
from rec.llm.model import Model
from rec.llm.sampler import SamplerSettings
from rec.progress import bar
from rec.prompts import DOMAINS
from rec.seeds import derive_seed
from rec.tables import RESPONSES


def sample(
    prompts: pl.DataFrame,
    *,
    gguf: Path,
    adapter: Path | None,
    domain: str,
    response: str,
    settings: Sampling,
    context: int,
    seed: int,
    threads: int,
    parallel: int,
) -> pl.DataFrame:
    """Draw the responses of all prompts (table PROMPTS) and return the table RESPONSES.

    `adapter` is a LoRA in GGUF, or None for the base. Raises RecError where a prompt does not fit
    the context.
    """
    if prompts.is_empty():
        raise RecError("sample: the table of prompts is empty")
    with Model(gguf) as model:
        form = response_form(model, domain, response, settings)
        requests = [_request(model, row, settings, seed) for row in prompts.iter_rows(named=True)]
        total = sum(len(request.seeds) for request in requests)
        sampler = SamplerSettings(
            settings.temperature,
            settings.top_k,
            settings.top_p,
            settings.min_p,
            settings.repeat_penalty,
        )
        most = max(settings.responses, settings.responses_eval)
        with (
            Engine(
                model,
                form,
                sampler,
                context=context,
                parallel=most if settings.deterministic else max(parallel, most),
                threads=threads,
                adapter=adapter,
                deterministic=settings.deterministic,
            ) as engine,
            bar("sampling", total, "response") as moved,
        ):
            responses = []
            for drawn in engine.generate(requests):
                responses.append(drawn)
                moved.update()
        return _table(model, len(form.slots), responses)


def response_form(model: Model, domain: str, response: str, settings: Sampling) -> Form:
    """The form that the sampler holds: the domain's card, or free text."""
    if response == "card":
        return card(model, DOMAINS[domain].labels, settings.slot_tokens)
    return free_text(model, settings.text_tokens)


def _request(model: Model, row: dict[str, Any], settings: Sampling, seed: int) -> Request:
    count = settings.responses if row["split"] == "train" else settings.responses_eval
    ids = tuple(model.chat(row["messages"]))
    seeds = tuple(derive_seed(seed, "sample", ids, index) for index in range(count))
    return Request(row["key"], ids, seeds)


def _table(model: Model, slots: int, responses: Iterable[Response]) -> pl.DataFrame:
    rows = [
        {
            "key": drawn.key,
            "sample": drawn.sample,
            "text": model.detokenize(drawn.token_ids).strip(),
            "token_ids": drawn.token_ids,
            "prompt_tokens": drawn.prompt_tokens,
            "response_tokens": len(drawn.token_ids),
            "finish_reason": "length" if drawn.cut_slots and slots == 1 else "stop",
            "cut_slots": drawn.cut_slots,
            "seed": drawn.seed,
        }
        for drawn in responses
    ]
    return pl.DataFrame(rows, schema=dict(RESPONSES)).sort("key", "sample")


def sampling_health(responses: pl.DataFrame) -> dict[str, float]:
    """Counts and shares over RESPONSES: users, cut-off and empty ones, repeated texts.

    `cut_off`: share of free texts that met their limit; `cut_slots`: slots of a card that met
    theirs, per response.
    """
    count = responses.height
    tokens = int(responses["response_tokens"].sum())
    return {
        "responses": count,
        "users": responses["key"].n_unique(),
        "mean_tokens": round(tokens / count, 2),
        "cut_off": round(responses.filter(pl.col("finish_reason") == "length").height / count, 4),
        "cut_slots": round(int(responses["cut_slots"].sum()) / count, 2),
        "empty": responses.filter(pl.col("text") == "").height,
        "repeated": count - responses.select("key", "text").n_unique(),
    }
