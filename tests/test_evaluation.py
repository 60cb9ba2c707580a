from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rec.errors import RecError
from rec.evaluation import bootstrap_interval, evaluate, slug, user_means, variants
from rec.results import Estimate, label, rows
from tests.synthetic_run import (
    BASE,
    compare,
    outcome,
    random_runs,
    runs_table,
    shifted,
    small_runs,
)

unit = st.floats(0, 1, width=32)
columns = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2), elements=unit
)


def test_interval_of_two_users_worth_0_and_1_is_0_to_1() -> None:
    low, high = bootstrap_interval(np.array([[0.0], [1.0]]), 1000, seed=1)
    assert (low[0], high[0]) == (0.0, 1.0)


def test_interval_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, (400, 1))
    low, high = bootstrap_interval(values, 4000, seed=1)
    error = 1.96 * values.std() / np.sqrt(400)
    assert low[0] == pytest.approx(values.mean() - error, abs=error / 10)
    assert high[0] == pytest.approx(values.mean() + error, abs=error / 10)


def test_interval_is_of_all_resamples_asked_for() -> None:
    """Of one resample both ends are its mean; those after the first chunk count as well."""
    values = np.random.default_rng(3).normal(0.5, 0.1, (50, 1))
    low, high = bootstrap_interval(values, 1, seed=1)
    assert low[0] == high[0]
    chunk = bootstrap_interval(values, 256, seed=1)
    assert (bootstrap_interval(values, 700, seed=1) != chunk).all()


@given(columns)
def test_interval_lies_around_the_mean_and_within_the_values(values: Any) -> None:
    low, high = bootstrap_interval(values, 200, seed=1)
    error = 4 * values.std(axis=0) / np.sqrt(len(values)) + 1e-9
    assert (low <= high).all()
    assert (values.min(axis=0) - 1e-9 <= low).all()
    assert (high <= values.max(axis=0) + 1e-9).all()
    assert (low <= values.mean(axis=0) + error).all()
    assert (high >= values.mean(axis=0) - error).all()


@given(columns)
def test_every_column_meets_the_same_resamples(values: Any) -> None:
    alone = np.hstack([bootstrap_interval(values[:, [c]], 150, 5) for c in range(values.shape[1])])
    assert bootstrap_interval(values, 150, 5) == pytest.approx(alone)


def test_user_mean_is_over_lists_then_seeds() -> None:
    runs = small_runs()
    seed_1 = runs_table("0", {"a": [0.0, 1.0], "b": [0.0, 0.0], "c": [0.0, 0.0]}, seeds=[1])
    seed_2 = runs_table("0", {"a": [1.0, 1.0], "b": [0.0, 1.0], "c": [0.0, 0.0]}, seeds=[2])
    runs["0"] = pl.concat([seed_1, seed_2])
    users, means = user_means(runs)
    assert users == ["a", "b", "c"]
    assert means["0"][:, 0].tolist() == [0.75, 0.25, 0.0]


def test_users_weigh_the_same_however_many_lists_they_have() -> None:
    values = {"a": [1.0, 1.0, 1.0], "b": [0.0]}
    metrics = compare({v: runs_table(v, values) for v in ("none", "0", "1")})
    assert metrics["base"]["ndcg@5"] == 0.5


