"""Responses in flight as tensors, a row each: what the form gives next, and what the LLM chose.

The state of a row is its slot and its place in the slot. What is given in a slot, the end of the
one before it and its label, stands in a table; a step is a lookup for all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rec.llm.form import Form
from rec.llm.hf.sampler import draw, penalise, uniform_numbers
from rec.llm.sampler import PENALTY_WINDOW, SamplerSettings


class FormTable:
    """A form of S slots as tensors. Slot S is that of a finished response, which is given ends."""

    def __init__(self, form: Form, tokens: int, device: torch.device) -> None:
        self.longest = form.longest
        self.label = form.slots[0].label
        self.end = form.end
        self.tokens = tokens
        self.slots = len(form.slots)
        given = [self.label, *((form.end, *slot.label) for slot in form.slots[1:]), (form.end,)]
        width = max(1, *map(len, given))
        rows = [[*tokens, *[form.end] * (width - len(tokens))] for tokens in given]
        lengths = [*map(len, given[:-1]), torch.iinfo(torch.int64).max]
        self.given = torch.tensor(rows, device=device)
        self.given_length = torch.tensor(lengths, device=device)
        self.limit = torch.tensor([*(slot.limit for slot in form.slots), 0], device=device)
        self.bias = torch.zeros(2, tokens, device=device)
        self.bias[0, list(form.banned)] = -torch.inf
        self.bias[1, list(form.banned_first)] = -torch.inf


@dataclass
class Rows:
    """The state of each response; `token` is the last one, which the LLM has not read yet."""

    token: Tensor  # [rows]
    slot: Tensor  # [rows]
    place: Tensor  # [rows], how many tokens the slot holds, with those given
    length: Tensor  # [rows], of the response
    cut_slots: Tensor  # [rows]
    written: Tensor  # [rows, longest]
    recent: Tensor  # [rows, PENALTY_WINDOW], the last tokens that the LLM chose
    uniform: Tensor  # [rows, longest], the random number for each place of the response
    pad: Tensor  # [rows], columns of the cache before the prompt

    @classmethod
    def start(cls, table: FormTable, seeds: Sequence[int], pad: Tensor) -> Rows:
        """A row for each seed, whose first label is given."""
        count, label = len(seeds), len(table.label)
        zeros = torch.zeros_like(pad)
        written = torch.full((count, table.longest), table.end, device=pad.device)
        written[:, :label] = torch.tensor(table.label, dtype=torch.int64, device=pad.device)
        recent = torch.full((count, PENALTY_WINDOW), table.tokens, device=pad.device)
        uniform = uniform_numbers(seeds, table.longest).to(pad.device)
        given = zeros + label
        return cls(zeros, zeros, given, given, zeros, written, recent, uniform, pad)

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, in order."""
        names = [field.name for field in fields(cls)]
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def select(self, index: Tensor) -> Rows:
        """The rows of `index`."""
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))

    def advance(self, table: FormTable, logits: Tensor, settings: SamplerSettings) -> None:
        """Write the next token of each response: the one that is given, or one drawn."""
        opening = table.given_length[self.slot]
        chooses = self.place >= opening
        given = table.given[self.slot, self.place.clamp(max=table.given.shape[1] - 1)]
        drawn = self._draw(table, logits, settings, first=self.place == opening)
        self.token = torch.where(chooses, drawn, given)
        ended = chooses & (self.token == table.end)
        cut = chooses & ~ended & (self.place - opening + 1 == table.limit[self.slot])
        self.written.scatter_(1, self.length[:, None], self.token[:, None])
        shifted = torch.cat([self.recent[:, 1:], self.token[:, None]], 1)
        self.recent = torch.where(chooses[:, None], shifted, self.recent)
        before, self.slot = self.slot, self.slot + (ended | cut)
        holds = (before < table.slots) & ~(ended & (self.slot == table.slots))
        self.length = self.length + holds
        self.cut_slots = self.cut_slots + cut
        self.place = torch.where(ended, 1, torch.where(cut, 0, self.place + 1))

    def _draw(
        self, table: FormTable, logits: Tensor, settings: SamplerSettings, *, first: Tensor
    ) -> Tensor:
        logits = logits + table.bias[first.long()]
        if settings.repeat_penalty != 1.0:
            logits = penalise(logits, self.recent, settings.repeat_penalty)
        return draw(logits, self.uniform.gather(1, self.length[:, None])[:, 0], settings)

    def finished(self, table: FormTable) -> list[bool]:
        """Whether each response has filled its last slot."""
        return (self.slot == table.slots).tolist()

    def responses(self, index: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """The responses in the rows of `index`: how many slots were cut, and the tokens."""
        if not index:
            return []
        place = torch.tensor(index, device=self.slot.device)
        columns = [self.cut_slots[:, None], self.length[:, None], self.written]
        rows = torch.cat(columns, 1)[place].tolist()
        return [(cut, tuple(tokens[:length])) for cut, length, *tokens in rows]
