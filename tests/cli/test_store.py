"""rec store: what it prints, and how it fails."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rec.cli import main
from rec.cli.store import Age, Size, summary
from tests.llm.store.storing import SPACE, fill, requests

ROOT = Path(__file__).parents[2]
OTHER = {**SPACE, "adapter": "b" * 64}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of two spaces, one of them in two segments."""
    fill(tmp_path / "store", requests(4))
    fill(tmp_path / "store", requests(2), OTHER)
    fill(tmp_path / "store", requests(8, 4))
    return tmp_path / "store"


def rec(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["store", *map(str, arguments)])


def test_show(root: Path) -> None:
    result = rec("show", "--root", root)
    assert result.exit_code == 0
    where, header, first, second, total = result.output.splitlines()
    assert where == f"responses in {root}"
    assert " ".join(header.split()) == "space what responses size hit rate tokens/s each last use"
    assert "model aaaaaaaa, temperature 0.7, top_k 40, form [2]" in first
    assert "adapter bbbbbbbb" in second
    assert total.split()[:4] == ["total", "2", "spaces", "30"]
    assert header.index("responses") == first.index("24 ") == total.index("30 ")
    assert "10.0" in first.split()


def test_show_as_json(root: Path) -> None:
    shown = json.loads(rec("show", "--root", root, "--format", "json").output)
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
    }


def test_show_names_damage(root: Path) -> None:
    segment = next(path for path in root.glob("*/*.jsonl") if path.name != "runs.jsonl")
    segment.write_bytes(segment.read_bytes()[:-9])
    assert "1 damaged entry" in rec("show", "--root", root).output


def test_show_of_nothing(tmp_path: Path) -> None:
    result = rec("show", "--root", tmp_path / "none")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].split()[:4] == ["total", "0", "spaces", "0"]


def test_show_on_a_terminal(root: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rec.cli", "store", "show", "--root", str(root)]
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    subprocess.run(command, cwd=ROOT, env=environment, stdout=theirs, check=True)
    os.close(theirs)
    printed = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "┃" in printed and "[2]" in printed and "2 spaces" in printed


def test_prune(root: Path) -> None:
    planned = rec("prune", "--root", root, "--keep", "6kB", "--dry-run").output
    done = rec("prune", "--root", root, "--keep", "6kB").output
    assert planned == "".join(f"would have {line}\n" for line in done.splitlines())
    removed, compacted, freed = done.splitlines()
    assert removed.startswith("removed") and "(6 responses, 1.6 kB): model aaaaaaaa" in removed
    assert compacted.startswith("compacted") and "(24 responses, 5.6 kB)" in compacted
    assert freed == f"freed 1.6 kB; 5.6 kB left in {root}"


def test_prune_without_options_compacts(root: Path) -> None:
    compacted, freed = rec("prune", "--root", root).output.splitlines()
    assert compacted.startswith("compacted") and "(24 responses" in compacted
    assert freed.startswith("freed 0 B")
    assert len(list(root.glob("*"))) == 3
    (freed,) = rec("prune", "--root", root, "--older-than", "1m").output.splitlines()


def test_failures_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    for command in ("show", "prune"):
        result = rec(command, "--root", tmp_path)
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
    assert rec("prune", "--root", root, *arguments).exit_code == 2
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
    command = [sys.executable, "-m", "rec.cli", "store", "show"]
    environment = {**os.environ, "REC_STORE": str(root)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("total")
    assert done.stderr == ""


def test_help_imports_nothing_slow() -> None:
    script = "import sys, rec.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert not {"torch", "llama_cpp", "polars", "numpy", "rich"} & set(done.stdout.split())
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "store" in result.output
