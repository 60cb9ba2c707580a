"""A batch of preference pairs as one sequence in which what the two sides share stands once.

TRL's batch holds a pair as two padded rows, so that the prompt is computed twice. Here a pair is a
segment [shared | rest of chosen | rest of rejected], the pairs follow each other without padding,
and the places of the tokens are those of the two rows. `rec.align.attention` lets each token see
its own row alone, so that every token has the hidden state that it has in its row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNSCORED = -100  # label of a token whose log-probability is not asked for


@dataclass(frozen=True)
class Segment:
    """A pair's place in the packed sequence."""

    start: int
    shared: int  # tokens with which both rows begin: the prompt, and where the responses agree
    chosen: int  # further tokens of the chosen row
    rejected: int  # further tokens of the rejected row

    @property
    def length(self) -> int:
        """Tokens of the segment."""
        return self.shared + self.chosen + self.rejected

    def place(self, column: int, of_rejected: bool) -> int:
        """Where the packed sequence holds the token in `column` of one of the pair's rows."""
        skipped = self.chosen if of_rejected and column >= self.shared else 0
        return self.start + column + skipped


@dataclass(frozen=True)
class Packing:
    """A packed batch of B pairs whose rows had L columns: T tokens, n of them to be predicted."""

    input_ids: Tensor  # [1, T]
    position_ids: Tensor  # [1, T]
    segments: tuple[Segment, ...]
    scored: Tensor  # [n] in T: the token after which a label stands
    labels: Tensor  # [n] the label
    places: Tensor  # [2B, L - 1] in n: the label of column + 1; n where that is none

    def unpack(self, values: Tensor) -> Tensor:
        """Values [n] of the labels as [2B, L - 1], 0 where there is no label."""
        return torch.cat([values, values.new_zeros(1)])[self.places]


def pack(input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Packing:
    """Pack TRL's batch: three tensors [2B, L], the chosen rows first, padded on the right."""
    lengths = attention_mask.sum(1).tolist()
    pairs = len(lengths) // 2
    segments: list[Segment] = []
    tokens: list[Tensor] = []
    positions: list[Tensor] = []
    scored: list[int] = []
    wanted: list[Tensor] = []
    places = torch.full((2 * pairs, input_ids.shape[1] - 1), UNSCORED)
    start = 0
    for pair in range(pairs):
        rows = (pair, pairs + pair)
        segment = _segment(start, *(input_ids[row, : lengths[row]] for row in rows))
        segments.append(segment)
        start += segment.length
        tokens += [
            input_ids[rows[0], : lengths[rows[0]]],
            input_ids[rows[1], segment.shared : lengths[rows[1]]],
        ]
        positions += [
            torch.arange(lengths[rows[0]]),
            torch.arange(segment.shared, lengths[rows[1]]),
        ]
        for row in rows:
            columns = (labels[row, 1:] != UNSCORED).nonzero()[:, 0]
            places[row, columns.cpu()] = torch.arange(len(columns)) + len(scored)
            scored += [segment.place(c, row >= pairs) for c in columns.tolist()]
            wanted.append(labels[row, columns + 1])
    device = input_ids.device
    return Packing(
        input_ids=torch.cat(tokens)[None],
        position_ids=torch.cat(positions)[None].to(device),
        segments=tuple(segments),
        scored=torch.tensor(scored, dtype=torch.long).to(device),
        labels=torch.cat(wanted),
        places=places.masked_fill(places == UNSCORED, len(scored)).to(device),
    )


def _segment(start: int, chosen: Tensor, rejected: Tensor) -> Segment:
    both = min(len(chosen), len(rejected))
    equal = (chosen[:both] == rejected[:both]).long().cumprod(0)
    shared = int(equal.sum())
    return Segment(start, shared, len(chosen) - shared, len(rejected) - shared)
