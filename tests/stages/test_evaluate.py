from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from omegaconf import OmegaConf

from rec import layout
from rec.comparison.result import read_comparison
from rec.curves import ALIGNMENT
from rec.params import load_params
from rec.rerank.metrics import ranked_ndcg
from rec.tables import RUNS, USER_METRICS, read_table, write_table
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


def test_writes_metrics_tables_and_plots_and_says_nothing(run: Path) -> None:
    result = evaluate()
    assert (result.exit_code, result.output) == (0, "")
    metrics = json.loads(layout.FIGURES.read_text())
    assert (metrics["test_users"], metrics["test_lists"], metrics["seeds"]) == (12, 36, 2)
    assert metrics["identifiability"]["round_2"] == {
        "mrr": 0.5,
        "median_rank": 13.333333,
        "cut": 0.02,
    }
    beta = load_params(run / "params.yaml").align.beta
    assert metrics["alignment"]["round_1"]["margin_nats"] == round(0.22 / beta, 6)
    assert metrics["alignment"]["round_1"]["likelihood_displacement"] is True
    assert metrics["alignment"]["round_1"]["held_out"] == {"pairs": 0}
    assert metrics["alignment"]["round_2"]["held_out"]["reward_accuracy_low"] == 0.59585
    assert (metrics["bootstrap"], metrics["permutations"]) == (200, 1000)
    assert sorted(path.name for path in layout.PLOTS.iterdir()) == [
        "alignment.csv",
        "results.csv",
        "reward.csv",
    ]


def test_metrics_are_few_of_the_figures(run: Path) -> None:
    evaluate()
    metrics = json.loads(layout.METRICS.read_text())
    figures = json.loads(layout.FIGURES.read_text())
    assert metrics["ndcg@5"]["round_2"] == figures["popularity"]["round_2"]["ndcg@5"]
    assert metrics["held_out_accuracy"] == {"round_2": 0.9}


def test_values_follow_from_the_ranked_labels(run: Path) -> None:
    """From the file of a run, list by list, to figures.json."""
    evaluate()
    users = read_table(layout.USER_METRICS, USER_METRICS)
    table = read_table(layout.runs("1", "prm", 2), RUNS).filter(
        (pl.col("protocol") == "uniform") & (pl.col("user") == "u03")
    )
    assert len(table) == 3
    hand = [ranked_ndcg([labels], 5)[0] for labels in table["labels"].to_list()]
    found = users.filter(protocol="uniform", backbone="prm", variant="1", seed=2, user="u03")
    assert found["ndcg@5"].to_list() == pytest.approx([sum(hand) / 3])
    metrics = json.loads(layout.FIGURES.read_text())
    rows = users.filter(protocol="uniform", variant="1")
    assert len(rows) == 12 * 2 * 2
    assert metrics["uniform"]["round_1"]["ndcg@5"] == pytest.approx(rows["ndcg@5"].mean(), abs=1e-6)
    comparison = read_comparison(layout.DIFFERENCES)
    assert comparison.family("uniform", "ndcg@5").values["round_1"].value == pytest.approx(
        rows["ndcg@5"].mean(), abs=1e-6
    )


def test_slices_are_of_the_lists_and_items_of_the_data(run: Path) -> None:
    """Lists n hold item n alone as a positive; users' histories grow with their number."""
    evaluate()
    slices = read_comparison(layout.DIFFERENCES).slices
    assert [(s.by, s.name, s.users, s.lists) for s in slices] == [
        ("history", "short", 4, 12),
        ("history", "middle", 4, 12),
        ("history", "long", 4, 12),
        ("popularity", "head", 12, 12),
        ("popularity", "torso", 12, 12),
        ("popularity", "tail", 12, 12),
    ]


def test_best_of_n_where_test_users_have_several_responses(run: Path) -> None:
    assert evaluate().exit_code == 0
    assert "best_of_n" not in json.loads(layout.FIGURES.read_text())["popularity"]
    write_run(told=2, fine_tuned=True)
    params_file(run, fine_tuned=True)
    assert evaluate().exit_code == 0
    metrics = json.loads(layout.FIGURES.read_text())
    for protocol in ("popularity", "uniform"):
        assert list(metrics[protocol])[-1] == "best_of_n"
        assert metrics[protocol]["best_of_n"]["ndcg@5"] > metrics[protocol]["base"]["ndcg@5"]
    assert "sft" in metrics["alignment"] and "sft_vs_base" in metrics["comparisons"]


