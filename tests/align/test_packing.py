"""rec.align.packing: the packed sequence holds each row, and each label its place."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rec.align.attention import Layout
from rec.align.packing import UNSCORED, Packing, Segment, pack

Rows = list[list[int]]
tokens = st.lists(st.integers(0, 3), min_size=1, max_size=12)
pairs = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=4)


def batch(rows: Rows) -> tuple[Tensor, Tensor]:
    """Rows padded on the right, and their attention mask."""
    longest = max(map(len, rows)) + 1
    ids = [[*row, *[9] * (longest - len(row))] for row in rows]
    mask = [[*[1] * len(row), *[0] * (longest - len(row))] for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def packed(found: list[tuple[list[int], list[int]]], labels: Tensor | None = None) -> Packing:
    rows = [chosen for chosen, _ in found] + [rejected for _, rejected in found]
    ids, mask = batch(rows)
    return pack(ids, mask, ids.masked_fill(mask == 0, UNSCORED) if labels is None else labels)


def test_by_hand() -> None:
    """Two rows 1 2 3 and 1 2 4 5: the shared 1 2, then 3, then 4 5."""
    packing = packed([([1, 2, 3], [1, 2, 4, 5])])
    assert packing.input_ids.tolist() == [[1, 2, 3, 4, 5]]
    assert packing.position_ids.tolist() == [[0, 1, 2, 2, 3]]
    assert packing.segments == (Segment(0, 2, 1, 2),)
    assert packing.labels.tolist() == [2, 3, 2, 4, 5]
    assert packing.scored.tolist() == [0, 1, 0, 1, 3]
    assert packing.unpack(packing.labels).tolist() == [[2, 3, 0, 0], [2, 4, 5, 0]]


@given(pairs)
def test_every_row_can_be_read_back(found: list[tuple[list[int], list[int]]]) -> None:
    packing = packed(found)
    ids, positions = packing.input_ids[0], packing.position_ids[0]
    for (chosen, rejected), segment in zip(found, packing.segments, strict=True):
        for row, of_rejected in ((chosen, False), (rejected, True)):
            places = [segment.place(column, of_rejected) for column in range(len(row))]
            assert ids[places].tolist() == row
            assert positions[places].tolist() == list(range(len(row)))
    assert len(ids) == sum(segment.length for segment in packing.segments)


@given(pairs, st.randoms())
def test_labels_come_back_to_their_columns(
    found: list[tuple[list[int], list[int]]], random: object
) -> None:
    rows = [chosen for chosen, _ in found] + [rejected for _, rejected in found]
    ids, mask = batch(rows)
    chosen = torch.rand(ids.shape) < 0.5
    labels = ids.masked_fill((mask == 0) | chosen, UNSCORED)
    packing = pack(ids, mask, labels)
    expected = labels[:, 1:].masked_fill(labels[:, 1:] == UNSCORED, 0)
    assert torch.equal(packing.unpack(packing.labels), expected)
    before = packing.unpack(packing.input_ids[0, packing.scored])
    assert torch.equal(before, ids[:, :-1].masked_fill(labels[:, 1:] == UNSCORED, 0))


@given(pairs)
def test_a_token_sees_its_own_row_up_to_itself(found: list[tuple[list[int], list[int]]]) -> None:
    packing = packed(found)
    layout = Layout(packing.segments)
    for segment, blocks in zip(packing.segments, layout.biases(torch.float32), strict=True):
        visible = torch.zeros(segment.length, segment.length, dtype=torch.bool)
        for block, bias in blocks:
            visible[block.first : block.last, : block.width] = bias == 0
        expected = torch.zeros_like(visible)
        for of_rejected in (False, True):
            length = segment.shared + (segment.rejected if of_rejected else segment.chosen)
            places = [segment.place(c, of_rejected) - segment.start for c in range(length)]
            for column, place in enumerate(places):
                expected[place, places[: column + 1]] = True
        assert torch.equal(visible, expected)
