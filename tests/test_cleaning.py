"""rec.cleaning: each reason at its row, counted and shown; no row is lost in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.cleaning import KEPT, Rejects, clean_items, judge_ratings, unreadable, usable_text
from rec.database import connect
from rec.errors import RecError
from rec.ranges import build_ranges
from rec.tables import ITEMS, check_schema
from tests.prepared import (
    DATA,
    FILMS,
    Fault,
    Item,
    Row,
    fill,
    items_of,
    prepare_rows,
    ratings_of,
    regular,
)

GOOD = regular()
FIRST = len(GOOD) + 1  # row of what is added to them


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((None, "i00", 4, 10), "id missing"),
        (("", "i00", 4, 10), "id missing"),
        (("  ", "i00", 4, 10), "id missing"),
        (("new", None, 4, 10), "id missing"),
        (("new", "", 4, 10), "id missing"),
        (("new", "unknown", 4, 10), "item without metadata"),
        (("new", "untitled", 4, 10), "item without metadata"),
        (("new", "i00", None, 10), "rating missing or not a number"),
        (("new", "i00", "good", 10), "rating missing or not a number"),
        (("new", "i00", "nan", 10), "rating missing or not a number"),
        (("new", "i00", "inf", 10), "rating out of range"),
        (("new", "i00", 0.99, 10), "rating out of range"),
        (("new", "i00", 5.5, 10), "rating out of range"),
        (("new", "i00", -1, 10), "rating out of range"),
        (("new", "i00", 4, None), "timestamp missing or not a number"),
        (("new", "i00", 4, "yesterday"), "timestamp missing or not a number"),
        (("new", "i00", 4, "nan"), "timestamp missing or not a number"),
        (("new", "i00", 4, -5), "timestamp impossible"),
        (("new", "i00", 4, 0), "timestamp impossible"),
        (("new", "i00", 4, 978300760000), "timestamp impossible"),
        (("u0", "i00", 5.0, 1), "exact duplicate"),
        (("u0", "i00", 1, 2), "repeated user and item"),
        ((" u0 ", "i00 ", 1, 2), "repeated user and item"),
    ],
)
def test_each_reason_at_its_row(row: Row, reason: str) -> None:
    items = pl.concat([FILMS, items_of(("untitled", "<br/>", None))])
    result = prepare_rows([*GOOD, row], items)
    assert result.summary["ratings"] == FIRST
    assert result.summary["dropped"]["ratings"] == {reason: 1}
    shown = result.rejects.filter(pl.col("relation") == "ratings")
    # The earlier row of an exact duplicate, or of a pair rated again, is the one that goes.
    earlier = reason in ("exact duplicate", "repeated user and item")
    assert shown.drop("value").rows() == [("ratings", reason, "ratings", 1 if earlier else FIRST)]
    for cell in row:
        if cell is not None and not earlier:
            assert str(cell) in shown["value"].item()


@pytest.mark.parametrize(
    "row",
    [
        (" new ", "i00", "4.5", "10"),
        ("new", " i00", 1, "10.0"),
        ("new", "i00", 5, "8.8125e8"),
        ("new", "i00", 5, 4_102_444_800),
    ],
)
def test_what_can_be_read_is_kept(row: Row) -> None:
    result = prepare_rows([*GOOD, row], FILMS)
    assert result.summary["dropped"]["ratings"] == {}


def test_rows_that_the_reader_could_not_read_are_counted() -> None:
    faults: list[Fault] = [
        ("ratings", "unparseable", "ratings", 900, "rubbish"),
        ("ratings", "wrong encoding", "ratings", 800, "\ufffd" * 300),
        ("ratings", "unparseable", "ratings", 700, "more rubbish"),
        ("items", "unparseable", "items", 30, "x"),
    ]
    result = prepare_rows(GOOD, FILMS, faults=faults)
    assert result.summary["ratings"] == len(GOOD) + 3
    assert result.summary["dropped"]["ratings"] == {"unparseable": 2, "wrong encoding": 1}
    assert result.summary["dropped"]["items"] == {"unparseable": 1}
    assert result.rejects.rows() == [
        ("items", "unparseable", "items", 30, "x"),
        ("ratings", "unparseable", "ratings", 700, "more rubbish"),
        ("ratings", "unparseable", "ratings", 900, "rubbish"),
        ("ratings", "wrong encoding", "ratings", 800, "\ufffd" * 200),
    ]


def test_first_rows_of_each_reason_are_shown() -> None:
    bad: list[Row] = [("u0", "i00", 9, 5)] * 25
    rejects = prepare_rows([*bad, *GOOD], FILMS).rejects
    assert rejects["row"].to_list() == list(range(1, KEPT + 1))


@pytest.mark.parametrize(("bad", "fails"), [(480, False), (481, True)])
def test_share_of_faults_above_bad_rows_is_an_error(bad: int, fails: bool) -> None:
    rows: list[Row] = [*GOOD, *[("u0", "i00", 9, 5)] * bad]
    if not fails:
        assert prepare_rows(rows, FILMS).summary["dropped"]["ratings"] == {
            "rating out of range": bad
        }
        return
    with pytest.raises(RecError, match=r"481 of 961 .*range 481.*data\.bad_rows.* 0\.5") as caught:
        prepare_rows(rows, FILMS)
    assert "\n" not in str(caught.value)


def test_unreadable_rows_count_as_faults_and_repeated_pairs_do_not() -> None:
    faults: list[Fault] = [("ratings", "unparseable", "ratings", 999, "x")]
    strict = replace(DATA, bad_rows=0.0)
    with pytest.raises(RecError, match=r"1 of 481 ratings are faulty \(unparseable 1\)"):
        prepare_rows(GOOD, FILMS, data=strict, faults=faults)
    again: list[Row] = [*GOOD, ("u0", "i00", 2, 7)]
    result = prepare_rows(again, FILMS, data=strict)
    assert result.summary["dropped"]["ratings"] == {"repeated user and item": 1}


@pytest.mark.parametrize("rows", [[], [("a", "i00", 9, 1)], [("a", "no", 4, 1)]])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_left_is_an_error(rows: list[Row], share: float) -> None:
    for items in (FILMS, items_of()):
        number = len(rows)
        told = rf"{number} of {number} ratings are faulty" if rows else "the files hold no ratings"
        with pytest.raises(RecError, match=f"test: {told}"):
            prepare_rows(rows, items, data=replace(DATA, bad_rows=share))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story", "Toy Story"),
        ("I <3 You", "I <3 You"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("<b>Bold</b> film", "Bold film"),
        ("<!-- note --> Film", "Film"),
        ('Film <span class="a-size-medium', "Film"),
        ('<span class="a-size-medium', None),
        ("<br/>", None),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("It&#39;s &#x41; &eacute;t&eacute;", "It's A été"),
        ("a\tb\r\n c\x00d\x7f", "a b c d"),
        ("\ufffd", None),
        (" \x01 ", None),
        ("&nbsp;", None),
        ("", None),
        (None, None),
        ("七人の侍", "七人の侍"),
    ],
)
def test_usable_text(text: str | None, expected: str | None) -> None:
    table = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    assert table.select(usable_text(pl.col("text"))).item() == expected


def cleaned(rows: list[Row], items: pl.DataFrame) -> tuple[pl.DataFrame, Rejects]:
    with TemporaryDirectory() as work, connect(Path(work), "1GB", 1) as connection:
        fill(connection, ratings_of(rows), items)
        rejects = Rejects()
        return clean_items(connection, rejects), rejects


@pytest.mark.parametrize("null", [[], [(None, None, None, None)]])
def test_each_reason_of_items(null: list[Row]) -> None:
    rows: list[Row] = [("u", item, 4, 1) for item in "abcd"]
    items: list[Item] = [
        (None, "Film", None),
        ("", "Film", None),
        ("a", "<br/>", "About a"),
        ("a", "Film a", None),
        (" a ", "Film a again", None),
        ("b", None, "About &amp; b"),
        ("c", "", " "),
        ("z", "Never", None),
        ("d", "Film d", "About d"),
    ]
    kept, rejects = cleaned(rows + null, items_of(*items))
    columns = ("item", "title", "year", "categories")
    check_schema(kept, {name: ITEMS[name] for name in columns}, "items")
    assert kept.select("item", "title").rows() == [
        ("a", "Film a"),
        ("b", "About & b"),
        ("d", "Film d"),
    ]
    assert rejects.of("items") == {
        "id missing": 2,
        "repeated item": 2,
        "named by other text": 1,
        "never rated": 1,
        "title unusable": 1,
    }
    assert rejects.table().select("reason", "row").rows() == [
        ("id missing", 1),
        ("id missing", 2),
        ("named by other text", 6),
        ("repeated item", 3),
        ("repeated item", 5),
        ("title unusable", 7),
    ]


MESSY = st.lists(
    st.tuples(
        st.sampled_from([None, "", "a", " a", "b", "c", "é"]),
        st.sampled_from([None, "", "x", "x ", "y", "z", "unknown", "untitled"]),
        st.sampled_from([None, "", "nan", "?", "0", "1", "4.5", "5", "6", "1e400"]),
        st.sampled_from(
            [None, "", "?", "-1", "0", "7", "7.0", "8", "1e30", "99999999999999999999"]
        ),
    ),
    max_size=40,
)


def judged(row: Row) -> str | None:
    """The table of rec.cleaning in plain Python."""
    user, item, rating, time = (str(cell or "").strip() for cell in row)
    if not user or not item:
        return "id missing"
    if item not in "xyz":
        return "item without metadata"
    if rating in ("", "nan", "?"):
        return "rating missing or not a number"
    if not 1 <= float(rating) <= 5:
        return "rating out of range"
    if time in ("", "?") or float(time) > 2**63:
        return "timestamp missing or not a number"
    return None if 0 < float(time) < 4_102_444_800 else "timestamp impossible"


@settings(max_examples=20)
@given(MESSY, st.integers(0, 3))
def test_no_row_is_lost_in_silence(rows: list[Row], unread: int) -> None:
    rejects = Rejects()
    faults: list[Fault] = [("ratings", "unparseable", "f", number, "") for number in range(unread)]
    items = items_of("x", "y", "z", ("untitled", None, None))
    with TemporaryDirectory() as work, connect(Path(work), "1GB", 1) as connection:
        fill(connection, ratings_of(rows), items, faults)
        unreadable(connection, rejects)
        judge_ratings(connection, DATA, clean_items(connection, rejects))
        ranges, read = build_ranges(connection, DATA, Path(work) / "ranges", rejects)
        kept = [ranges.pairs(number).filter("usable") for number in range(len(ranges))]
    assert read == len(rows)
    assert sum(map(len, kept)) + sum(rejects.of("ratings").values()) == read + unread
    expected = Counter(reason for row in rows if (reason := judged(row)))
    expected["unparseable"] = unread
    repeated = ("exact duplicate", "repeated user and item")
    found = {why: n for why, n in rejects.of("ratings").items() if why not in repeated}
    assert found == +expected
