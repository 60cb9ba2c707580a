from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from rec import report
from rec.curves import ALIGNMENT_CURVES, REWARD_CURVES, reward_curves
from rec.errors import RecError
from rec.evaluation import evaluate, variants
from rec.params import load_params
from rec.report_grid import Grid
from rec.report_tables import PAIR_NOTES, Run, chain, examples, pairs_grid, parameters
from tests.aligned import alignment_table, outcome
from tests.described import statistics
from tests.page import Page
from tests.synthetic_run import (
    SEEDS,
    curve,
    health,
    identifiability,
    pair_figures,
    pairs_table,
    params_file,
    prompts_table,
    random_runs,
    rejects_table,
)

HOSTILE = "<script>alert(1)</script> & </script><img src=x onerror=alert(2)> <!-- {{ 7*7 }} '\""
SECTIONS = [
    *("results", "chain", "reward", "alignment", "data", "sampling", "pairs", "parameters"),
]


def make_run(rounds: int = 2, text: str = "Loved films: Heat", title: str = "Heat") -> Run:
    with TemporaryDirectory() as folder:
        params = load_params(params_file(Path(folder), rounds, name=title))
    numbers = range(1, rounds + 1)
    rewards = {
        t: {
            "models": [
                {"fold": f, "valid_ndcg@5": 0.76 + 0.01 * (t + 2 * f), "curve": curve(0.7)}
                for f in range(2)
            ],
        }
        for t in numbers
    }
    lit = [alignment_table(t).with_columns(pl.lit(t, pl.Int64).alias("round")) for t in numbers]
    empty = pl.DataFrame(schema=dict(ALIGNMENT_CURVES))
    policies = params.policies
    outcomes = {t: outcome(pairs=10 * (t - 1)) for t in numbers}
    training = {"seeds": [{"seed": s, "best_epoch": 5, "valid_ndcg@5": 0.78} for s in SEEDS]}
    return Run(
        params=params,
        metrics=evaluate(
            random_runs(policies),
            {p: identifiability(p) for p in policies},
            {p: health() for p in policies},
            outcomes,
            100,
            seed=1,
        ),
        reward_curves=reward_curves(rewards),
        alignment_curves=pl.concat([empty, *(t.select(empty.columns) for t in lit)]),
        outcomes=outcomes,
        rewards=rewards,
        training={v: training for v in variants(policies) if v != "popularity"},
        pairs={t: pairs_table(t, text=text) for t in numbers},
        pairs_metrics={t: pair_figures(held_out=2 + t) for t in numbers},
        sampling={p: {**health(), "responses": 700 + p} for p in policies},
        statistics=statistics(),
        rejects=rejects_table(title),
        prompts=prompts_table(title),
    )


@cache
def good() -> tuple[str, Page]:
    html = report.render(make_run())
    return html, Page(html)


@cache
def hostile() -> tuple[str, Page]:
    html = report.render(make_run(text=HOSTILE, title=HOSTILE))
    return html, Page(html)


def cells(grid: Grid, name: str) -> list[str]:
    return next(line.cells for line in grid.lines if line.name == name)


def test_all_sections_are_there_and_linked() -> None:
    _, page = good()
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    labelled = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(labelled) <= set(page.ids)


@pytest.mark.parametrize("make", [good, hostile])
def test_page_loads_nothing_from_anywhere(make: Any) -> None:
    html, page = make()
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        assert not {"src", "srcset", "action", "data"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    (style,) = page.inside("style")
    assert "url(" not in style and "@import" not in style
    assert len(html.encode()) < 3_000_000


@pytest.mark.parametrize("make", [good, hostile])
def test_policy_allows_the_two_scripts_of_the_page_and_nothing_else(make: Any) -> None:
    _, page = make()
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    _, library, script = page.inside("script")
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()) for s in (library, script)]
    assert rules["script-src"].split() == [f"'sha256-{d.decode()}'" for d in digests]
    assert rules["default-src"] == "'none'"


def test_hostile_texts_stay_texts() -> None:
    html, page = hostile()
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "charts"}, {}, {}]
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert page.inside("title") == [f"DPO4Rec on {HOSTILE}"]
    assert "".join(page.inside("h1")) == f"DPO4Rec on {HOSTILE}"
    assert f"Liked: {HOSTILE}, film" in page.text
    assert f"{HOSTILE} chosen 1.8" in page.text and f"{HOSTILE} rejected 1.8" in page.text
    assert f"{HOSTILE}, 881249712" in page.inside("td")
    assert f"{HOSTILE}.csv" in page.inside("bdi")
    own = html.replace(page.inside("script")[1], "")
    assert "alert(1)</script>" not in own and "<img" not in own


