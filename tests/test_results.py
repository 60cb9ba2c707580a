from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rec.comparison.result import Comparison, Difference, Estimate
from rec.errors import RecError
from rec.results import (
    basis,
    heading,
    level,
    p_value,
    points,
    results_plot,
    rows,
    summary,
    text_tables,
    texts,
)
from tests.synthetic_run import comparison

METRICS: dict[str, Any] = {
    "identifiability": {
        "chance": {"mrr": 0.0253},
        "base": {"mrr": 0.1, "median_rank": 40.0, "cut": 0.0},
        "round_1": {"mrr": 0.3, "median_rank": 13.333333, "cut": 0.0},
    }
}


def told(made: Comparison, of: str, to: str, **changed: Any) -> Comparison:
    """The comparison with another difference of two variants in the primary family."""
    family = made.primary
    comparisons = [
        replace(d, **changed) if (d.of, d.to) == (of, to) else d for d in family.comparisons
    ]
    assert comparisons != family.comparisons
    return replace(made, families=[replace(family, comparisons=comparisons), *made.families[1:]])


def test_every_protocol_has_a_table_within_100_columns() -> None:
    made = comparison(told=2, fine_tuned=True)
    table = text_tables(made, METRICS)
    assert max(map(len, table.splitlines())) <= 100
    assert table.isascii()
    blocks = table.split("\n\n")
    assert [block.splitlines()[0] for block in blocks[:3]] == [
        "Negatives by popularity (main)",
        "Uniform negatives, the paper's protocol (secondary)",
        "Comparisons by NDCG@5 (primary); better and worse: shares of users",
    ]
    for block in blocks[:2]:
        assert len(block.splitlines()) == 3 + 12
        assert "Fine-tuned on chosen" in block and "Best of N (sees labels)" in block
    assert "12 test users, 36 lists, 2 seeds, re-rankers dlcm, prm" in table
    assert "200 resamples" in table and "199 permutations" in table
    assert "an upper bound and no method" in table


def test_table_shows_the_comparison_with_the_base() -> None:
    yes = {"p_holm": 0.0004, "estimate": Estimate(0.05, 0.01, 0.09)}
    made = told(comparison(), "round_2", "base", **yes)
    made = told(made, "base", "none", p_holm=0.2)
    main = text_tables(made, METRICS).split("\n\n")[0].splitlines()
    cells = {line[:22].strip(): line.split() for line in main}
    assert cells["DPO4Rec, round 2"][-2:] == ["<0.001", "yes"]
    assert cells["No knowledge"][-2:] == ["0.200", "no"]
    assert cells["Random order"][-2:] == ["-", "-"]
    assert cells["Base LLM"][-3:] == ["-", "-", "-"]


def test_difference_to_base_is_of_the_row() -> None:
    made = comparison()
    found = {row.slug: row for row in rows(made, "uniform")}
    family = made.family("uniform", "ndcg@5")
    assert found["none"].vs_base == family.to_base["none"]
    assert found["none"].test == family.comparison("base", "none")
    assert found["random"].test is None and found["random"].p_text == "-"
    assert found["base"].vs_base is None
    assert found["base"].map == made.family("uniform", "map@5").values["base"]


def test_no_best_of_n_no_note() -> None:
    assert not any("upper bound" in line for line in basis(comparison()))
    assert any("upper bound" in line for line in basis(comparison(told=2)))


def test_single_protocol_is_neither_main_nor_secondary() -> None:
    made = replace(comparison(), protocols=["shown"])
    assert heading(made, "shown") == "Lists as users were shown them"


def test_identifiability_is_of_texts() -> None:
    table = text_tables(comparison(), METRICS).split("\n\n")[3].splitlines()
    assert table[3].split() == ["Base", "LLM", "0.1000", "40"]
    assert table[4].split()[-2:] == ["0.3000", "13.3"]
    assert table[5].split() == ["Chance", "0.0253", "-"]
    assert "Identifiability" not in text_tables(comparison(), {"identifiability": {}})


POWERLESS = {"p_holm": 0.4, "estimate": Estimate(0.0008, -0.0018, 0.0034)}
CLEAR = {"p_holm": 0.0002, "estimate": Estimate(0.05, 0.01, 0.09)}


