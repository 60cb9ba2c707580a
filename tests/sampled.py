"""What tests of sampling share: settings, prompts and options, without importing torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from rec.config import Machine, Sampling
from rec.tables import PROMPTS

SETTINGS = Sampling(
    backend="llama_cpp",
    server_model="{policy}",
    server_prompts="tokens",
    responses=4,
    responses_valid=2,
    responses_eval=2,
    temperature=0.8,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repeat_penalty=1.0,
    slot_tokens=6,
    text_tokens=9,
    deterministic=False,
)
SPLITS = {"a": "train", "b": "train", "c": "valid", "d": "test", "e": "train"}


def prompts() -> pl.DataFrame:
    rows = [
        (
            f"user:{user}",
            "user",
            user,
            split,
            [
                {"role": "system", "content": "Describe the taste."},
                {"role": "user", "content": f"Loved films: {user * 3}"},
            ],
            f"Loved films: {user * 3}",
        )
        for user, split in SPLITS.items()
    ]
    return pl.DataFrame(rows, schema=dict(PROMPTS), orient="row")


def machine(**changes: Any) -> Machine:
    options: dict[str, Any] = {"threads": 1, "parallel_sequences": 6, **changes}
    return Machine(**options)


def settings(**changes: Any) -> Sampling:
    return replace(SETTINGS, **changes)


OPTIONS: dict[str, Any] = {
    "domain": "films",
    "response": "card",
    "context": 512,
    "seed": 11,
    "machine": machine(),
}
