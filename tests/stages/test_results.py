from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rec import layout
from rec.comparison.result import read_comparison, write_comparison
from rec.files import read_json, write_json
from rec.results import text_tables
from stages import evaluate
from stages.results import main
from tests.synthetic_run import ROOT, comparison, params_file, write_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prints_table_summary_and_places(folder: Path) -> None:
    write_run()
    params_file(folder)
    CliRunner().invoke(evaluate.main, [])
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 0
    comparison = read_comparison(layout.DIFFERENCES)
    assert result.output.startswith(text_tables(comparison, read_json(layout.FIGURES)))
    assert "Over 12 test users, 2 seeds and re-rankers dlcm, prm, on lists" in result.output
    assert f"metrics:     {folder / 'metrics.json'}\n" in result.output
    assert f"users:       {folder / 'data/comparison/users.parquet'}\n" in result.output
    assert "report.html is not there; make it with `dvc repro report`" in result.output
    assert max(len(line) for line in result.output.splitlines() if "/" not in line) <= 100
    layout.REPORT.write_text("<!DOCTYPE html>")
    assert f"report:      {folder / 'report.html'}\n" in CliRunner().invoke(main, []).output


def test_without_metrics_one_line_names_the_command(folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "stages.results"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: data/comparison/figures.json: no results yet; make them with `dvc repro`\n"
    )


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"identifiability": {"base": 1}}'])
def test_broken_metrics_are_one_line(folder: Path, text: str) -> None:
    write_comparison(layout.DIFFERENCES, comparison())
    layout.FIGURES.write_text(text)
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "figures" in result.output.splitlines()[0]


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"families": []}'])
def test_broken_comparison_is_one_line(folder: Path, text: str) -> None:
    write_comparison(layout.DIFFERENCES, comparison())
    write_json(layout.FIGURES, {})
    layout.DIFFERENCES.write_text(text)
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.startswith("Error: data/comparison/differences.json: not ")


def test_without_the_comparison_one_line_names_the_command(folder: Path) -> None:
    write_json(layout.FIGURES, {})
    result = CliRunner().invoke(main, [])
    assert "data/comparison/differences.json: no results yet; make them with" in result.output