def made_summary(**first: Any) -> Comparison:
    made = comparison()
    made = told(made, "round_2", "base", **first)
    made = told(made, "round_2", "history", p_holm=0.03, estimate=Estimate(-0.02, -0.03, -0.01))
    made = told(made, "round_2", "none", **CLEAR)
    assert made.power is not None
    power = replace(made.power, sought=0.00306, users_needed=4100, detectable=0.0124)
    ten = replace(made.primary, comparisons=made.primary.comparisons[:10])
    return replace(made, power=power, families=[ten, *made.families[1:]])


def test_summary_follows_the_numbers() -> None:
    assert summary(made_summary(**POWERLESS)) == (
        "Over 12 test users, 2 seeds and re-rankers dlcm, prm, on lists with negatives by "
        "popularity, the LLM after 2 rounds of DPO differs in NDCG@5 from the base LLM by +0.08 "
        "points (95% interval -0.18 to +0.34, Holm-corrected p = 0.400: not significant); from "
        "history text without an LLM by -2.00 points (95% interval -3.00 to -1.00, Holm-corrected "
        "p = 0.030: significant); from no knowledge by +5.00 points (95% interval +1.00 to +9.00, "
        "Holm-corrected p <0.001: significant). By the spread that was seen, 12 users and 2 seeds "
        "can show a difference of 1.24 points or more from the base LLM with 80% power at the "
        "level of 0.005 (0.05 corrected for 10 comparisons); to show 0.5% of the base LLM's value "
        "(0.31 points), it takes 4,100 users with 2 seeds."
    )


def test_power_note_says_what_is_short() -> None:
    made = made_summary(**POWERLESS)
    assert made.power is not None
    text = summary(replace(made, power=replace(made.power, users_needed=None, detectable=None)))
    assert "12 users and 2 seeds can show no difference from the base LLM with 80% power" in text
    assert text.endswith(
        "(0.31 points), no number of users is enough with 2 seeds: seeds are what is short."
    )


def test_a_significant_difference_needs_no_power_note() -> None:
    assert "80% power" not in summary(made_summary(**CLEAR))


def test_an_interval_over_0_is_not_significant_whatever_p() -> None:
    text = summary(made_summary(p_holm=0.001, estimate=Estimate(0.05, -0.01, 0.09)))
    assert "-1.00 to +9.00, Holm-corrected p = 0.001: not significant); from history" in text
    assert "80% power" in text


def test_summary_without_rounds_is_of_the_base_llm() -> None:
    made = comparison(rounds=0)
    text = summary(made)
    assert "the base LLM differs in NDCG@5 from history text without an LLM by" in text
    assert "; from no knowledge by" in text and "from the base LLM" not in text
    assert ("80% power" in text) == (not made.primary.comparisons[0].significant)
    one = summary(replace(comparison(rounds=1), seeds=[1], backbones=["prm"]))
    assert "12 test users, 1 seed and re-ranker prm, on" in one
    assert "the LLM after 1 round of DPO" in one


def test_nothing_compared_is_nothing_to_sum_up() -> None:
    made = comparison()
    family: Any = replace(made.primary, comparisons=list[Difference]())
    with pytest.raises(RecError, match="nothing to sum up"):
        summary(replace(made, families=[family]))


@pytest.mark.parametrize(
    "broken", [[], {}, 7, {"identifiability": 3}, {"identifiability": {"base": {}}}]
)
def test_what_are_no_figures_is_refused(broken: Any) -> None:
    with pytest.raises(RecError, match="figures: "):
        texts(broken)


def test_a_variant_without_a_value_is_named() -> None:
    made = comparison()
    with pytest.raises(RecError, match="protocol popularity has no value of 'sft'"):
        rows(replace(made, variants=[*made.variants, "sft"]), "popularity")


def test_numbers_are_written_with_signs_and_fixed_digits() -> None:
    estimate = Estimate(0.0096, -0.00001, 0.012)
    assert points(estimate) == "+0.96 [+0.00, +1.20]"
    assert level(Estimate(0.79731, 0.79, 1.0)) == ".7973 [.7900, 1.0000]"
    assert [p_value(p) for p in (0.00099, 0.001, 0.0496, 1.0)] == [
        "<0.001",
        "0.001",
        "0.050",
        "1.000",
    ]


def test_plot_table_holds_values_and_ends_of_each_protocol() -> None:
    made = comparison()
    table = results_plot(made)
    assert table.columns == ["protocol", "variant", "value", "low", "high"]
    base = table.filter(variant="Base LLM")
    assert base["protocol"].to_list() == ["popularity", "uniform"]
    assert base["value"][1] == made.family("uniform", "ndcg@5").values["base"].value
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
