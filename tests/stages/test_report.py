from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rec import layout
from stages import evaluate, report
from tests.synthetic_run import params_file, write_run


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(title="Seven Samurai (1954)", text="Loved films: Ran")
    params_file(tmp_path)
    assert CliRunner().invoke(evaluate.main, []).exit_code == 0
    return tmp_path


def test_writes_the_page_from_what_the_stages_left(evaluated: Path) -> None:
    result = CliRunner().invoke(report.main, [])
    assert (result.exit_code, result.output) == (0, "")
    html = layout.REPORT.read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert "Seven Samurai (1954), film 8" in html
    assert "Loved films: Ran chosen 2.8" in html
    assert "dropped, one response" in html and "Round 2, held out" in html
    assert "Share of 31,415 rows read" in html and "Loved films: Ran, 881249712" in html
    value = json.loads(layout.METRICS.read_text())["uniform"]["round_2"]["ndcg@5"]
    assert f"{value:.4f}".removeprefix("0") in html
    assert '"epoch": 6' in html and '"loss": 0.67' in html
    assert '"log_ratio": -0.048' in html and '"kl": 0.0012' in html
    assert ".900 [.596, .982], above chance" in html


@pytest.mark.parametrize(
    "path",
    [
        layout.METRICS,
        layout.DIFFERENCES,
        layout.PLOTS / "reward.csv",
        layout.STATISTICS,
        layout.REJECTS,
        layout.PROMPTS,
        layout.pairs(2),
        layout.pairs_metrics(1),
        layout.sampling_metrics("0"),
        layout.training("history", "dlcm", 2),
        layout.reward(1) / "reward.json",
        layout.alignment_summary("2"),
    ],
    ids=str,
)
def test_missing_input_is_one_line_and_leaves_no_page(evaluated: Path, path: Path) -> None:
    path.unlink()
    result = CliRunner().invoke(report.main, [])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {path}: no such file")
    assert result.output.count("\n") == 1
    assert not layout.REPORT.exists()