def test_hostile_texts_stay_texts_in_chart_data() -> None:
    html, page = hostile()
    block = page.inside("script")[0]
    assert "<" not in block and ">" not in block
    titles = re.findall(r'"title": "(NDCG@5 on [^"]*(?:\\.[^"]*)*)"', block)
    assert json.dumps(page.charts["chart-values"]).count("NDCG@5 on <script>alert(1)</script>") == 1
    assert titles and block in html


def test_inlined_script_cannot_end_its_element() -> None:
    inline = report._inline("a('</script>'); b('</SCRIPT '); c('<!--<script>');\r\nd(1 < 2)")
    assert not re.search(r"</script|<script|<!--", inline, re.IGNORECASE)
    assert r"'\x3c/script>'" in inline
    assert inline.endswith("\nd(1 < 2)")


def test_every_chart_has_a_place_and_its_data() -> None:
    _, page = good()
    charts = page.charts
    places = [a["id"] for _, a in page.elements if a.get("class") == "chart"]
    assert sorted(charts) == sorted(places)
    assert len(charts) == 14

    def fields(name: str) -> list[dict[str, Any]]:
        return [row for values in charts[name]["datasets"].values() for row in values]

    assert [row["variant"] for row in fields("chart-values")][:2] == ["Popularity", "No knowledge"]
    assert "Popularity" not in [row.get("variant") for row in fields("chart-differences")]
    assert {"zero": 0} in fields("chart-differences")
    rounds = {(row["round"], row["epoch"]) for row in fields("chart-reward-ndcg")}
    assert rounds == {(t, e) for t in (1, 2) for e in range(1, 7)}
    losses = [row["loss"] for row in fields("chart-align-loss") if row["round"] == 2]
    assert losses[0] == pytest.approx(0.67)
    sides = {(r["round"], r["side"]): r for r in fields("chart-align-ratios") if r["step"] == 12}
    assert {key: row["log_ratio"] for key, row in sides.items()} == {
        (1, "chosen"): pytest.approx(-0.024),
        (1, "rejected"): pytest.approx(-0.048),
        (2, "chosen"): pytest.approx(-0.048),
        (2, "rejected"): pytest.approx(-0.096),
    }
    rewards = {r["side"]: r["reward"] for r in fields("chart-align-rewards") if r["step"] == 12}
    assert rewards == {"chosen": pytest.approx(0.12), "rejected": pytest.approx(-0.12)}
    assert charts["chart-align-rewards"]["encoding"]["strokeDash"]["field"] == "side"
    assert fields("chart-align-kl")[-1]["kl"] == pytest.approx(0.0012)
    assert "http" not in json.dumps(charts)


def test_tables_have_column_and_row_headers() -> None:
    _, page = good()
    scopes = [a.get("scope") for tag, a in page.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}
    tables = [tag for tag, _ in page.elements if tag == "table"]
    regions = [a for _, a in page.elements if a.get("class") == "scroll"]
    assert len(tables) == len(regions) == 16
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)


def test_results_are_written_with_intervals_and_verdicts() -> None:
    run = make_run()
    run.metrics["round_2"] |= {
        "ndcg@5": 0.81,
        "ndcg@5_low": 0.8,
        "ndcg@5_high": 0.82,
        "ndcg@5_vs_base": -0.0125,
        "ndcg@5_vs_base_low": -0.02,
        "ndcg@5_vs_base_high": 0.001,
    }
    page = Page(report.render(run))
    words = " ".join(page.text.split())
    assert "DPO4Rec, round 2.8100 [.8000, .8200]−1.25 [−2.00, +0.10] not significant" in words
    assert "from the base LLM by -1.25 NDCG@5 points (95% interval -2.00 to +0.10: not sig" in words


def test_chain_by_hand() -> None:
    grid = chain(make_run())
    assert grid.columns == ["Step", "Base LLM", "Round 1", "Round 2"]
    assert cells(grid, "Identifiability, MRR") == ["0.1000", "0.3000", "0.5000"]
    assert cells(grid, "Identifiability, median rank") == ["40", "20", "13.3"]
    assert cells(grid, "Reward model, NDCG@5") == ["–", "0.7800", "0.7900"]
    assert cells(grid, "Pairs") == ["–", "8", "8"]
    assert cells(grid, "Held-out pairs") == ["–", "3", "4"]
    assert cells(grid, "Mean margin") == ["–", "4.50", "4.50"]
    assert cells(grid, "Alignment accuracy") == ["–", "0.800", "0.800"]
    assert cells(grid, "Alignment margin") == ["–", "+1.25", "+1.25"]
    judgement = ".900 [.600, .980], above chance"
    assert cells(grid, "Held-out reward accuracy") == ["–", "–", judgement]
    final = cells(grid, "Difference to the base LLM")
    assert final[0] == "–"
    assert final[2].endswith("significant")


