from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from rec import report
from rec.comparison.names import BEST_SLUG, LABELS
from rec.comparison.result import Estimate
from rec.config import Knowledge, Reward
from rec.curves import REWARD_CURVES, reward_curves
from rec.errors import RecError
from rec.report_comparison import (
    LISTS,
    NOTES,
    Tile,
    comparisons_grid,
    secondary_grid,
    slices_grid,
    tiles,
)
from rec.report_grid import Grid, minus
from rec.report_tables import chain, examples, parameters
from rec.results import PROTOCOLS
from tests.page import Page
from tests.reported import HOSTILE, good, hostile, make_run
from tests.synthetic_run import pairs_table, prompts_table

SECTIONS = [
    "results",
    "metrics",
    "mediation",
    "rounds",
    "pairs",
    "sampling",
    "data",
    "browser",
    "parameters",
]


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
    assert not [a for _, a in page.elements if "style" in a]
    assert len(html.encode()) < 3_000_000


@pytest.mark.parametrize("make", [good, hostile])
def test_policy_allows_what_the_page_holds_and_nothing_else(make: Any) -> None:
    _, page = make()
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "style-src": sources(page.inside("style")),
        "script-src": sources(page.inside("script")[2:]),
    }
    assert len(page.inside("script")) == 5


def sources(texts: list[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)


def test_hostile_texts_stay_texts() -> None:
    html, page = hostile()
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    data = [{"type": "application/json", "id": name} for name in ("charts", "browser-data")]
    assert scripts == [*data, {}, {}, {}]
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert page.inside("title") == [f"DPO4Rec on {HOSTILE}"]
    assert "".join(page.inside("h1")) == f"DPO4Rec on {HOSTILE}"
    assert f"Liked: {HOSTILE}, film" in page.text
    assert f"{HOSTILE} chosen 1.8" in page.text and f"{HOSTILE} rejected 1.8" in page.text
    assert f"{HOSTILE}, 881249712" in page.inside("td")
    assert f"{HOSTILE}.csv" in page.inside("bdi")
    own = html.replace(page.inside("script")[2], "")
    assert "alert(1)</script>" not in own and "<img" not in own


def test_hostile_texts_stay_texts_in_data() -> None:
    html, page = hostile()
    for block in page.inside("script")[:2]:
        assert not set("<>&") & set(block)
        assert block in html
    assert f"{HOSTILE} chosen 1.8" in page.browser["texts"]
    assert f"{HOSTILE} A" in page.browser["titles"]


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
    assert len(charts) == 20

    def fields(name: str) -> list[dict[str, Any]]:
        return [row for values in charts[name]["datasets"].values() for row in values]

    for name in ("popularity", "uniform"):
        shown = [row["variant"] for row in fields(f"chart-values-{name}") if "variant" in row]
        assert shown[:3] == ["Popularity", "Random order", "No knowledge"]
        assert {"line": 0} in fields(f"chart-differences-{name}")
    assert len(fields("chart-margins")) > 2
    rounds = {(row["round"], row["epoch"]) for row in fields("chart-reward-ndcg")}
    assert rounds == {(t, e) for t in (1, 2) for e in range(1, 7)}
    losses = [row["loss"] for row in fields("chart-align-loss") if row["policy"] == "2"]
    assert losses[0] == pytest.approx(0.67)
    sides = {(r["policy"], r["side"]): r for r in fields("chart-align-ratios") if r["step"] == 12}
    assert {key: row["log_ratio"] for key, row in sides.items()} == {
        ("1", "chosen"): pytest.approx(-0.024),
        ("1", "rejected"): pytest.approx(-0.048),
        ("2", "chosen"): pytest.approx(-0.048),
        ("2", "rejected"): pytest.approx(-0.096),
    }
    rewards = {r["side"]: r["reward"] for r in fields("chart-align-rewards") if r["step"] == 12}
    assert rewards == {"chosen": pytest.approx(0.12), "rejected": pytest.approx(-0.12)}
    assert charts["chart-align-rewards"]["encoding"]["strokeDash"]["field"] == "side"
    assert fields("chart-align-kl")[-1]["kl"] == pytest.approx(0.0012)
    assert "http" not in json.dumps(charts)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme: int) -> None:
    """4.5 for texts and 3 for lines of charts, in light and in dark."""
    blocks = re.findall(r":root \{(.*?)\}", report._template("report.css"), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))

    def contrast(one: str, other: str) -> float:
        low, high = sorted(luminance(colours[name]) for name in (one, other))
        return (high + 0.05) / (low + 0.05)

    grounds = ("paper", "panel", "positive")
    texts = [(text, on) for text in ("ink", "muted", "good") for on in grounds]
    texts += [("ink", "mark"), ("ink", "mark-first"), ("link", "paper"), ("bad", "paper")]
    assert {pair: contrast(*pair) for pair in texts if contrast(*pair) < 4.5} == {}
    lines = [(f"c{n}", on) for n in range(1, 7) for on in ("paper", "panel")]
    assert {pair: contrast(*pair) for pair in lines if contrast(*pair) < 3} == {}


