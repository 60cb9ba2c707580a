"""rec.health: loops, and the health of a table of responses."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.health import loops, sampling_health
from rec.tables import RESPONSES

BLOCKS = st.lists(st.integers(0, 50), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], False),
        ([1], False),
        ([5] * 7, False),
        ([5] * 8, True),
        ([1, 2, 3] * 2, False),
        ([1, 2, 3] * 3, True),
        ([*([1, 2, 3] * 2), 1, 2], True),  # the last one lacks its comma
        ([*([1, 2, 3] * 2), 1], False),
        ([9, 8, *([1, 2] * 4), 7], True),
        ([9, 8, *([1, 2] * 3), 7], False),  # six tokens
        (list(range(100)), False),
        ([*range(30)] * 3, True),
        ([*range(41)] * 3, False),  # a block of more than 40 tokens is a repeated text
    ],
)
def test_loops(ids: list[int], expected: bool) -> None:
    assert loops(ids) is expected


@given(BLOCKS, st.lists(st.integers(51, 99), unique=True), st.lists(st.integers(51, 99)))
def test_a_repeated_block_is_found_anywhere(
    block: list[int], before: list[int], after: list[int]
) -> None:
    times = max(3, -(-8 // len(block)))
    assert loops([*before, *(block * times), *after])


@given(st.lists(st.integers(0, 3), max_size=60))
def test_loops_by_the_definition(ids: list[int]) -> None:
    def covered(start: int, block: int) -> int:
        stop = start + block
        while stop < len(ids) and ids[stop] == ids[stop - block]:
            stop += 1
        return stop - start

    spans = [
        (block, covered(start, block))
        for start in range(len(ids))
        for block in range(1, min(40, len(ids) - start) + 1)
    ]
    assert loops(ids) == any(span >= 8 and span >= 3 * block - 1 for block, span in spans)


def test_health_by_hand() -> None:
    rows = [
        ("user:a", 0, "x", [1, 2, 3], 9, 3, "stop", 2, 0, False, 1),
        ("user:a", 1, "x", [1, 2, 3], 9, 3, "stop", 1, 1, False, 2),
        ("user:a", 2, "", [4], 9, 1, "length", 1, 0, False, 3),
        ("user:b", 0, "x", [1, 2, 3, 4], 8, 4, "stop", 0, 0, True, 4),
        ("user:b", 1, "y", [5, 6], 8, 2, "stop", 0, 0, False, 5),
        ("user:b", 2, "y", [5, 6], 8, 2, "stop", 2, 0, True, 6),
    ]
    table = pl.DataFrame(rows, schema=dict(RESPONSES), orient="row")
    assert sampling_health(table) == {
        "responses": 6,
        "users": 2,
        "mean_tokens": 2.5,
        "cut_off": 0.1667,
        "looping": 0.3333,
        "empty": 0.3333,
        "cut_slots": 1.0,
        "repeated": 2,
    }
