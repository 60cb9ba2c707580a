"""rec store: what it prints, and how it fails."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from rec.cli.store import Age, Size, summary
from rec.llm.store.responses import ResponseStore
from tests.cli.running import on_a_terminal, python, rec
from tests.llm.store.storing import SPACE, fill, requests

OTHER = {**SPACE, "adapter": "b" * 64}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of two spaces, one of them in two segments."""
    fill(tmp_path / "store", requests(4))
    fill(tmp_path / "store", requests(2), OTHER)
    fill(tmp_path / "store", requests(8, 4))
    return tmp_path / "store"


def test_show(root: Path) -> None:
    result = rec("store", "show", "--root", root)
    assert result.exit_code == 0
    where, header, first, second, total = result.output.splitlines()
    assert where == f"responses in {root}"
    assert " ".join(header.split()) == "space what responses size hit rate tokens/s each last use"
    assert "model aaaaaaaa, temperature 0.7, top_k 40, form [2]" in first
    assert "adapter bbbbbbbb" in second
    assert total.split()[:4] == ["total", "2", "spaces", "30"]
    ends = [header.index("responses") + len("responses"), first.index(" 24 ") + 3]
    assert ends == [total.index(" 30 ") + 3] * 2
    assert "10.0" in first.split()


def test_show_as_json(root: Path) -> None:
    shown = json.loads(rec("store", "show", "--root", root, "--format", "json").output)
    assert shown["root"] == str(root)
    assert [space["what"] for space in shown["spaces"]] == [SPACE, OTHER]
    assert datetime.fromisoformat(shown["spaces"][0]["last_used"]).tzinfo
    assert shown["total"] == {
        "responses": 30,
        "bytes": sum(path.stat().st_size for path in root.glob("*/*")),
        "wanted": 0,
        "found": 0,
        "damaged": 0,
        "tokens": 150,
        "seconds": 15.0,
        "hit_rate": None,
        "tokens_per_second": 10.0,
    }


def test_show_as_lines(root: Path) -> None:
    lines = rec("store", "show", "--root", root, "--format", "jsonl").output.splitlines()
    assert [json.loads(line)["responses"] for line in lines] == [24, 6]


def test_the_hit_rate(tmp_path: Path) -> None:
    root = tmp_path / "store"
    fill(root, requests(4))
    with ResponseStore(root, SPACE) as store:
        store.find(requests(5))
    assert "80.0%" in rec("store", "--root", root).output.splitlines()[2].split()


def test_without_a_command_it_shows(root: Path) -> None:
    shown = rec("store", "show", "--root", root).output
    assert rec("store", "--root", root).output == shown
    assert rec("store", "--help").output.startswith("Usage: rec store [OPTIONS] COMMAND")
    result = rec("store", "shw")
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [("rec store ", ["show", "prune"]), ("rec store --root x --f", ["--format"])],
)
def test_completion(words: str, expected: list[str]) -> None:
    typed = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = python("-m", "rec.cli", _REC_COMPLETE="bash_complete", **typed)
    assert sorted(line.partition(",")[2] for line in done.stdout.split()) == sorted(expected)


def test_the_store_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REC_STORE", raising=False)
    (tmp_path / "clone" / ".dvc").mkdir(parents=True)
    shown = rec("store", "--project", tmp_path / "clone").output
    place = f"{tmp_path}/clone/.cache/responses"
    assert shown.splitlines()[0] == f"responses in {place}, which is not there yet"


def test_show_names_damage(root: Path) -> None:
    segment = next(path for path in root.glob("*/*.jsonl") if path.name != "runs.jsonl")
    segment.write_bytes(segment.read_bytes()[:-9])
    assert "1 damaged entry" in rec("store", "show", "--root", root).output


def test_show_of_nothing(tmp_path: Path) -> None:
    result = rec("store", "show", "--root", tmp_path / "none")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].split()[:4] == ["total", "0", "spaces", "0"]
    for command in ("show", "prune"):
        output = rec("store", command, "--root", tmp_path / "none").output
        assert f"{tmp_path / 'none'}, which is not there yet\n" in output


def test_show_on_a_terminal(root: Path) -> None:
    printed = on_a_terminal("store", "show", "--root", root)
    assert "───" in printed and "form [2]" in printed and "2 spaces" in printed


def test_prune(root: Path) -> None:
    planned = rec("store", "prune", "--root", root, "--keep", "6kB", "--dry-run").output
    done = rec("store", "prune", "--root", root, "--keep", "6kB").output
    assert planned == "".join(f"would have {line}\n" for line in done.splitlines())
    removed, compacted, freed = done.splitlines()
    assert removed.startswith("removed") and "(6 responses, 1.6 kB): model aaaaaaaa" in removed
    assert compacted.startswith("compacted") and "(24 responses, 5.6 kB)" in compacted
    assert freed == f"freed 1.6 kB; 5.6 kB left in {root}"


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_prune_in_json(root: Path, form: str) -> None:
    arguments = ("store", "prune", "--root", root, "--keep", "6kB", "--dry-run", "--format", form)
    output = rec(*arguments).output
    if form == "jsonl":
        records = [json.loads(line) for line in output.splitlines()]
    else:
        document = json.loads(output)
        records = document.pop("spaces")
        sizes = {"freed": records[0]["bytes"], "left": records[1]["bytes"]}
        assert document == {"root": str(root), "dry_run": True, **sizes}
    assert [(r["done"], r["responses"]) for r in records] == [("removed", 6), ("compacted", 24)]
    assert len(list(root.glob("*"))) == 3


def test_prune_without_options_compacts(root: Path) -> None:
    compacted, freed = rec("store", "prune", "--root", root).output.splitlines()
    assert compacted.startswith("compacted") and "(24 responses" in compacted
    assert freed.startswith("freed 0 B")
    assert len(list(root.glob("*"))) == 3
    (freed,) = rec("store", "prune", "--root", root, "--older-than", "1m").output.splitlines()


def test_failures_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    for command in ("show", "prune"):
        result = rec("store", command, "--root", tmp_path)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr == f"Error: {tmp_path}: not a response store\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--older-than", "30"],
        ["--older-than", "-1d"],
        ["--older-than", "9999999999d"],
        ["--keep", "2 parsecs"],
        ["--keep", "-1"],
        ["--keep", "9" * 400],
        ["--keep", "9" * 300 + "TB"],
        ["--unknown"],
    ],
)
def test_usage_errors(root: Path, arguments: list[str]) -> None:
    assert rec("store", "prune", "--root", root, *arguments).exit_code == 2
    assert len(list(root.glob("*"))) == 3


def test_units() -> None:
    hours = {"90m": 1.5, "12h": 12, "30d": 720, "1.5d": 36, "2w": 336}
    for text, expected in hours.items():
        assert Age().convert(text, None, None).total_seconds() == expected * 3600
    sizes = {"0": 0, "12": 12, "1.5kB": 1500, "2GB": 2 * 10**9, "2 gb": 2 * 10**9, "1MiB": 2**20}
    for text, expected in sizes.items():
        assert Size().convert(text, None, None) == expected


def test_a_summary_is_short() -> None:
    what = {"model": "0f" * 32, "form": list(range(1000)), "note": "x" * 100, "a": {"b": {"c": 1}}}
    assert summary(what) == f"model 0f0f0f0f, form [1000], note {'x' * 39}…, c 1"
    assert summary({}) == "?"


def test_as_a_module_with_the_folder_from_the_environment(root: Path) -> None:
    done = python("-m", "rec.cli", "store", "show", REC_STORE=str(root))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("total")
    assert done.stderr == ""
