from __future__ import annotations

from typing import Any

import pytest

from rec.errors import RecError
from rec.results import Estimate, level, points, results_plot, summary, text_table
from tests.synthetic_run import compare, random_runs, small_runs


def test_table_is_aligned_within_100_columns() -> None:
    table = text_table(compare(random_runs([0, 1])))
    lines = table.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2].index(".5687", 30) == lines[0].index("MAP@5") == lines[4].rindex(".7676")
    assert table.isascii()
    assert "12 test users, 36 lists, 2 seeds" in table
    assert "200 resamples" in table
    assert "chance MRR 0.0253" in table


def test_table_says_which_differences_are_significant() -> None:
    metrics = compare(small_runs())
    metrics["round_1"] |= {"ndcg@5_vs_base_low": -0.01}
    lines = {line[:16].strip(): line for line in text_table(metrics).splitlines()[:6]}
    assert "+5.00 [-1.00 +5.00]" in lines["DPO4Rec, round 1"]
    assert lines["DPO4Rec, round 1"].endswith("  not significant")
    assert lines["Popularity"].split()[-1] == "significant"
    assert lines["Popularity"].split()[-2] == "-20.00]"
    assert lines["Base LLM (KAR)"].endswith(" -")


def test_table_shows_identifiability_of_llms_and_dashes_elsewhere() -> None:
    texts = text_table(compare(small_runs())).split("\n\n")[1].splitlines()[2:]
    cells = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in texts}
    assert cells["No knowledge"] == ["-", "-"]
    assert cells["Base LLM (KAR)"] == ["0.1000", "40"]
    assert cells["DPO4Rec, round 1"] == ["0.3000", "20"]


def test_summary_follows_the_numbers() -> None:
    metrics = compare(small_runs())
    assert summary(metrics) == (
        "Over 3 test users, the LLM after 1 round of DPO differs from the base LLM by +5.00 NDCG@5 "
        "points (95% interval +5.00 to +5.00: significant) and from no knowledge by +15.00 NDCG@5 "
        "points (95% interval +15.00 to +15.00: significant)."
    )
    metrics["round_1"] |= {"ndcg@5_vs_base_low": -0.02}
    assert "+5.00 NDCG@5 points (95% interval -2.00 to +5.00: not significant)" in summary(metrics)
    del metrics["round_1"]
    assert summary(metrics).startswith("Over 3 test users, the base LLM differs from no knowledge")


NAMES: dict[str, Any] = {
    name: {}
    for name in (
        "none",
        "base",
        "identifiability",
        "test_users",
        "test_lists",
        "seeds",
        "bootstrap",
    )
}


@pytest.mark.parametrize("broken", [[], {}, {"base": {}}, NAMES | {"base": 3}, 7])
def test_what_is_not_metrics_is_refused(broken: Any) -> None:
    with pytest.raises(RecError, match="metrics: "):
        summary(broken)


def test_numbers_are_written_with_signs_and_fixed_digits() -> None:
    estimate = Estimate(0.0096, -0.00001, 0.012)
    assert points(estimate) == "+0.96 [+0.00, +1.20]"
    assert level(Estimate(0.79731, 0.79, 1.0)) == ".7973 [.7900, 1.0000]"


def test_plot_table_holds_values_and_ends() -> None:
    table = results_plot(compare(small_runs()))
    assert table.columns == ["variant", "value", "low", "high"]
    assert table["variant"][2] == "Base LLM (KAR)"
    assert table["value"][2] == 0.6
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
