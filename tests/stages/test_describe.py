"""stages.describe: stats.json from the tables, and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rec import layout
from rec.files import write_json
from stages.describe import main
from tests.described import FAULTY, small, statistics, uniform_lists, write_tables
from tests.synthetic_run import params_file


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tables(small(), layout.TABLES, uniform=uniform_lists())
    write_json(layout.PREPARED, FAULTY)
    params_file(tmp_path)
    return tmp_path


def test_writes_the_figures_of_the_tables(prepared: Path) -> None:
    result = CliRunner().invoke(main, [])
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads(layout.STATISTICS.read_text()) == statistics()
    assert not (layout.WORK / "describe").exists()


@pytest.mark.parametrize(
    "path", [layout.LISTS, layout.protocol_lists("uniform"), layout.PREPARED], ids=str
)
def test_missing_input_is_one_line_and_leaves_no_figures(prepared: Path, path: Path) -> None:
    path.unlink()
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {path}: no such file")
    assert result.output.count("\n") == 1
    assert not layout.STATISTICS.exists()
