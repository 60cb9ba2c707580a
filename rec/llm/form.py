"""The form of a response, held by the sampler: which tokens are given and which the LLM chooses.

A card is filled slot by slot: the label's tokens are put into the sequence, then the LLM writes
until the end of the line or the slot's limit. Free text is one slot without a label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rec.errors import RecError
from rec.llm.model import Model

_BREAK = re.compile(rb"[\n\v\f\r]")


@dataclass(frozen=True)
class TokenSlot:
    """A slot in tokens: what is given before it, and how many tokens the LLM may write."""

    label: tuple[int, ...]
    limit: int


@dataclass(frozen=True)
class Form:
    """A response's slots, the token that ends a slot, and the tokens that may not be written.

    A slot is never empty: its first token may not be the end, nor blank (`banned_first`).
    """

    slots: tuple[TokenSlot, ...]
    end: int
    banned: tuple[int, ...]
    banned_first: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Most tokens that a response can have."""
        return sum(len(slot.label) + slot.limit + 1 for slot in self.slots)


def by_policy(form: Form, written: Sequence[int]) -> tuple[list[int], list[bool]]:
    """A response as training sees it: its tokens, and for each whether the LLM chose it.

    Labels are given, and so is the end of a slot that met its limit. The end of the last slot,
    which a response does not hold, is added where the LLM wrote it. Raises ValueError for tokens
    that are not of this form.
    """
    ids, chosen = list(written), list[bool]()
    for number, slot in enumerate(form.slots):
        start = len(chosen) + len(slot.label)
        if tuple(ids[len(chosen) : start]) != slot.label:
            raise ValueError(f"slot {number} of the response does not begin with its label")
        stop = start
        while stop < len(ids) and stop - start < slot.limit and ids[stop] != form.end:
            stop += 1
        ended = stop - start < slot.limit
        chosen += [False] * len(slot.label) + [True] * (stop - start)
        if number < len(form.slots) - 1:
            chosen.append(ended)
        elif ended:
            ids.append(form.end)
            chosen.append(True)
    if len(ids) != len(chosen):
        raise ValueError("the response holds other slots than its form")
    return ids, chosen


def card(model: Model, labels: Sequence[str], slot_tokens: int) -> Form:
    """A card of lines, each of a label of `labels` and of at most `slot_tokens` tokens.

    Raises RecError where a line break is not one token of the model's.
    """
    newline = model.tokenize("\n")
    if len(newline) != 1:
        raise RecError(f"{model.path}: a line break is not one token; set prompts.response to text")
    slots = tuple(TokenSlot(tuple(model.tokenize(label)), slot_tokens) for label in labels)
    return Form(slots, newline[0], *_banned(model, newline[0], line=True))


def free_text(model: Model, limit: int) -> Form:
    """Free text of at most `limit` tokens, ended by the model's own end token."""
    slots = (TokenSlot((), limit),)
    return Form(slots, model.eos, *_banned(model, model.eos, line=False))


def _banned(model: Model, end: int, *, line: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pieces = list(enumerate(model.pieces))
    banned = [
        token
        for token, piece in pieces
        if token != end
        and (not piece or not model.is_text(token) or (line and _BREAK.search(piece)))
    ]
    blank = [
        token
        for token, piece in pieces
        if token == end or not piece.decode(errors="replace").strip()
    ]
    return tuple(banned), tuple(sorted({*banned, *blank}))