def test_tables_have_column_and_row_headers() -> None:
    _, page = good()
    scopes = [a.get("scope") for tag, a in page.elements if tag == "th"]
    assert set(scopes) == {"col", "colgroup", "row"}
    tables = [tag for tag, _ in page.elements if tag == "table"]
    regions = [a for _, a in page.elements if a.get("class") == "scroll"]
    assert len(tables) == len(regions) == 28
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)
    assert len([text for text in page.inside("caption") if text.strip()]) == 26  # not rejected rows


def test_results_are_written_with_intervals_and_verdicts() -> None:
    run = make_run()
    family = run.comparison.primary
    first = replace(family.comparisons[0], p_holm=0.0123, estimate=Estimate(-0.0125, -0.02, -0.001))
    changed = replace(
        family,
        values=family.values | {"round_2": Estimate(0.81, 0.8, 0.82)},
        to_base=family.to_base | {"round_2": first.estimate},
        comparisons=[first, *family.comparisons[1:]],
    )
    families = [changed, *run.comparison.families[1:]]
    page = Page(report.render(replace(run, comparison=replace(run.comparison, families=families))))
    words = " ".join(page.text.split())
    row = "after 2 rounds.8100 [.8000, .8200] −1.25 [−2.00, −0.10] significant0.012"
    assert f"DPO4Rec, round 2what the LLM writes {row}" in words
    assert "from the base LLM by −1.25 points (95% interval −2.00 to −0.10, Holm-corr" in words
    marked = [a["class"] for tag, a in page.elements if tag == "span" and "class" in a]
    assert "note worse" in marked


def test_the_main_findings_stand_at_the_top() -> None:
    run = make_run()
    family = run.comparison.primary
    first = replace(family.comparisons[0], p_holm=0.0123, estimate=Estimate(-0.0125, -0.02, -0.001))
    changed = replace(family, comparisons=[first, *family.comparisons[1:]])
    families = [changed, *run.comparison.families[1:]]
    found = tiles(replace(run.comparison, families=families))
    assert found[0] == Tile(
        "DPO4Rec, round 2, against the base LLM",
        "−1.25",
        "[−2.00, −0.10]",
        "significant, p 0.012",
        "worse",
    )
    assert [tile.name.split(", against ")[1] for tile in found[1:]] == [
        "history text without an LLM",
        "no knowledge",
    ]
    words = " ".join(good()[1].text.split())
    assert "First link of the chain that does not hold, round 2 Reliability “The reward" in words
    without = Page(report.render(make_run(rounds=0)))
    assert "First link" not in without.text
    assert "Base LLM, against history text without an LLM" in without.text


def test_every_protocol_has_its_table() -> None:
    _, page = good()
    assert page.inside("h3")[0] == "Negatives by popularity (main)"
    others = "Uniform negatives, the paper's protocol (secondary)"
    assert page.inside("summary")[0] == others
    assert page.inside("th").count("Random order") == 4  # with all metrics


def test_comparisons_by_hand() -> None:
    family = make_run().comparison.primary
    first = replace(
        family.comparisons[0],
        estimate=Estimate(0.0125, -0.02, 0.03),
        relative_percent=-1.8,
        effect_size=None,
        users_better=0.5,
        users_worse=0.25,
        by_seed=[0.02, -0.005],
        p=0.0004,
        p_holm=0.004,
    )
    grid = comparisons_grid(replace(family, comparisons=[first]))
    assert grid.lines[0].name == "DPO4Rec, round 2 − Base LLM"
    assert grid.lines[0].cells == [
        "+1.25 [−2.00, +3.00]",
        "−1.8%",
        "–",
        "50%, 25%",
        "+2.00 −0.50",
        "<0.001, corrected 0.004, not significant",
    ]


def test_secondary_families_are_a_line_each() -> None:
    compared = make_run().comparison
    grid = secondary_grid(compared)
    assert len(grid.lines) == len(compared.families) - 1 == 11
    assert grid.lines[0].name == "uniform, NDCG@5, all"
    assert grid.lines[-1].name == "uniform, MAP@5, prm"
    found = compared.family("uniform", "map@5", "prm").comparisons[0]
    assert grid.lines[-1].cells[0].endswith(f", p {found.p_holm:.3f}")
    assert {len(line.cells) for line in grid.lines} == {len(grid.columns) - 1}


def test_slices_are_explored_and_not_tested() -> None:
    run = make_run()
    grid = slices_grid(run.comparison)
    assert [line.name for line in grid.lines] == [
        "Short histories",
        "Long histories",
        "Positives from the head",
        "Positives from the tail",
    ]
    assert grid.lines[0].note == "3 users, 9 lists"
    assert "significant" not in str(grid)
    assert "Exploratory" in good()[1].text


