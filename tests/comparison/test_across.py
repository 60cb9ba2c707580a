from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from rec.comparison.across import across
from rec.comparison.families import compare
from rec.comparison.result import Difference
from rec.comparison.users import Run
from rec.errors import RecError
from rec.tables import USER_METRICS, write_table
from stages import contrast
from tests.comparison.made import (
    DRAWS,
    PROTOCOLS,
    STRENGTH,
    first_hit,
    random_tables,
    table,
    users_of,
)

VARIANTS = ["popularity", "none", "history", "0"]


def users(**options: Any) -> pl.DataFrame:
    return random_tables(VARIANTS, **options).users


def contrasted(after: pl.DataFrame, before: pl.DataFrame) -> dict[str, Difference]:
    return across(after, before, "test", "popularity", "ndcg@5", DRAWS)


def test_value_by_hand() -> None:
    """The positive at rank 1 in place of rank 2, for one of two users."""
    run = Run("none", "prm", 1)
    before = users_of((run, table(run, {"a": first_hit(2), "b": first_hit(1)})))
    after = users_of((run, table(run, {"a": first_hit(1), "b": first_hit(1)})))
    found = contrasted(after, before)["none"]
    assert found.estimate.value == pytest.approx((1 - 0.6309298) / 2, abs=1e-6)
    assert (found.users_better, found.users_worse) == (0.5, 0.0)


def test_what_did_not_change_is_no_comparison() -> None:
    assert contrasted(users(), users()) == {}
    found = contrasted(users(strength={**STRENGTH, "0": 2.5}), users())
    assert list(found) == ["base"] and found["base"].p_holm == found["base"].p


def test_orders_and_the_best_of_n_are_passed_over() -> None:
    told = users(told=2)
    assert "best" in told["variant"].to_list()
    better = users(told=2, strength={name: value + 1 for name, value in STRENGTH.items()})
    assert list(contrasted(better, told)) == ["none", "history", "base"]


def test_only_what_both_have_is_compared() -> None:
    stronger = {name: value + 1 for name, value in STRENGTH.items()}
    after = users(backbones=("dlcm", "prm"), strength=stronger)
    before = users(backbones=("prm",)).filter(pl.col("variant") != "history")
    found = contrasted(after, before)
    assert list(found) == ["none", "base"]


def test_agrees_with_the_comparison_of_two_variants_of_one_experiment() -> None:
    tables = random_tables(VARIANTS)
    within = compare(tables, PROTOCOLS, {}, DRAWS).primary.comparisons
    expected = next(one for one in within if (one.of, one.to) == ("base", "none"))
    renamed = tables.users.filter(pl.col("variant") == "0").with_columns(variant=pl.lit("none"))
    found = contrasted(renamed, tables.users)["none"]
    assert found.estimate == expected.estimate
    assert (found.p, found.effect_size) == (expected.p, expected.effect_size)


def test_a_stronger_variant_is_found_and_corrected() -> None:
    after = users(users=60, strength={**STRENGTH, "0": 2.5, "none": 0.81})
    found = contrasted(after, users(users=60))
    assert found["base"].significant and found["base"].p_holm > found["base"].p
    assert 0 < found["none"].estimate.value < found["base"].estimate.value


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"users": 11}, "differ in their users"),
        ({"seeds": (1, 3)}, "differ in their seeds"),
        ({"lists": 2}, "differ in the lists"),
        (
            {"backbones": ("mir",)},
            "share no trained variant and backbone of 'popularity'",
        ),
    ],
)
def test_what_cannot_be_paired_is_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecError, match=expected):
        contrasted(users(), users(**changed))


def test_protocol_that_neither_has_is_refused() -> None:
    with pytest.raises(RecError, match="of 'shown'"):
        across(users(), users(), "test", "shown", "ndcg@5", DRAWS)


def test_command_prints_json(tmp_path: Path) -> None:
    after, before = tmp_path / "after.parquet", tmp_path / "before.parquet"
    write_table(users(strength={**STRENGTH, "0": 2.5}), after, USER_METRICS)
    write_table(users(), before, USER_METRICS)
    command = [str(after), str(before), "--split", "test", "--measure", "map@5"]
    run = CliRunner().invoke(contrast.main, command)
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["base"]["estimate"]["value"] > 0


def test_settings_are_chosen_by_validation_users(tmp_path: Path) -> None:
    """The setting is better for validation users alone: who chooses by it does not see the test."""
    plain, better = users(), users(strength={**STRENGTH, "0": 2.5})
    both = [
        pl.concat([plain, of_valid.with_columns(pl.lit("valid").alias("split"))])
        for of_valid in (better, plain)
    ]
    paths = [tmp_path / name for name in ("after.parquet", "before.parquet")]
    for table_, path in zip(both, paths, strict=True):
        write_table(table_, path, USER_METRICS)
    files = [str(path) for path in paths]
    chosen = CliRunner().invoke(contrast.main, files)
    assert json.loads(chosen.output)["base"]["estimate"]["value"] > 0
    assert json.loads(CliRunner().invoke(contrast.main, [*files, "--split", "test"]).output) == {}


def test_command_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    write_table(users(), path, USER_METRICS)
    wrong = CliRunner().invoke(contrast.main, [str(path), str(path), "--measure", "auc"])
    assert wrong.exit_code == 2 and "'auc' is not one of ndcg@1" in wrong.output
    gone = CliRunner().invoke(contrast.main, [str(path), str(path), "--protocol", "shown"])
    assert gone.exit_code == 1 and "of 'shown'" in gone.output
