from __future__ import annotations

import doctest
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from rec.comparison import families, names
from rec.comparison.cells import cells
from rec.comparison.components import components
from rec.comparison.families import Draws, compare, family, main_pair, main_power, pairs
from rec.comparison.names import in_order, label, last_round, slug
from rec.comparison.power import Design, users_needed
from rec.comparison.result import Estimate
from rec.comparison.significance import holm
from rec.errors import RecError
from tests.comparison.made import (
    DRAWS,
    PROTOCOLS,
    cells_table,
    random_comparison,
    random_tables,
)

ALL = ["popularity", "random", "none", "noise", "items", "swapped", "history", "0", "1", "2", "sft"]
#: Two backbones, two seeds: users' means over both are 0.6, 0.3 and 0.9.
LEVEL = {"a": 0.6, "b": 0.3, "c": 0.9}
RUNS = [("dlcm", 1), ("dlcm", 2), ("prm", 1), ("prm", 2)]
#: What runs add to the level: their mean is 0.
SHIFTS = dict(zip(RUNS, (0.05, -0.05, 0.02, -0.02), strict=True))


def values(shift: float, **users: float) -> dict[tuple[str, int], dict[str, float]]:
    return {
        run: {u: v + shift + SHIFTS[run] + users.get(u, 0.0) for u, v in LEVEL.items()}
        for run in RUNS
    }


def by_hand() -> Any:
    """Base .6; no knowledge .1 below; round 1 .03, -.01 and .04 above, .02 on average."""
    table = cells_table(
        {
            "popularity": {("", 0): {"a": 0.5, "b": 0.1, "c": 0.6}},
            "none": values(-0.1),
            "0": values(0.0),
            "1": values(0.0, a=0.03, b=-0.01, c=0.04),
        }
    )
    return cells(table, "ndcg@5")


def test_values_and_differences_by_hand() -> None:
    found = family(by_hand(), "popularity", "ndcg@5", "", DRAWS)
    assert found.values["base"].value == 0.6
    assert found.values["base"].low < 0.6 < found.values["base"].high
    assert found.values["popularity"].value == 0.4
    assert found.to_base["popularity"].value == -0.2
    assert found.to_base["none"] == Estimate(-0.1, -0.1, -0.1)
    assert set(found.to_base) == {"popularity", "none", "round_1"}
    gained = found.comparison("round_1", "base")
    assert gained is not None
    assert gained.estimate.value == 0.02
    assert (gained.estimate.low, gained.estimate.high) == (-0.01, 0.04)
    assert gained.relative_percent == pytest.approx(100 * 0.02 / 0.6, abs=1e-6)
    assert gained.effect_size == pytest.approx(0.02 / 0.0264575, abs=1e-4)
    assert (gained.users_better, gained.users_worse) == (0.666667, 0.333333)
    assert gained.by_seed == [0.02, 0.02]
    assert found.comparison("base", "history") is None


def test_a_backbone_alone() -> None:
    cells_ = by_hand()
    prm = family(cells_, "popularity", "ndcg@5", "prm", DRAWS)
    assert prm.backbone == "prm" and prm.values["base"].value == 0.6
    cells_.values[cells_.variants.index("base"), 1] += 0.1
    assert family(cells_, "popularity", "ndcg@5", "prm", DRAWS).values["base"].value == 0.7
    assert family(cells_, "popularity", "ndcg@5", "dlcm", DRAWS).values["base"].value == 0.6
    assert family(cells_, "popularity", "ndcg@5", "", DRAWS).values["base"].value == 0.65


def test_comparisons_in_order_and_each_once() -> None:
    found = pairs(in_order(map(slug, ALL)))
    assert found == [
        ("round_2", "base"),
        ("round_2", "history"),
        ("base", "history"),
        ("round_2", "none"),
        ("base", "none"),
        ("history", "none"),
        ("base", "items"),
        ("history", "items"),
        ("history", "swapped"),
        ("items", "none"),
        ("noise", "none"),
        ("base", "noise"),
        ("sft", "base"),
        ("round_2", "sft"),
        ("round_1", "base"),
    ]
    assert pairs(["none", "base"]) == [("base", "none")]
    assert main_pair(["none", "history", "base"]) == ("base", "history")
    assert not any("best_of_n" in pair for pair in pairs([*map(slug, ALL), "best_of_n"]))


def test_p_values_are_corrected_within_each_family() -> None:
    comparison = random_comparison(ALL)
    for found in comparison.families:
        names_ = [f"{d.of} {d.to}" for d in found.comparisons]
        p = {name: d.p for name, d in zip(names_, found.comparisons, strict=True)}
        corrected = [d.p_holm for d in found.comparisons]
        assert corrected == pytest.approx(list(holm(p).values()), abs=1e-5)
        assert len(p) == 15


def test_one_family_is_primary_the_others_are_secondary() -> None:
    found = random_comparison(["none", "0", "1"])
    kinds = [(f.kind, f.protocol, f.measure, f.backbone) for f in found.families]
    assert kinds[0] == ("primary", "popularity", "ndcg@5", "")
    assert {kind for kind, *_ in kinds[1:]} == {"secondary"}
    expected = {
        (protocol, measure, backbone)
        for protocol in PROTOCOLS
        for measure in ("ndcg@5", "map@5")
        for backbone in ("", "dlcm", "prm")
    }
    assert {tuple(rest) for _, *rest in kinds} == expected and len(kinds) == len(expected)
    single = random_comparison(["none", "0"], backbones=["prm"])
    assert [f.backbone for f in single.families] == [""] * 4
    assert (single.backbones, single.seeds) == (["prm"], [1, 2])


