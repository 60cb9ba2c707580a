"""rec pairs: which pairs it shows, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from omegaconf import OmegaConf

from rec import layout
from rec.files import write_json
from rec.tables import PAIRS, read_table, write_table
from tests.cli.example import CARDS
from tests.cli.running import on_a_terminal, rec

pytestmark = pytest.mark.usefixtures("example")


def records(*arguments: object) -> list[dict[str, Any]]:
    result = rec("pairs", *arguments, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def shown(*arguments: object) -> list[tuple[int, str]]:
    return [(record["round"], record["user"]) for record in records(*arguments)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [(1, "12"), (2, "12"), (1, "34")]),
        (["--sort", "user"], [(1, "12"), (2, "12"), (1, "34")]),
        (["--round", 1], [(1, "12"), (1, "34")]),
        (["--user", 34], [(1, "34")]),
        (["--user", 34, "--user", 12, "--round", 1], [(1, "12"), (1, "34")]),
        (["--min-margin", 0.05], [(1, "12"), (2, "12")]),
        (["--max-margin", 0.05], [(1, "34")]),
        (["--min-margin", 0.05, "--max-margin", 0.1], [(2, "12")]),
        (["--min-margin", 9], []),
        (["--held-out"], [(2, "56"), (1, "56")]),
        (["--limit", 1], [(1, "12")]),
        (["--limit", 0], [(1, "12"), (2, "12"), (1, "34")]),
    ],
)
def test_which(arguments: list[object], expected: list[tuple[int, str]]) -> None:
    assert shown(*arguments) == expected


def test_users_in_the_order_of_their_numbers() -> None:
    pair = read_table(layout.pairs(1), PAIRS)[:1]
    users = ["100", "x2", "9", "²", "0", "10", "x1", "9" * 5000]
    table = pl.concat([pair.with_columns(user=pl.lit(user)) for user in users])
    write_table(table, layout.pairs(1), PAIRS)
    order = [user for _, user in shown("--round", 1, "--sort", "user")]
    assert order == ["0", "9", "10", "100", "9" * 5000, "x1", "x2", "²"]


def test_figures_of_another_version() -> None:
    line = "Error: data/pairs/1.json: measure: None is no name; run `dvc repro pairs@1`\n"
    for figures in ({"pairs": 2}, [2]):
        write_json(layout.pairs_metrics(1), figures)
        assert rec("pairs").stderr == line


def test_the_list() -> None:
    lines = rec("pairs", "--limit", 2).stdout.splitlines()
    assert [line.split()[:5] for line in lines[:3]] == [
        ["round", "user", "margin", "chosen", "rejected"],
        ["1", "12", "0.1808", "0.6931", "0.5123"],
        ["2", "12", "0.0720", "0.6931", "0.6211"],
    ]
    assert "Loved films: Fargo; The Godfather; Chin…  Loved films: The Godfather;" in lines[1]
    note = "3 of 3 pairs, the first 2 shown (--limit 0 shows all); scores and margins are NDCG@5"
    assert lines[3] == note
    assert rec("pairs").stdout.splitlines()[-1] == "3 of 3 pairs; scores and margins are NDCG@5"


def test_whole_texts_of_a_user() -> None:
    lines = rec("pairs", "--user", 12).stdout.splitlines()
    assert lines[0] == "Round 1, user 12: margin 0.1808 NDCG@5"
    assert lines[1] == "rejected, response 0: 0.5123:"
    assert "  Favourite genres: Drama" in lines
    assert "  Favourite genres: {+Crime,+} Drama, {+Film-Noir+}" in lines
    assert "  Period: [-World War II-]" in lines and "  Period: {+1970s and 1990s+}" in lines
    assert rec("pairs", "--user", 12, "--list").stdout.startswith("round  user")
    assert rec("pairs", "--full", "--limit", 1, "--round", 1).stdout.splitlines()[:5] == lines[:5]


def test_the_prompt() -> None:
    output = rec("pairs", "--user", 34, "--prompt").stdout
    assert "user: The history of this viewer, latest first.\n" in output
    assert rec("pairs", "--prompt", "--round", 1).stdout.count("\nuser: The history of") == 2
    assert rec("pairs", "--prompt", "--list").stdout.startswith("round  user")


def test_whole_records_in_json() -> None:
    result = rec("pairs", "--user", 34, "--format", "json")
    (record,) = json.loads(result.stdout)
    assert set(record) == {"round", "held_out", "measure", *PAIRS}
    assert (record["rejected"], record["chosen"]) == CARDS["34"]
    assert (record["held_out"], record["measure"], record["margin"]) == (False, "ndcg@5", 0.0428)


def test_on_a_terminal(example: Path) -> None:
    printed = on_a_terminal("pairs", "--project", example, "--user", 12, columns=110)
    assert "\x1b[1;32m 1970s and 1990s\x1b[0m" in printed
    assert any("World War II" in line and "1970s" in line for line in printed.splitlines())


def test_a_text_cannot_command_the_terminal() -> None:
    table = read_table(layout.pairs(1), PAIRS)
    evil = table["chosen"].str.replace("Fargo", "\x1b[2J[red]\x9b", literal=True)
    write_table(table.with_columns(chosen=evil), layout.pairs(1), PAIRS)
    for form in ("table", "json", "jsonl"):
        for how in ("--full", "--list"):
            output = rec("pairs", how, "--format", form).stdout
            assert "\x1b" not in output and "\x9b" not in output
            assert "[2J[red]" in output.replace("\\u001b", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--user", 1], "user '1' has no such pair: data/tables/users.parquet has no user"),
        (["--user", 78], "user '78' has no such pair: a test user, and pairs are made of train"),
        (["--user", 56], "user '56' has no such pair: of validation: use --held-out"),
        (["--user", 12, "--held-out"], "user '12' has no such pair: a train user: leave out"),
        (["--user", 90], "user '90' has no such pair: none could be made; data/pairs/ROUND"),
        (["--round", 3], "round 3 does not exist; params.yaml has rounds 1, 2"),
    ],
)
def test_failures_are_one_line(arguments: list[object], line: str) -> None:
    result = rec("pairs", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {line}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--round", "--min-margin", "--limit", "--sort", "--format"])
def test_wrong_usage_is_one_line(option: str) -> None:
    result = rec("pairs", option, "-x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: Invalid value for '{option}': '-x' is not")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--min-margin", "nan"], "Invalid value for '--min-margin': nan is not a number."),
        (["--max-margin", "nan"], "Invalid value for '--max-margin': nan is not a number."),
        (["--min-margin", 0.2, "--max-margin", 0.1], "--min-margin 0.2 is above --max-margin 0.1."),
    ],
)
def test_margins_that_no_pair_can_have(arguments: list[object], line: str) -> None:
    result = rec("pairs", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: {line} Try 'rec pairs --help'.\n"


def test_what_is_missing_is_said_with_the_command_that_makes_it() -> None:
    layout.pairs(2).unlink()
    result = rec("pairs")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 4
    assert result.stderr == "round 2 has no pairs yet: `dvc repro pairs@2` makes them\n"
    line = "Error: data/pairs/2.parquet is missing: run `dvc repro pairs@2`\n"
    assert rec("pairs", "--round", 2).stderr == line
    layout.pairs(1).unlink()
    result = rec("pairs")
    assert result.exit_code == 1
    assert result.stderr == line.replace("2", "1")


def test_a_run_without_rounds(example: Path) -> None:
    params = OmegaConf.load("params.yaml")
    params.policies, params.rounds = ["0"], {}
    OmegaConf.save(params, example / "params.yaml")
    assert "so that there are no pairs" in rec("pairs").stderr
