"""Records as a table, as JSON and as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rec.cli import output
from rec.cli.output import Column, Form, print_records, say, stream_text

RECORDS: list[dict[str, Any]] = [
    {"user": "u1", "title": "Heat (1995)", "margin": 0.25, "more": [1, 2]},
    {"user": "u2", "title": "千と千尋", "margin": None, "more": []},
    {"user": "u3", "title": "[red]x[/red] \x1b[31my\nz", "margin": 12.0, "more": [3]},
]
COLUMNS = (
    Column("user", "user"),
    Column("margin", "margin", "{:.2f}".format, right=True),
    Column("title", "title"),
)


def test_a_plain_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_records(RECORDS, COLUMNS, "table", title="Pairs\x1b", notes=["3 of 9"])
    assert capsys.readouterr().out.splitlines() == [
        "Pairs",
        "user  margin  title",
        "u1      0.25  Heat (1995)",
        "u2         -  千と千尋",
        "u3     12.00  [red]x[/red] [31my z",
        "3 of 9",
    ]


def test_wide_characters_take_two_places(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("title", "title"), Column("user", "user"))
    print_records(RECORDS[:2], columns, "table")
    assert capsys.readouterr().out.splitlines() == [
        "title        user",
        "Heat (1995)  u1",
        "千と千尋     u2",
    ]


def test_totals_stand_last(capsys: pytest.CaptureFixture[str]) -> None:
    print_records(RECORDS[:1], COLUMNS, "table", total={"user": "all", "margin": 100.0})
    assert capsys.readouterr().out.splitlines()[-1] == "all   100.00"


def test_on_a_terminal_nothing_is_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    print_records(RECORDS, COLUMNS, "table", total={"user": "all"}, notes=[":smile: [bold]n"])
    out = capsys.readouterr().out
    assert "─" in out and "[red]x[/red] [31my z" in out and ":smile: [bold]n" in out
    assert "\x1b" not in out  # no colours: the file that is written to is no terminal


@pytest.mark.parametrize("columns", ["40", "0"])
def test_a_narrow_terminal_shows_record_below_record(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    record = {"user": "u1", "margin": 0.25, "title": "Heat " * 9, "text": "one " * 20}
    shown = (*COLUMNS, Column("text", "text", cut=40))
    print_records([record], shown, "table", total={"user": "all"}, notes=["1 of 1"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == ["user    u1", "margin  0.25", "title   Heat Heat Heat Heat Heat Heat"]
    assert lines[4].startswith("text    one one") and lines[4].endswith("…")
    assert lines[5:] == ["", "user    all", "", "1 of 1"]


def test_numbers_are_whole_where_text_folds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "54")
    rows = [{"user": "a-user-1", "margin": 0.12345, "title": "Heat " * 9}]
    print_records(rows, (*COLUMNS, Column("margin", "raw")), "table")
    out = capsys.readouterr().out
    assert "─" in out and "a-user-1" in out and "0.12 " in out and "0.12345" in out


@pytest.mark.parametrize(("term", "terminal"), [("xterm", True), ("", True), ("dumb", False)])
def test_a_terminal_without_colours_is_as_a_file(
    term: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("TERM", term)
    assert output.is_terminal() == terminal


def test_without_rich_tables_are_plain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    print_records(RECORDS[:1], COLUMNS, "table")
    lines = ["user  margin  title", "u1      0.25  Heat (1995)"]
    assert capsys.readouterr().out.splitlines() == lines


def test_json_is_one_document_of_whole_records(capsys: pytest.CaptureFixture[str]) -> None:
    print_records(RECORDS, COLUMNS, "json", title="Pairs", notes=["3 of 9"])
    assert json.loads(capsys.readouterr().out) == RECORDS
    print_records(RECORDS, COLUMNS, "json", document={"pairs": RECORDS})
    assert json.loads(capsys.readouterr().out) == {"pairs": RECORDS}


def test_json_lines_are_written_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    def records() -> Iterator[dict[str, Any]]:
        for number, record in enumerate(RECORDS):
            yield record
            assert len(capsys.readouterr().out.splitlines()) == 1, number

    print_records(records(), COLUMNS, "jsonl")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_records(RECORDS, COLUMNS, "jsonl", title="Pairs", notes=["3 of 9"])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "千" in out
    assert [json.loads(line) for line in out.splitlines()] == RECORDS


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_values_that_json_lacks(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    record = {"score": float("nan"), "most": [float("inf")], "path": Path("a/b"), "when": when}
    print_records([record], (), form)
    shown = json.loads(capsys.readouterr().out)
    expected = {"score": None, "most": [None], "path": "a/b", "when": "2026-01-02T00:00:00+00:00"}
    assert shown == ([expected] if form == "json" else expected)
    with pytest.raises(TypeError):
        print_records([{"x": object()}], (), form)


def test_nothing_is_a_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_records([], COLUMNS, "table")
    assert capsys.readouterr().out == "user  margin  title\n"
    print_records([], COLUMNS, "json")
    assert json.loads(capsys.readouterr().out) == []
    print_records([], COLUMNS, "jsonl")
    assert capsys.readouterr().out == ""


def test_how_values_read(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"a": True, "b": False, "c": None, "d": ["x", None], "e": 3}
    print_records([record], [Column(key, key) for key in record], "table")
    assert capsys.readouterr().out.splitlines()[1].split() == ["yes", "no", "-", "x,", "-", "3"]


def test_streamed_text_is_whole_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    def pieces() -> Iterator[str]:
        yield "Loved: Heat\x1b[2J"
        assert capsys.readouterr().out == "Loved: Heat[2J"
        yield "\nDisliked:"

    assert stream_text(pieces()) == "Loved: Heat\x1b[2J\nDisliked:"
    assert capsys.readouterr().out == "\nDisliked:\n"


def test_remarks_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("Toy Story → Toy Story (1995)\n\x07")
    assert capsys.readouterr() == ("", "Toy Story → Toy Story (1995)\n")
