from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from rec.comparison.figures import figures as figures_of
from rec.comparison.figures import metrics
from rec.errors import RecError
from rec.rerank.metrics import NAMES
from tests.aligned import outcome
from tests.synthetic_run import comparison, health, identifiability, user_metrics

SOUND = {"cut_off": 0.03, "cut_slots": 2.5, "looping": 0.01, "empty": 0.0, "mean_tokens": 81.25}


def figures(**changed: Any) -> dict[str, Any]:
    policies = ("0", "1", "2")
    given: dict[str, Any] = {
        "identifiability": {p: identifiability(p) for p in policies},
        "sampling": {p: health() for p in policies},
        "alignments": {"1": outcome(), "2": outcome(pairs=0)},
    }
    return figures_of(comparison(), user_metrics(), **{**given, **changed})


def test_numbers_are_named() -> None:
    found = figures()
    assert list(found) == [
        *("popularity", "uniform", "comparisons", "power"),
        *("identifiability", "sampling", "alignment"),
        *("test_users", "test_lists", "backbones", "seeds", "bootstrap", "permutations"),
    ]
    variants = [list(found[protocol]) for protocol in ("popularity", "uniform")]
    assert variants == [comparison().variants] * 2 and "round_2" in variants[0]
    ends = {"low", "high", "map@5_low", "map@5_high"}
    assert all(set(values) == {*NAMES, *ends} for values in found["uniform"].values())
    counts = [found[key] for key in list(found)[-6:]]
    assert counts == [12, 36, 2, 2, 200, 199]
    assert list(found["power"]) == ["sought", "users_needed", "detectable"]


def test_numbers_are_those_of_the_comparison() -> None:
    found, compared = figures(), comparison()
    family = compared.family("uniform", "ndcg@5")
    assert found["uniform"]["round_1"]["low"] == family.values["round_1"].low
    precision = compared.family("uniform", "map@5").values["round_1"]
    named = [found["uniform"]["round_1"][f"map@5{end}"] for end in ("", "_low", "_high")]
    assert named == [precision.value, precision.low, precision.high]
    first = compared.primary.comparisons[0]
    assert list(found["comparisons"])[:3] == [
        "round_2_vs_base",
        "round_2_vs_history",
        "base_vs_history",
    ]
    assert found["comparisons"]["round_2_vs_base"] == {
        "difference": first.estimate.value,
        "low": first.estimate.low,
        "high": first.estimate.high,
        "p_holm": first.p_holm,
        "significant": first.significant,
    }


@pytest.mark.parametrize(("variant", "name"), [("1", "round_1"), ("random", "random")])
@pytest.mark.parametrize("protocol", ["popularity", "uniform"])
def test_every_metric_is_a_mean_over_test_users(protocol: str, variant: str, name: str) -> None:
    """Of all seeds and backbones, each weighing the same; no validation user counts."""
    users = user_metrics()
    unseen = users.with_columns(pl.lit("valid").alias("split"), pl.col(NAMES) + 1)
    found = figures_of(comparison(), pl.concat([users, unseen]), {}, {}, {})[protocol][name]
    rows = users.filter(protocol=protocol, variant=variant)
    assert len(rows) == 12 * (4 if variant == "1" else 1)
    hand = {measure: rows[measure].mean() for measure in NAMES}
    assert {measure: found[measure] for measure in NAMES} == pytest.approx(hand, abs=1e-6)


def test_users_that_a_run_lacks_are_refused() -> None:
    users = user_metrics()
    one = (pl.col("variant") == "1") & (pl.col("backbone") == "prm") & (pl.col("seed") == 2)
    with pytest.raises(RecError, match="'round_1' lacks a backbone, a seed or a user"):
        figures_of(comparison(), users.filter(~(one & (pl.col("user") == "u03"))), {}, {}, {})


def test_texts_and_alignment_are_by_policy() -> None:
    found = figures()
    assert found["identifiability"] == {
        "chance": {"mrr": 0.0253},
        "base": {"mrr": 0.1, "median_rank": 40.0, "cut": 0.0},
        "round_1": {"mrr": 0.3, "median_rank": 20.0, "cut": 0.01},
        "round_2": {"mrr": 0.5, "median_rank": 13.333333, "cut": 0.02},
    }
    assert found["sampling"] == dict.fromkeys(("base", "round_1", "round_2"), SOUND)
    assert found["alignment"]["round_1"] == {
        "steps": 5,
        "margin_nats": 1.25,
        "reward_accuracy": 0.8,
        "chosen_log_ratio_per_token": 0.004,
        "rejected_log_ratio_per_token": -0.008123,
        "kl_per_token": 0.002,
        "likelihood_displacement": False,
        "held_out": {
            "pairs": 10,
            "likelihood_accuracy_before": 0.5,
            "likelihood_accuracy_after": 0.6,
            "reward_accuracy": 0.9,
            "reward_accuracy_low": 0.6,
            "reward_accuracy_high": 0.98,
        },
    }
    assert found["alignment"]["round_2"]["held_out"] == {"pairs": 0}


def test_metrics_are_few_and_named_alike_with_any_number_of_rounds() -> None:
    found, compared = figures(), comparison()
    few = metrics(compared, found)
    first = compared.primary.comparisons[0]
    assert (first.of, first.to) == ("round_2", "base")
    assert few == {
        "ndcg@5": {
            name: found["popularity"][name]["ndcg@5"]
            for name in ("none", "history", "base", "round_1", "round_2")
        },
        "gain": {
            "points": pytest.approx(100 * first.estimate.value, abs=1e-6),
            "low": pytest.approx(100 * first.estimate.low, abs=1e-6),
            "high": pytest.approx(100 * first.estimate.high, abs=1e-6),
            "p": first.p_holm,
        },
        "mrr": {"base": 0.1, "round_1": 0.3, "round_2": 0.5},
        "degenerate": dict.fromkeys(("base", "round_1", "round_2"), 0.01),
        "kl": {"round_1": 0.002, "round_2": 0.002},
        "held_out_accuracy": {"round_1": 0.9},
    }


def test_metrics_without_rounds_have_no_gain() -> None:
    compared = comparison(0)
    texts = {"0": identifiability("0")}
    found = figures_of(compared, user_metrics(0), texts, {"0": health()}, {})
    assert list(metrics(compared, found)) == ["ndcg@5", "mrr", "degenerate"]


@pytest.mark.parametrize("broken", [{}, {"mrr": "x"}, [1]])
def test_broken_identifiability_names_the_policy(broken: Any) -> None:
    with pytest.raises(RecError, match="identifiability of policy sft"):
        figures(identifiability={"sft": broken})


@pytest.mark.parametrize("broken", [{}, {"cut_off": "x"}, [1]])
def test_broken_sampling_figures_name_the_policy(broken: Any) -> None:
    with pytest.raises(RecError, match="sampling of policy 1"):
        figures(sampling={"1": broken})
