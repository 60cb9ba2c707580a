from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from omegaconf import OmegaConf

from rec.curves import ALIGNMENT
from rec.params import load_params
from rec.tables import RUNS, read_table, write_table
from stages import layout
from stages.evaluate import main
from tests.synthetic_run import params_file, write_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run()
    params_file(tmp_path)
    return tmp_path


def evaluate() -> Result:
    return CliRunner().invoke(main, [])


def test_writes_metrics_and_plots_and_says_nothing(run: Path) -> None:
    result = evaluate()
    assert (result.exit_code, result.output) == (0, "")
    metrics = json.loads(layout.METRICS.read_text())
    assert list(metrics) == [
        *("popularity", "none", "items", "history", "base", "round_1", "round_2"),
        *("identifiability", "sampling", "alignment"),
        *("test_users", "test_lists", "seeds", "bootstrap"),
    ]
    assert (metrics["test_users"], metrics["test_lists"], metrics["seeds"]) == (12, 36, 2)
    assert metrics["identifiability"]["round_2"] == {"mrr": 0.5, "median_rank": 13.333333}
    assert metrics["sampling"]["round_1"] == {
        "cut_off": 0.03,
        "cut_slots": 2.5,
        "looping": 0.01,
        "empty": 0.0,
        "mean_tokens": 81.25,
    }
    beta = load_params(run / "params.yaml").align.beta
    assert metrics["alignment"]["round_1"] == {
        "steps": 12,
        "margin_nats": round(0.22 / beta, 6),
        "reward_accuracy": 0.85,
        "chosen_log_ratio_per_token": -0.022,
        "rejected_log_ratio_per_token": -0.044,
        "kl_per_token": 0.0011,
        "likelihood_displacement": True,
        "held_out": {"pairs": 0},
    }
    assert metrics["alignment"]["round_2"]["held_out"]["reward_accuracy_low"] == 0.59585
    assert metrics["bootstrap"] == 200
    assert sorted(path.name for path in layout.PLOTS.iterdir()) == [
        "alignment.csv",
        "results.csv",
        "reward.csv",
    ]


def test_variants_are_those_of_the_parameters(run: Path) -> None:
    """What another run left of a variant that is no longer asked for does not matter."""
    values = read_table(layout.runs("popularity"), RUNS)
    shown = values.with_columns(variant=pl.lit("shown"))
    write_table(shown, layout.runs("shown"), RUNS)
    evaluate()
    assert "shown" not in json.loads(layout.METRICS.read_text())
    params = OmegaConf.load(params_file(run, tabular={"impressions": {"file": "log.csv"}}))
    OmegaConf.update(params, "baselines", ["none", "popularity", "shown"])
    OmegaConf.save(params, run / "params.yaml")
    layout.runs("items").unlink()
    assert evaluate().exit_code == 0
    metrics = json.loads(layout.METRICS.read_text())
    assert list(metrics)[:4] == ["shown", "popularity", "none", "base"]
    assert metrics["shown"] == metrics["popularity"]


def test_plots_are_flat_tables_of_all_rounds(run: Path) -> None:
    evaluate()
    results = pl.read_csv(layout.PLOTS / "results.csv")
    reward = pl.read_csv(layout.PLOTS / "reward.csv")
    alignment = pl.read_csv(layout.PLOTS / "alignment.csv")
    metrics = json.loads(layout.METRICS.read_text())
    assert results.columns == ["variant", "value", "low", "high"]
    assert results["value"][6] == metrics["round_2"]["ndcg@5"]
    assert reward.columns == ["round", "fold", "epoch", "train_loss", "valid_ndcg"]
    assert reward.shape == (24, 5)
    assert reward.row(23) == (2, 1, 6, 0.333333, 0.761667)
    assert alignment.columns == ["round", *ALIGNMENT]
    assert alignment.row(12)[:7] == (2, 1, 0.67, 0.04, 0.57, 0.01, -0.01)
    assert alignment.row(12)[9:12] == (-0.004, -0.008, 0.0001)
    assert len(alignment) == 24


def test_same_inputs_give_the_same_bytes(run: Path) -> None:
    evaluate()
    outputs = [layout.METRICS, *layout.PLOTS.iterdir()]
    before = [path.read_bytes() for path in outputs]
    table = read_table(layout.runs("1"), RUNS)
    write_table(table.sample(fraction=1, shuffle=True, seed=3), layout.runs("1"), RUNS)
    evaluate()
    assert [path.read_bytes() for path in outputs] == before


def test_no_rounds_leave_plots_with_headers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(rounds=0)
    params_file(tmp_path, rounds=0)
    assert evaluate().exit_code == 0
    text = (layout.PLOTS / "alignment.csv").read_text()
    assert text == f"round,{','.join(ALIGNMENT)}\n"
    assert json.loads(layout.METRICS.read_text())["alignment"] == {}
    assert (layout.PLOTS / "reward.csv").read_text() == "round,fold,epoch,train_loss,valid_ndcg\n"


def refused() -> str:
    result = evaluate()
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert not layout.METRICS.exists()
    return result.output


def test_missing_list_is_one_line_that_names_the_variant(run: Path) -> None:
    table = read_table(layout.runs("items"), RUNS)
    write_table(table.filter(pl.col("list") != "u03-1"), layout.runs("items"), RUNS)
    assert "'items': list 'u03-1' is missing with seed 1" in refused()


def test_missing_inputs_are_one_line_that_names_the_file(run: Path) -> None:
    layout.alignment_curve(2).unlink()
    assert "data/alignment/2/curve.csv: no such file" in refused()
    layout.alignment_summary(2).unlink()
    assert "data/alignment/2/summary.json: no such file" in refused()
    layout.identifiability(1).unlink()
    assert "data/vectors/1.json: no such file" in refused()
    layout.runs("history").unlink()
    assert "data/runs/history.parquet: no such file" in refused()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss\n1,0.5\n", "curve.csv: column 'margin' is missing"),
        (f"{','.join(ALIGNMENT)}\none{',2' * 13}\n", "curve.csv: not a readable CSV file"),
        ("", "curve.csv: not a readable CSV file"),
    ],
)
def test_broken_curve_of_alignment_is_refused(run: Path, text: str, message: str) -> None:
    layout.alignment_curve(1).write_text(text)
    assert f"data/alignment/1/{message}" in refused()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "not the summary of an alignment ('likelihood_displacement' is missing)"),
        ("[]", "not the summary of an alignment (it is no mapping of names to values)"),
    ],
)
def test_broken_summary_of_alignment_is_refused(run: Path, text: str, message: str) -> None:
    layout.alignment_summary(2).write_text(text)
    assert f"data/alignment/2/summary.json: {message}" in refused()
