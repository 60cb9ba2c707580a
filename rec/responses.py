"""Responses: their form, their table, and how sound they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rec.config import Sampling
from rec.llm.form import Form, card, free_text
from rec.llm.model import Model
from rec.llm.request import Response
from rec.prompts import DOMAINS
from rec.tables import RESPONSES

#: A loop is a block of tokens that stands this often in a row, over this many tokens or more.
_TIMES, _SPAN = 3, 8
_LONGEST_BLOCK = 40  # tokens


def response_form(model: Model, domain: str, response: str, settings: Sampling) -> Form:
    """The form that the sampler holds: the domain's card, or free text."""
    if response == "card":
        return card(model, DOMAINS[domain].labels, settings.slot_tokens)
    return free_text(model, settings.text_tokens)


def responses_table(model: Model, form: Form, responses: Iterable[Response]) -> pl.DataFrame:
    """The table RESPONSES. Seconds are left out: they would differ from run to run."""
    rows = [
        {
            "key": drawn.key,
            "sample": drawn.sample,
            "text": model.detokenize(drawn.token_ids).strip(),
            "token_ids": drawn.token_ids,
            "prompt_tokens": drawn.prompt_tokens,
            "response_tokens": len(drawn.token_ids),
            "finish_reason": "length" if drawn.cut_slots == len(form.slots) else "stop",
            "cut_slots": drawn.cut_slots,
            "looping": loops(drawn.token_ids),
            "seed": drawn.seed,
        }
        for drawn in responses
    ]
    return pl.DataFrame(rows, schema=dict(RESPONSES)).sort("key", "sample")


def loops(token_ids: Sequence[int]) -> bool:
    """Whether a block of tokens is repeated three or more times in a row, over 8 tokens or more.

    >>> loops([7, 1, 2, 3, 1, 2, 3, 1, 2, 3]), loops([1, 2, 3, 1, 2, 3]), loops([5, 5, 5])
    (True, False, False)
    """
    ids = np.asarray(token_ids, dtype=np.int32)
    blocks = np.arange(1, min(_LONGEST_BLOCK, len(ids) // _TIMES) + 1)
    padded = np.append(ids, np.full(len(blocks), -1, np.int32))
    same = sliding_window_view(padded, len(ids))[1:] == ids  # [block, place]
    needed = np.maximum(_SPAN, _TIMES * blocks) - blocks
    likely = np.flatnonzero(same.sum(axis=1) >= needed)
    return any(_longest_run(same[row]) >= needed[row] for row in likely)


def _longest_run(same: NDArray[np.bool_]) -> int:
    breaks = np.flatnonzero(~same)
    edges = np.concatenate(([-1], breaks, [len(same)]))
    return int(np.diff(edges).max()) - 1


def sampling_health(responses: pl.DataFrame) -> dict[str, float]:
    """Counts and shares over RESPONSES.

    `cut_off`: share of those whose every slot met its limit (free text has one slot); `looping`:
    share of those that repeat themselves; `empty`: without text; `cut_slots`: slots that met their
    limit, per response; `repeated`: responses whose text the same user has already.
    """
    count = responses.height
    tokens = int(responses["response_tokens"].sum())
    cut = responses.filter(pl.col("finish_reason") == "length").height
    return {
        "responses": count,
        "users": responses["key"].n_unique(),
        "mean_tokens": round(tokens / count, 2),
        "cut_off": round(cut / count, 4),
        "looping": round(int(responses["looping"].sum()) / count, 4),
        "empty": round(responses.filter(pl.col("text") == "").height / count, 4),
        "cut_slots": round(int(responses["cut_slots"].sum()) / count, 2),
        "repeated": count - responses.select("key", "text").n_unique(),
    }
