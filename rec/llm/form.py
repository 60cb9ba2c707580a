"""The form of a response, held by the sampler: which tokens are given and which the LLM chooses.

A card is filled slot by slot: the label's tokens are put into the sequence, then the LLM writes
until the end of the line or the slot's limit. Free text is one slot without a label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rec.llm.model import Model
from rec.prompts import Slot

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


def card(model: Model, slots: tuple[Slot, ...], slot_tokens: int) -> Form:
    """A card of lines; a slot of titles may take `slot_tokens` tokens, another one half of that."""
    (newline,) = model.tokenize("\n")
    tokens = tuple(
        TokenSlot(
            tuple(model.tokenize(slot.label)), slot_tokens if slot.titles else -(-slot_tokens // 2)
        )
        for slot in slots
    )
    return Form(tokens, newline, *_banned(model, newline, line=True))


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
        and (not piece or model.is_control(token) or (line and _BREAK.search(piece)))
    ]
    blank = [
        token
        for token, piece in pieces
        if token == end or not piece.decode(errors="replace").strip()
    ]
    return tuple(banned), tuple(sorted({*banned, *blank}))