def test_counts() -> None:
    found = random_comparison(["random", "none", "0"], users=9, lists=4)
    assert (found.test_users, found.test_lists) == (9, 36)
    assert (found.bootstrap, found.permutations) == (DRAWS.bootstrap, DRAWS.permutations)
    assert found.variants == ["random", "none", "base"]


def test_order_of_variants_changes_nothing() -> None:
    assert random_comparison(["1", "none", "0"]) == random_comparison(["none", "0", "1"])


def test_a_real_difference_is_found_and_none_is_not() -> None:
    strength = {"none": 0.4, "noise": 0.4, "0": 1.2, "1": 1.2}
    draws = Draws(500, 999, 3)
    found = random_comparison(list(strength), draws, users=80, strength=strength).primary
    verdicts = {(d.of, d.to): d.significant for d in found.comparisons}
    assert verdicts == {
        ("round_1", "base"): False,
        ("round_1", "none"): True,
        ("base", "none"): True,
        ("noise", "none"): False,
        ("base", "noise"): True,
    }


def test_significance_takes_p_and_interval() -> None:
    comparison = random_comparison(["none", "0"]).primary.comparisons[0]
    yes = replace(comparison, p_holm=0.05, estimate=Estimate(0.1, 0.01, 0.2))
    assert yes.significant and yes.verdict == "significant"
    assert not replace(yes, p_holm=0.051).significant
    assert not replace(yes, estimate=Estimate(0.1, 0.0, 0.2)).significant
    assert replace(yes, estimate=Estimate(-0.1, -0.2, -0.01)).significant


def test_seeds_that_disagree_widen_the_interval() -> None:
    """All users gain .06 with one seed and lose .04 with the other, on average .01."""
    runs = {("prm", 1): 0.06, ("prm", 2): -0.04}
    base = {run: {f"u{n}": 0.5 for n in range(12)} for run in runs}
    one = {run: dict.fromkeys(base[run], 0.5 + shift) for run, shift in runs.items()}
    found = cells(cells_table({"none": base, "0": base, "1": one}), "ndcg@5")
    gained = family(found, "popularity", "ndcg@5", "", Draws(400, 9999, 1)).comparisons[0]
    assert gained.by_seed == [0.06, -0.04]
    assert gained.p > 0.5  # seeds that disagree, whatever the users say
    assert (gained.estimate.low, gained.estimate.high) == (-0.04, 0.06)
    assert not gained.significant


def test_power_is_of_the_main_comparison() -> None:
    found = main_power(by_hand())
    assert (found.of, found.to, found.users) == ("round_1", "base", 3)
    assert found.sought == 0.003
    paired = by_hand().of("round_1") - by_hand().of("base")
    assert found.seeds == len(paired)
    compared = family(by_hand(), "popularity", "ndcg@5", "", DRAWS).comparisons
    design = Design(components(paired), len(paired), 0.05 / len(compared))
    assert len(compared) == 3 and design.least_users == 7
    assert found.detectable is None  # 3 users, whose signs fall alike one time in four
    assert found.users_needed == users_needed(design, 0.003)


def test_slices_hold_the_main_differences_of_their_users_and_lists() -> None:
    found = random_comparison(ALL)
    assert [(s.by, s.name, s.users, s.lists) for s in found.slices] == [
        ("history", "short", 3, 9),
        ("history", "long", 2, 6),
        ("popularity", "head", 12, 12),
        ("popularity", "tail", 12, 12),
    ]
    assert [(c.of, c.to) for c in found.slices[0].contrasts] == [
        ("round_2", "base"),
        ("round_2", "history"),
        ("base", "history"),
        ("round_2", "none"),
        ("base", "none"),
        ("history", "none"),
    ]
    tables = random_tables(ALL)
    rows = tables.users.filter(pl.col("user").is_in(["u03", "u04"]), protocol="popularity")
    means = dict(rows.group_by("variant").agg(pl.col("ndcg@5").mean()).iter_rows())
    contrast = found.slices[1].contrasts[2].estimate
    assert contrast.value == pytest.approx(means["0"] - means["history"], abs=1e-6)
    tail = tables.by_class.filter(pl.col("class") == "tail")
    means = dict(tail.group_by("variant").agg(pl.col("ndcg@5").mean()).iter_rows())
    contrast = found.slices[3].contrasts[4].estimate
    assert contrast.value == pytest.approx(means["0"] - means["none"], abs=1e-6)


@pytest.mark.parametrize("missing", ["none", "0"])
def test_what_others_are_compared_with_must_be_there(missing: str) -> None:
    tables = random_tables([name for name in ("none", "0", "1") if name != missing])
    with pytest.raises(RecError, match=f"variant '{slug(missing)}' is missing"):
        compare(tables, PROTOCOLS, {}, DRAWS)


def test_names_of_variants() -> None:
    order = [*ALL[:8], "sft", "1", "2", "best"]
    slugs = [slug(variant) for variant in order]
    assert slugs[7:] == ["base", "sft", "round_1", "round_2", "best_of_n"]
    assert in_order(reversed(slugs)) == slugs
    assert last_round(slugs) == "round_2" and last_round(slugs[:9]) is None
    assert last_round(["round_10", "round_9"]) == "round_10"
    assert len({label(name) for name in slugs}) == len(slugs)
    assert label("round_2") == "DPO4Rec, round 2"
    for wrong in ("magic", "-1", "²", ""):
        with pytest.raises(RecError, match="is unknown"):
            slug(wrong)
        with pytest.raises(RecError, match="not the name"):
            label(wrong)


def test_examples_of_the_docstrings() -> None:
    for module in (families, names):
        found = doctest.testmod(module)
        assert found.failed == 0 and found.attempted