def test_variants_are_those_of_the_parameters(run: Path) -> None:
    """What another run left of a variant that is no longer asked for does not matter."""
    params = OmegaConf.load(run / "params.yaml")
    params.orders, params.baselines, params.rerank.backbones = ["random"], ["none"], ["prm"]
    OmegaConf.save(params, run / "params.yaml")
    layout.runs("items", "prm", 1).unlink()
    assert evaluate().exit_code == 0
    metrics = json.loads(layout.FIGURES.read_text())
    assert list(metrics["popularity"]) == ["random", "none", "base", "round_1", "round_2"]
    assert metrics["backbones"] == 1


def test_plots_are_flat_tables_of_all_rounds(run: Path) -> None:
    evaluate()
    results = pl.read_csv(layout.PLOTS / "results.csv")
    reward = pl.read_csv(layout.PLOTS / "reward.csv")
    alignment = pl.read_csv(layout.PLOTS / "alignment.csv")
    metrics = json.loads(layout.FIGURES.read_text())
    assert results.columns == ["protocol", "variant", "value", "low", "high"]
    last = results.filter(variant="DPO4Rec, round 2", protocol="popularity")
    assert last["value"][0] == metrics["popularity"]["round_2"]["ndcg@5"]
    assert reward.columns == ["round", "fold", "model", "epoch", "train_loss", "valid_ndcg"]
    assert reward.shape == (24, 6)
    assert reward.row(23) == (2, 1, 0, 6, 0.333333, 0.761667)
    assert alignment.columns == ["policy", *ALIGNMENT]
    assert alignment.row(12)[1:7] == (1, 0.67, 0.04, 0.57, 0.01, -0.01)
    assert alignment.row(12)[9:12] == (-0.004, -0.008, 0.0001)
    assert len(alignment) == 24


def test_same_inputs_give_the_same_bytes(run: Path) -> None:
    evaluate()
    outputs = [layout.METRICS, *layout.PLOTS.iterdir(), *layout.COMPARISON.iterdir()]
    assert len(outputs) == 9
    before = [path.read_bytes() for path in outputs]
    path = layout.runs("1", "dlcm", 1)
    write_table(read_table(path, RUNS).sample(fraction=1, shuffle=True, seed=3), path, RUNS)
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
    assert text == f"policy,{','.join(ALIGNMENT)}\n"
    assert json.loads(layout.FIGURES.read_text())["alignment"] == {}
    header = "round,fold,model,epoch,train_loss,valid_ndcg\n"
    assert (layout.PLOTS / "reward.csv").read_text() == header


def refused() -> str:
    result = evaluate()
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert not layout.METRICS.exists()
    return result.output


def test_missing_list_is_one_line_that_names_the_run(run: Path) -> None:
    path = layout.runs("items", "prm", 1)
    write_table(read_table(path, RUNS).filter(pl.col("list") != "u03-1"), path, RUNS)
    assert "runs of 'items', backbone prm, seed 1: list 'u03-1' of protocol popularity" in refused()


def test_missing_order_and_protocol_are_one_line(run: Path) -> None:
    orders = read_table(layout.ORDER_RUNS, RUNS)
    write_table(orders.filter(pl.col("variant") != "random"), layout.ORDER_RUNS, RUNS)
    assert "runs of 'random': there are no rows" in refused()
    write_table(orders.filter(pl.col("protocol") == "uniform"), layout.ORDER_RUNS, RUNS)
    assert "protocols are uniform; they must be popularity, uniform" in refused()


def test_missing_inputs_are_one_line_that_names_the_file(run: Path) -> None:
    layout.alignment_curve("2").unlink()
    assert "data/alignment/2/curve.csv: no such file" in refused()
    layout.alignment_summary("2").unlink()
    assert "data/alignment/2/summary.json: no such file" in refused()
    layout.identifiability("1").unlink()
    assert "data/vectors/1/identifiability.json: no such file" in refused()
    layout.runs("history", "dlcm", 2).unlink()
    assert "data/runs/history/dlcm-2.parquet: no such file" in refused()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss\n1,0.5\n", "curve.csv: column 'margin' is missing"),
        (f"{','.join(ALIGNMENT)}\none{',2' * 13}\n", "curve.csv: not a readable CSV file"),
        ("", "curve.csv: not a readable CSV file"),
    ],
)
def test_broken_curve_of_alignment_is_refused(run: Path, text: str, message: str) -> None:
    layout.alignment_curve("1").write_text(text)
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
    layout.alignment_summary("2").write_text(text)
    assert f"data/alignment/2/summary.json: {message}" in refused()