def test_chain_by_hand() -> None:
    grid = chain(make_run())
    assert grid.columns == ["Step", "Base LLM", "Round 1", "Round 2"]
    assert cells(grid, "Identifiability, MRR") == ["0.1000", "0.3000", "0.5000"]
    assert cells(grid, "Identifiability, median rank") == ["40", "20", "13.3"]
    assert cells(grid, "Texts cut by the encoder") == ["0.0%", "1.0%", "2.0%"]
    assert cells(grid, "Reward model, NDCG@5") == ["–", "0.7800", "0.7900"]
    assert cells(grid, "Pairs") == ["–", "8", "8"]
    assert cells(grid, "Held-out pairs") == ["–", "3", "4"]
    assert cells(grid, "Mean margin") == ["–", "0.0450", "0.0450"]
    assert cells(grid, "Alignment accuracy") == ["–", "0.800", "0.800"]
    assert cells(grid, "Alignment margin") == ["–", "+1.25", "+1.25"]
    judgement = ".900 [.600, .980], above chance"
    assert cells(grid, "Held-out reward accuracy") == ["–", "–", judgement]
    final = cells(grid, "Difference to the base LLM")
    assert final[0] == "–"
    assert final[2].endswith("significant")


def test_chain_has_a_column_for_the_control() -> None:
    grid = chain(make_run(fine_tuned=True))
    assert grid.columns == ["Step", "Base LLM", "Round 1", "Round 2", "Fine-tuned"]
    assert cells(grid, "Identifiability, MRR")[3] == "0.1000"
    assert cells(grid, "Alignment accuracy") == ["–", "0.800", "0.800", "–"]
    assert cells(grid, "Pairs")[3] == "–"
    assert cells(grid, "Difference to the base LLM")[3].endswith("significant")


def test_page_says_what_is_read() -> None:
    run = make_run()
    told = replace(run.params, knowledge=Knowledge("both"), reward=Reward(text="joint"))
    page = Page(report.render(replace(run, params=told)))
    assert "Reward models read here history and response as one text: " in page.text
    assert "whose ranking is compared read history and response as two texts" in page.text


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
    assert 'policies = ["0", "1", "2"]' in found["general"]
    assert "length_ratio = null" in found["pairs"] and "deterministic = false" in found["sampling"]
    assert "machine" not in found
    assert "sha256" not in str(found) and "source" not in str(found)


def test_every_variant_and_protocol_is_explained() -> None:
    known = {*LABELS, BEST_SLUG}
    assert set(NOTES) == known and set(LISTS) == set(PROTOCOLS)
    _, page = good()
    assert all(note in page.text for note in (NOTES["noise"], LISTS["uniform"]))
    assert "what the LLM writes after 1 round" in page.text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("by -0.50 (-1.00 to +2.00)", "by −0.50 (−1.00 to +2.00)"),
        ("[-.064, .226]", "[−.064, .226]"),
        ("smollm2-135m, re-ranker prm, 2024-01-02", "smollm2-135m, re-ranker prm, 2024-01-02"),
    ],
)
def test_minus_signs_stand_before_numbers_alone(text: str, written: str) -> None:
    assert minus(text) == written


def test_run_without_rounds_has_a_page_without_pairs() -> None:
    run = make_run(rounds=0)
    assert run.reward_curves.is_empty() and run.reward_curves.columns == list(REWARD_CURVES)
    page = Page(report.render(run))
    assert "There are no pairs." in page.text
    places = {a["id"] for _, a in page.elements if a.get("class") == "chart"}
    assert places < set(page.charts) and not [name for name in places if "align" in name]
    assert "There was no round of alignment." in page.text
    assert "0 rounds of alignment" in page.text
    assert "the base LLM differs in NDCG@5 from history text" in page.text


def test_same_run_gives_the_same_page() -> None:
    assert report.render(make_run()) == good()[0]


@pytest.mark.parametrize("broken", [{}, {"models": [{"fold": 0}]}, {"models": 4}, [1], None])
def test_broken_reward_names_its_round(broken: Any) -> None:
    run = make_run()
    with pytest.raises(RecError, match=r"reward.json of round 2"):
        report.render(replace(run, rewards={1: run.rewards[1], 2: broken}))
    with pytest.raises(RecError, match=r"reward.json of round 2"):
        reward_curves({1: run.rewards[1], 2: broken})


@pytest.mark.parametrize("broken", [{}, {"protocols": {"popularity": {}}}, [1], None])
def test_broken_training_names_its_variant(broken: Any) -> None:
    with pytest.raises(RecError, match="training of 'items', prm"):
        report.render(replace(make_run(), training={("items", "prm"): [broken]}))