def test_page_names_the_loss_that_was_chosen() -> None:
    run = make_run()
    align = replace(run.params.align, loss="apo_zero")
    page = Page(report.render(replace(run, params=replace(run.params, align=align))))
    assert "2 rounds of alignment, loss apo_zero" in page.text
    assert "Loss: apo_zero (APO-zero)." in page.text
    assert "Likelihood displacement was not seen" in page.text


def test_examples_take_the_highest_margins_of_each_round_in_turn() -> None:
    pairs = {1: pairs_table(1, 8), 2: pairs_table(2, 3).sample(fraction=1, shuffle=True, seed=1)}
    found = examples(pairs, prompts_table())
    assert [(e["round"], e["margin"]) for e in found[:4]] == [
        (1, "0.0800"),
        (2, "0.0300"),
        (1, "0.0700"),
        (2, "0.0200"),
    ]
    assert [e["round"] for e in found].count(2) == 3
    assert len(found) == 10
    assert found[0] | {"history": ""} == {
        "round": 1,
        "user": "u08",
        "history": "",
        "chosen": "Loved films: Heat chosen 1.8",
        "rejected": "Loved films: Heat rejected 1.8",
        "chosen_score": "0.7800",
        "rejected_score": "0.7000",
        "margin": "0.0800",
    }
    assert found[0]["history"].endswith("film 8\nDisliked: Alien (1979)")


def test_counts_are_flat_and_readable() -> None:
    _, page = good()
    assert "length difference, mean" in " ".join(page.inside("th"))
    assert {"702", "81.25", "0.03"} <= set(page.inside("td"))


def test_pairs_by_hand() -> None:
    figures = pair_figures(held_out=0)
    grid = pairs_grid({1: pair_figures(), 2: figures})
    assert grid.columns == [
        "Pairs",
        "Round 1",
        "Round 1, held out",
        "Round 2",
        "Round 2, held out",
    ]
    assert cells(grid, "pairs") == ["8", "3", "8", "0"]
    assert cells(grid, "margin, median") == ["0.045", "0.02", "0.045", "–"]
    assert cells(grid, "length difference, chosen longer") == ["1", "1", "1", "–"]
    assert cells(grid, "dropped, margin") == ["31", "0", "31", "0"]
    assert cells(grid, "dropped pairs, margin") == ["40", "0", "40", "0"]
    assert cells(grid, "degenerate responses") == ["5", "0", "5", "0"]


def test_every_note_is_of_a_figure() -> None:
    assert set(PAIR_NOTES) <= {line.name for line in pairs_grid({1: pair_figures()}).lines}


@pytest.mark.parametrize("broken", [{}, {"held_out": {}}, {"held_out": 4}, [1], None])
def test_broken_pair_figures_name_their_round(broken: Any) -> None:
    run = make_run()
    with pytest.raises(RecError, match="pairs of round 2: no held-out figures"):
        report.render(replace(run, pairs_metrics={1: run.pairs_metrics[1], 2: broken}))


def test_parameters_leave_out_sources_and_the_machine() -> None:
    params = make_run(title="ml-100k").params
    found = dict(parameters(params))
    assert f"bootstrap = {params.evaluate.bootstrap}" in found["evaluate"]
    assert "name = ml-100k" in found["data"]
    assert "policies = [0, 1, 2]" in found["general"]
    assert "machine" not in found
    assert "sha256" not in str(found) and "source" not in str(found)


def test_run_without_rounds_has_a_page_without_pairs() -> None:
    run = make_run(rounds=0)
    assert run.reward_curves.is_empty() and run.reward_curves.columns == list(REWARD_CURVES)
    page = Page(report.render(run))
    assert "There are no pairs." in page.text
    assert "There was no round of alignment." in page.text
    assert "0 rounds of alignment" in page.text
    assert "the base LLM differs from no knowledge" in page.text


def test_same_run_gives_the_same_page() -> None:
    assert report.render(make_run()) == good()[0]


@pytest.mark.parametrize("broken", [{}, {"models": [{"fold": 0}]}, {"models": 4}, [1], None])
def test_broken_reward_names_its_round(broken: Any) -> None:
    run = make_run()
    with pytest.raises(RecError, match=r"reward.json of round 2"):
        report.render(replace(run, rewards={1: run.rewards[1], 2: broken}))
    with pytest.raises(RecError, match=r"reward.json of round 2"):
        reward_curves({1: run.rewards[1], 2: broken})


@pytest.mark.parametrize("broken", [{}, {"seeds": [{"seed": 1}]}, [1], None])
def test_broken_training_names_its_variant(broken: Any) -> None:
    with pytest.raises(RecError, match="training of variant 'items'"):
        report.render(replace(make_run(), training={"items": broken}))
