"""rec.impressions against a plain definition: which rows of a log are used, and where they lie."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.cleaning import KEPT, Rejects, clean_items, judge_ratings, require_good, unreadable
from rec.config import Impressions, Tabular
from rec.datasets import Source, read
from rec.errors import RecError
from rec.impressions import (
    ROW,
    check_impressions,
    shown_items,
    split_shown,
)
from tests.prepared import DATA, FAULTS, Fault

ITEMS = pl.DataFrame({"item": ["a", "b", "c", "d"]})
SHOP = replace(DATA, tabular=Tabular(impressions=Impressions(file="log")))
RAW = dict.fromkeys(("list", "user", "item"), pl.String) | {
    "place": pl.String,
    "label": pl.String,
    "timestamp": pl.String,
    "file": pl.String,
    "row": pl.Int64,
}
CHECKED = {
    "list": "VARCHAR",
    "user": "VARCHAR",
    "item_code": "UINTEGER",
    "place": "DOUBLE",
    "label": "FLOAT",
    "positive": "TINYINT",
    "timestamp": "BIGINT",
    "file": "VARCHAR",
    "row": "BIGINT",
    "fault": "VARCHAR",
}


class Line(NamedTuple):
    """A row of an impressions log, as a reader leaves it."""

    list: str | None = "s1"
    user: str | None = "u"
    item: str | None = "a"
    place: Any = 1
    label: Any = 0
    timestamp: Any = 100


class Checked(NamedTuple):
    """What `check_impressions` leaves."""

    rows: pl.DataFrame  # sorted by file and row
    read: int
    rejects: Rejects


def raw_of(lines: Sequence[Line]) -> pl.DataFrame:
    """Lines of one file, numbered from 1."""
    rows = [
        (*line[:3], *(None if cell is None else str(cell) for cell in line[3:]), "log", number)
        for number, line in enumerate(lines, 1)
    ]
    return pl.DataFrame(rows, schema=RAW, orient="row")


def fill(connection: duckdb.DuckDBPyConnection, raw: pl.DataFrame, faults: Sequence[Fault]) -> None:
    """Leave what a reader and the policy for ratings leave."""
    frames = {
        "raw_impressions": raw,
        "raw_faults": pl.DataFrame(list(faults), schema=FAULTS, orient="row"),
        "coded_items": ITEMS.with_row_index("item_code"),
    }
    for name, frame in frames.items():
        connection.register("arrow", frame.to_arrow())
        connection.execute(f"CREATE TABLE {name} AS FROM arrow")
        connection.unregister("arrow")


def checked(
    lines: Sequence[Line] | pl.DataFrame,
    faults: Sequence[Fault] = (),
    positive: float = 4.0,
    labels: str = "clicks",
) -> Checked:
    raw = lines if isinstance(lines, pl.DataFrame) else raw_of(lines)
    rejects = Rejects()
    with duckdb.connect() as connection:
        fill(connection, raw, faults)
        unreadable(connection, rejects)
        tabular = Tabular(impressions=Impressions(file="log", labels=labels))
        data = replace(SHOP, positive_rating=positive, tabular=tabular)
        read = check_impressions(connection, data, rejects)
        described = connection.sql("DESCRIBE checked_impressions").fetchall()
        assert {name: kind for name, kind, *_ in described} == CHECKED
        rows = connection.sql("FROM checked_impressions").pl().sort("file", "row")
    return Checked(rows, read, rejects)


# Rows


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (Line(list=None), "id missing"),
        (Line(list="  "), "id missing"),
        (Line(user=""), "id missing"),
        (Line(item=None), "id missing"),
        (Line(item="unknown"), "item without metadata"),
        (Line(label=None), "label missing or not a number"),
        (Line(label="yes"), "label missing or not a number"),
        (Line(label="nan"), "label missing or not a number"),
        (Line(label="inf"), "label missing or not a number"),
        (Line(label="2"), "label out of range"),
        (Line(place="top"), "position not a number"),
        (Line(timestamp=None), "timestamp missing or not a number"),
        (Line(timestamp="soon"), "timestamp missing or not a number"),
        (Line(timestamp=0), "timestamp impossible"),
        (Line(timestamp=4_102_444_801), "timestamp impossible"),
        (Line(user="v"), "list of several users"),
    ],
)
def test_each_reason_at_its_row(line: Line, reason: str) -> None:
    shared = reason == "list of several users"
    found = checked([Line(), line])
    assert found.read == 2
    assert found.rejects.of("impressions") == {reason: 2 if shared else 1}
    assert found.rows["fault"].to_list() == [reason if shared else None, reason]
    shown = found.rejects.table().rows()[-1]
    assert shown[:4] == ("impressions", reason, "log", 2)
    for cell in line:
        assert cell is None or str(cell) in shown[4]


def test_what_can_be_read() -> None:
    lines = [
        Line(" s1 ", " u", "b ", None, "1.0", "12.0"),
        Line("s1", "u", "d", 3, "0", "1.2e1"),
    ]
    assert checked(lines).rows.rows() == [
        ("s1", "u", 1, None, 1.0, 1, 12, "log", 1, None),
        ("s1", "u", 3, 3, 0.0, 0, 12, "log", 2, None),
    ]


@pytest.mark.parametrize(
    ("meaning", "labels", "positive"),
    [
        ("clicks", ["0", "1", "1.0"], [0, 1, 1]),
        ("clicks", ["0", "1", "2"], [0, 1, None]),
        ("clicks", ["1", "?", "nan"], [1, None, None]),
        ("ratings", ["0", "1", "4.1"], [0, 0, 1]),
        ("ratings", ["4.0999", "4.1", "5"], [0, 1, 1]),
        ("ratings", ["0.5", "5.5", "-1"], [None, None, None]),
    ],
)
def test_labels_are_clicks_or_ratings(
    meaning: str, labels: list[str], positive: list[int | None]
) -> None:
    lines = [Line(label=label) for label in labels]
    found = checked(lines, positive=4.1, labels=meaning).rows
    used = found.with_columns(pl.when(pl.col("fault").is_null()).then("positive").alias("positive"))
    assert used["positive"].to_list() == positive


def test_rows_that_the_reader_could_not_read_are_counted() -> None:
    faults: list[Fault] = [
        ("impressions", "unparseable", "log", 9, "x"),
        ("ratings", "unparseable", "ratings", 9, "x"),
    ]
    found = checked([Line()], faults)
    assert found.read == 2
    assert found.rejects.of("impressions") == {"unparseable": 1}


def test_first_rows_of_each_reason_are_kept() -> None:
    lines = [Line(item="unknown")] * 25 + [Line(label="x")] * 25
    table = checked(lines).rejects.table()
    assert table.filter(reason="item without metadata")["row"].to_list() == [*range(1, KEPT + 1)]
    assert table.filter(reason="label missing or not a number")["row"].to_list() == [
        *range(26, 26 + KEPT)
    ]


@pytest.mark.parametrize(("bad", "fails"), [(0, False), (4, False), (5, True)])
def test_too_many_faults_are_an_error(bad: int, fails: bool) -> None:
    found = checked([Line()] * 4 + [Line(label="x")] * bad)
    if not fails:
        require_good(SHOP, found.rejects, "impressions", found.read)  # bad_rows is one half
        return
    with pytest.raises(RecError, match=r"5 of 9 impressions are faulty \(label missing .* 5\)"):
        require_good(SHOP, found.rejects, "impressions", found.read)


def test_no_impressions_are_an_error() -> None:
    with pytest.raises(RecError, match="the files hold no impressions"):
        require_good(SHOP, Rejects(), "impressions", 0)


LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(["s1", "s2", " s2", "s3", "", None]),
        st.sampled_from(["u", "v", "u", "v ", "", None]),
        st.sampled_from(["a", "b", "c", "a", "x", " ", None]),
        st.sampled_from([None, 0, 0.5, 2**40, "top"]),
        st.sampled_from(["0", "1", "0", "1", "3.5", "nan", "-inf", "x", None]),
        st.sampled_from(["1", "7", "7.9", "0", "-4", "9e9", "x", None]),
    ),
    max_size=12,
)


def text(value: str | None) -> str | None:
    return (value or "").strip() or None


def number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def fault(line: Line, lines: Sequence[Line], meaning: str) -> str | None:
    """Why a line is not used: the policy in plain words."""
    name, user, item = map(text, line[:3])
    if name is None or user is None or item is None:
        return "id missing"
    if item not in ITEMS["item"]:
        return "item without metadata"
    label, time = number(line.label), number(line.timestamp)
    if label is None or not math.isfinite(label):
        return "label missing or not a number"
    if label not in (0, 1) if meaning == "clicks" else label != 0 and not 1 <= label <= 5:
        return "label out of range"
    if line.place == "top":
        return "position not a number"
    if time is None:
        return "timestamp missing or not a number"
    if not 1 <= round(time) <= 4_102_444_800:
        return "timestamp impossible"
    users = {text(other.user) for other in lines if text(other.list) == name} - {None}
    return "list of several users" if len(users) > 1 else None


@settings(max_examples=60)
@given(LINES, st.sampled_from(["clicks", "ratings"]))
def test_faults_are_those_of_the_policy(lines: list[Line], meaning: str) -> None:
    found = checked(lines, labels=meaning)
    reasons = [fault(line, lines, meaning) for line in lines]
    assert found.rows["fault"].to_list() == reasons
    assert found.read == len(lines)
    assert found.rejects.of("impressions") == Counter(filter(None, reasons))
    least = 1 if meaning == "clicks" else 4
    for line, positive, why in zip(lines, found.rows["positive"], reasons, strict=True):
        assert why or positive == (float(line.label) >= least)


def test_a_log_from_its_file_to_its_rows(tmp_path: Path) -> None:
    """Through the reader and the policy for ratings, whose interactions are the clicks."""
    lines = [
        '{"list": 1, "user": 7, "item": "b", "position": 2, "clicked": true, "timestamp": 20}',
        '{"list": 1, "user": 7, "item": "a", "position": 1, "clicked": false, "timestamp": 20}',
        '{"list": 2, "user": 7, "item": "a", "position": 1, "clicked": true, "timestamp": 30}',
        '{"list": 2, "user": 7}',
        "?",
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    tabular = Tabular(title="", impressions=Impressions(file="log.jsonl"))
    data = replace(DATA, reader="tabular", path=str(tmp_path), tabular=tabular)
    rejects = Rejects()
    with duckdb.connect() as connection:
        read(Source(tmp_path, tmp_path / "work", data, connection))
        unreadable(connection, rejects)
        judge_ratings(connection, data, clean_items(connection, rejects))
        assert check_impressions(connection, data, rejects) == 5
        query = "FROM checked_impressions ORDER BY file, row"
        rows = connection.sql(query).fetchall()
    assert rows == [
        ("1", "7", 1, 2, 1.0, 1, 20, "log.jsonl", 1, None),
        ("1", "7", 0, 1, 0.0, 0, 20, "log.jsonl", 2, None),
        ("2", "7", 0, 1, 1.0, 1, 30, "log.jsonl", 3, None),
        ("2", "7", None, None, None, None, None, "log.jsonl", 4, "id missing"),
    ]
    assert rejects.of("impressions") == {"id missing": 1, "unparseable": 1}


# Ranges


def test_rows_lie_by_ranges_of_users(tmp_path: Path) -> None:
    lines = [
        Line("s1", "u3", "b", 2, 1, 9),
        Line("s2", "u1", "c", None, 0, 8),
        Line("s3", "nobody", "a"),
        Line("s1", "u3", "unknown"),
        Line("s4", "u4", "d", 1, 0, 7),
    ]
    users = pl.Series(["u0", "u1", "u2", "u3", "u4", "u5"])
    with duckdb.connect() as connection:
        fill(connection, raw_of(lines), [])
        check_impressions(connection, SHOP, Rejects())
        shown = split_shown(connection, users, [0, 1, 3, 6], tmp_path / "it's")
        assert shown.unknown == 1
        assert shown_items(connection, 4).tolist() == [True, True, True, True]
        assert shown_items(connection, 5).tolist() == [True, True, True, True, False]
    assert [shown.rows(number).sort("row").rows() for number in range(3)] == [
        [],
        [(0, "s2", 2, None, 0, 8, "log", 2)],
        [(0, "s1", 1, 2, 1, 9, "log", 1), (1, "s4", 3, 1, 0, 7, "log", 5)],
    ]
    for number in range(3):
        assert dict(shown.rows(number).schema) == ROW


def test_without_rows_there_are_empty_ranges(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        fill(connection, raw_of([]), [])
        assert check_impressions(connection, SHOP, Rejects()) == 0
        shown = split_shown(connection, pl.Series(["u"]), [0, 1], tmp_path / "ranges")
        assert not shown_items(connection, 2).any()
    assert shown.rows(0).equals(pl.DataFrame(schema=ROW))
