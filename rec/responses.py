"""Responses: their form and their table."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from rec.health import loops
from rec.llm.form import Form, card, free_text
from rec.llm.model import Model
from rec.llm.request import Response
from rec.prompts import words
from rec.tables import RESPONSES


def response_form(
    model: Model,
    domain: str,
    response: str,
    slot_tokens: int,
    text_tokens: int,
    rated: bool = True,
) -> Form:
    """The form that the sampler holds: the data set's card (`rec.prompts.words`), or free text."""
    if response == "card":
        return card(model, words(domain, rated).labels, slot_tokens)
    return free_text(model, text_tokens)


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
            "empty_slots": drawn.empty_slots,
            "looping": loops(drawn.token_ids),
            "seed": drawn.seed,
        }
        for drawn in responses
    ]
    return pl.DataFrame(rows, schema=dict(RESPONSES)).sort("key", "sample")
