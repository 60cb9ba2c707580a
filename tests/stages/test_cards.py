"""Stage cards: what it passes on, and whose values it says they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from rec import layout
from rec.comparison.result import read_comparison
from rec.files import sha256, write_json
from rec.rerank.reranker import save
from rec.results import decimal, level
from rec.tables import USER_METRICS, read_table
from stages import cards, evaluate
from tests.rerank.builders import fresh, world
from tests.synthetic_run import BACKBONES, SEEDS, params_file, write_run

RUN = ("2", BACKBONES[0], SEEDS[0])


@pytest.fixture(autouse=True)
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run()
    params_file(tmp_path)
    assert CliRunner().invoke(evaluate.main, []).exit_code == 0
    save(fresh(world(users=4).features(), None, RUN[1]), layout.reranker(*RUN))
    write_json(layout.policy("2") / "policy.json", {"adapter": "adapter.gguf"})
    layout.LLM.mkdir(parents=True)
    layout.GGUF.write_bytes(b"weights")


def test_each_model_has_its_files_and_card() -> None:
    result = CliRunner().invoke(cards.main, [])
    assert (result.exit_code, result.output) == (0, "")
    shipped = layout.MODELS / "reranker" / "model.safetensors"
    assert sha256(shipped) == sha256(layout.reranker(*RUN))
    assert shipped.with_suffix(".json").is_file()
    adapter = layout.MODELS / "adapter"
    assert (adapter / "policy.json").is_file()
    assert f"has sha256 {sha256(layout.GGUF)}" in (adapter / "README.md").read_text()


@pytest.mark.parametrize("protocol", ["popularity", "uniform"])
def test_the_rerankers_own_value_is_that_of_its_seed_and_backbone(protocol: str) -> None:
    assert CliRunner().invoke(cards.main, []).exit_code == 0
    card = (layout.MODELS / "reranker" / "README.md").read_text()
    users = read_table(layout.USER_METRICS, USER_METRICS)
    rows = users.filter(protocol=protocol, variant="2", backbone=RUN[1], seed=RUN[2], split="test")
    assert len(rows) == 12
    own = decimal(float(rows["ndcg@5"].to_numpy().mean()))
    comparison = read_comparison(layout.DIFFERENCES)
    mean = comparison.family(protocol, "ndcg@5").values["round_2"]
    assert own != decimal(mean.value)
    before, after = card.split("| mean of the experiment |")
    assert f"| {own} [" in before and f"| {own} [" not in after
    assert level(mean) in after and level(mean) not in before


def test_without_users_metrics_one_line_names_the_file() -> None:
    layout.USER_METRICS.unlink()
    result = CliRunner().invoke(cards.main, [])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {layout.USER_METRICS}: no such file")
    assert result.output.count("\n") == 1
    assert not layout.MODELS.exists()