def test_values_by_hand() -> None:
    """Base: users 0.6, 0.3 and 0.9, mean 0.6; MAP@5 is 0.05 above."""
    metrics = compare(small_runs())
    assert metrics["base"]["ndcg@5"] == 0.6
    assert metrics["base"]["map@5"] == 0.65
    assert metrics["round_1"]["ndcg@5"] == 0.65
    assert metrics["base"]["ndcg@5_vs_none"] == 0.1
    assert metrics["popularity"]["ndcg@5_vs_base"] == -0.2
    assert "ndcg@5_vs_base" not in metrics["base"]
    assert "ndcg@5_vs_none" not in metrics["popularity"]
    assert metrics["base"]["ndcg@5_low"] < 0.6 < metrics["base"]["ndcg@5_high"]
    assert (metrics["test_users"], metrics["test_lists"], metrics["seeds"]) == (3, 6, 2)
    assert metrics["bootstrap"] == 200
    assert metrics["identifiability"] == {
        "chance": {"mrr": 0.0253},
        "base": {"mrr": 0.1, "median_rank": 40.0},
        "round_1": {"mrr": 0.3, "median_rank": 20.0},
    }
    sound = {
        "cut_off": 0.03,
        "cut_slots": 2.5,
        "looping": 0.01,
        "empty": 0.0,
        "mean_tokens": 81.25,
    }
    assert metrics["sampling"] == {"base": sound, "round_1": sound}
    assert metrics["alignment"] == {
        "round_1": {
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
    }


def test_alignment_is_by_round_and_says_where_no_pairs_were_held_out() -> None:
    metrics = evaluate(small_runs(), {}, {}, {2: outcome(), 1: outcome(pairs=0)}, 100, seed=1)
    assert list(metrics["alignment"]) == ["round_1", "round_2"]
    assert metrics["alignment"]["round_1"]["held_out"] == {"pairs": 0}
    assert metrics["alignment"]["round_2"]["held_out"]["pairs"] == 10


@settings(max_examples=20)
@given(st.floats(-0.2, 0.1).map(lambda shift: round(shift, 6)))
def test_constant_difference_is_found_with_a_zero_width_interval(shift: float) -> None:
    runs = small_runs() | {"1": runs_table("1", shifted(shift))}
    found = rows(compare(runs))[-1].vs_base
    assert found == Estimate(shift, shift, shift)
    assert found.significant == (shift != 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_and_variants_changes_nothing(seed: int) -> None:
    runs = random_runs([0, 1], users=5)
    shuffled = {v: runs[v].sample(fraction=1, shuffle=True, seed=seed) for v in reversed(runs)}
    assert list(compare(shuffled).items()) == list(compare(runs).items())


def test_paired_interval_is_narrower_than_the_values_own() -> None:
    metrics = compare(random_runs([0, 1], users=40), 500)
    one = metrics["round_1"]
    paired = one["ndcg@5_vs_base_high"] - one["ndcg@5_vs_base_low"]
    assert paired < 0.8 * (one["ndcg@5_high"] - one["ndcg@5_low"])


def test_other_seed_draws_other_resamples() -> None:
    runs = random_runs([0, 1])
    first = evaluate(runs, {}, {}, {}, 100, seed=1)
    assert first == evaluate(runs, {}, {}, {}, 100, seed=1)
    assert first != evaluate(runs, {}, {}, {}, 100, seed=2)


def test_variants_in_order_with_names_and_labels() -> None:
    order = variants([2, 0, 1])
    assert order == ["popularity", "none", "items", "history", "0", "1", "2"]
    slugs = ["popularity", "none", "items", "history", "base", "round_1", "round_2"]
    assert [slug(variant) for variant in order] == slugs
    assert list(compare(random_runs([0, 1])))[:6] == slugs[:6]
    shown = variants([1, 0], ["none", "shown"])
    assert shown == ["shown", "none", "0", "1"]
    assert label(slug("shown")) == "As shown"
    assert label(slug("2")) == "DPO4Rec, round 2"
    assert label("history") == "History text, no LLM"


def drop(runs: dict[str, pl.DataFrame], variant: str, condition: pl.Expr) -> None:
    runs[variant] = runs[variant].filter(~condition)


@pytest.mark.parametrize("variant", ["popularity", "none", "0", "1"])
def test_missing_list_names_variant_list_and_seed(variant: str) -> None:
    runs = small_runs()
    seed = max(runs[variant]["seed"].to_list())
    drop(runs, variant, (pl.col("list") == "b-1") & (pl.col("seed") == seed))
    with pytest.raises(RecError, match=f"variant '{variant}': list 'b-1'.*seed {seed}"):
        compare(runs)


def test_missing_seed_names_variant() -> None:
    runs = small_runs()
    drop(runs, "1", pl.col("seed") == 2)
    with pytest.raises(RecError, match=r"variant '1': seeds are \[1\]; they must be \[1, 2\]"):
        compare(runs)


@pytest.mark.parametrize("order", ["popularity", "shown"])
def test_what_is_not_trained_has_seed_0_alone(order: str) -> None:
    runs = small_runs() | {order: runs_table(order, BASE, seeds=[1, 2])}
    with pytest.raises(RecError, match=rf"'{order}': seeds are \[1, 2\]; they must be \[0\]"):
        compare(runs)


def test_lists_as_shown_are_a_row_of_their_own() -> None:
    runs = small_runs() | {"shown": runs_table("shown", shifted(-0.05), seeds=[0])}
    metrics = compare(runs)
    assert list(metrics)[:2] == ["shown", "popularity"]
    assert metrics["shown"]["ndcg@5"] == 0.55
    assert metrics["shown"]["ndcg@5_vs_base"] == -0.05
    assert "ndcg@5_vs_none" not in metrics["shown"]
    assert rows(metrics)[0].label == "As shown"
    without = compare(small_runs())
    assert {name: metrics[name] for name in without} == without


@pytest.mark.parametrize("variant", ["none", "0"])
def test_the_variants_compared_with_must_be_there(variant: str) -> None:
    runs = small_runs()
    del runs[variant]
    with pytest.raises(RecError, match=f"variant '{variant}' is missing"):
        compare(runs)


def with_value(column: str, value: object) -> dict[str, pl.DataFrame]:
    runs = small_runs()
    table = runs["1"]
    first = pl.int_range(pl.len()) == 0
    changed = pl.when(first).then(pl.lit(value)).otherwise(pl.col(column))
    runs["1"] = table.with_columns(changed.cast(table.schema[column]).alias(column))
    return runs


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ndcg@5", float("nan"), "'1': ndcg@5 of list 'a-0' is nan; it must lie in 0 to 1"),
        ("ndcg@5", 1.5, "'1': ndcg@5 of list 'a-0' is 1.5"),
        ("map@5", None, "'1': map@5 of list 'a-0' is None"),
        ("variant", "0", "'1': a row belongs to variant '0'"),
        ("variant", None, "'1': a row belongs to variant None"),
        ("user", "b", "'1': list 'a-0' belongs to user 'b'"),
        ("list", "a-1", "'1': list 'a-1' with seed 1 stands twice"),
    ],
)
def test_broken_rows_are_refused(column: str, value: object, message: str) -> None:
    with pytest.raises(RecError, match=message.replace("[", r"\[")):
        compare(with_value(column, value))


def test_unknown_variant_and_single_user_are_refused() -> None:
    with pytest.raises(RecError, match="variant 'magic' is unknown"):
        compare(small_runs() | {"magic": runs_table("magic", BASE)})
    alone = {v: runs_table(v, {"a": [0.5]}) for v in ("none", "0")}
    with pytest.raises(RecError, match="1 test users; an interval needs 2"):
        compare(alone)


@pytest.mark.parametrize("broken", [{}, {"mrr": "x"}, [1]])
def test_broken_identifiability_names_the_policy(broken: Any) -> None:
    with pytest.raises(RecError, match="identifiability of policy 1"):
        evaluate(small_runs(), {1: broken}, {}, {}, 100, 1)


@pytest.mark.parametrize("broken", [{}, {"cut_off": "x"}, [1]])
def test_broken_sampling_figures_name_the_policy(broken: Any) -> None:
    with pytest.raises(RecError, match="sampling of policy 1"):
        evaluate(small_runs(), {}, {1: broken}, {}, 100, 1)
