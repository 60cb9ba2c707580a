from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from rec import layout
from rec.files import sha256, write_json
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
    assert "Dropped, one response" in html and "Round 2, held out" in html
    assert "Share of 31,415 rows read" in html and "Loved films: Ran, 881249712" in html
    value = json.loads(layout.FIGURES.read_text())["uniform"]["round_2"]["ndcg@5"]
    assert f"{value:.4f}".removeprefix("0") in html
    assert '"epoch":6' in html and '"loss":0.67' in html
    assert '"log_ratio":-0.048' in html and '"kl":0.0012' in html
    assert "Loved films: Ran by 2 response 3.0" in html and '"Seven Samurai (1954) A"' in html
    assert ".900 [.596, .982], above chance" in html
    assert "Same re-ranker: the same re-rankers rank better with fresh responses" in html


def test_a_control_stands_beside_the_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(rounds=1, fine_tuned=True)
    params_file(tmp_path, rounds=1, fine_tuned=True)
    assert CliRunner().invoke(evaluate.main, []).exit_code == 0
    result = CliRunner().invoke(report.main, [])
    assert (result.exit_code, result.output) == (0, "")
    html = layout.REPORT.read_text(encoding="utf-8")
    section = html[html.index('id="mediation"') :]
    table = section[section.index("The same re-rankers rank better with fresh responses") :]
    assert ">Fine-tuned<" in table[: table.index("</table>")]
    assert "Where “Fine-tuned” stands beside the rounds it is against the base LLM." in section
    layout.retold("sft").unlink()
    result = CliRunner().invoke(report.main, [])
    assert result.output.startswith(f"Error: {layout.retold('sft')}: no such file")


@pytest.mark.parametrize(
    "path",
    [
        layout.FIGURES,
        layout.DIFFERENCES,
        layout.PLOTS / "reward.csv",
        layout.STATISTICS,
        layout.REJECTS,
        layout.PROMPTS,
        layout.pairs(2),
        layout.heldout_pairs(2),
        layout.responses("1"),
        layout.runs("1", "dlcm", 1),
        layout.USERS,
        layout.ITEMS,
        layout.LISTS,
        layout.USER_METRICS,
        layout.pairs_metrics(1),
        layout.retold("2"),
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


def drawn(policy: str, **changes: object) -> None:
    """Say that a policy's responses were drawn here, 3,000 tokens in 2.5 s."""
    digest = sha256(layout.responses(policy))
    speed = {"tokens": 3000, "seconds": 2.5, "responses": digest}
    write_json(layout.drawing(policy), speed | changes)


def test_speed_is_known_of_the_responses_that_were_drawn_here(evaluated: Path) -> None:
    drawn("0")
    drawn("1", responses="of another run")
    assert CliRunner().invoke(report.main, []).exit_code == 0
    row = layout.REPORT.read_text(encoding="utf-8").split("Tokens per second")[1]
    assert re.findall("<td .*?>(.*?)</td>", row)[:3] == ["1,200", "–", "–"]


@pytest.mark.parametrize("changes", [{"seconds": 0}, {"tokens": None}])
def test_a_broken_speed_is_one_line(evaluated: Path, changes: dict[str, object]) -> None:
    drawn("0", **changes)
    result = CliRunner().invoke(report.main, [])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {layout.drawing('0')}: not the speed of drawing")
