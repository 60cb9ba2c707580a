"""Model cards: what they say is what the run found, and they are Markdown that renders."""

from __future__ import annotations

import pytest
import yaml

from rec.cards import Adapter, Ranker, adapter_card, ranker_card
from rec.comparison.result import Estimate
from rec.config import Params
from rec.params import load_params
from rec.results import level, summary
from tests.aligned import outcome
from tests.synthetic_run import comparison, curve, pair_figures, params_file

DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    return load_params(params_file(tmp_path_factory.mktemp("params"), 2, True))


def adapter(policy: str = "2", pairs: int = 10) -> Adapter:
    return Adapter(policy, pair_figures(), outcome(pairs=pairs), DIGEST)


def ranker() -> Ranker:
    training = {"best_epoch": 5, "valid_ndcg@5": 0.78, "curve": curve(0.73)}
    own = {"popularity": Estimate(0.61234, 0.58, 0.64), "uniform": Estimate(0.7, 0.65, 0.75)}
    return Ranker("2", "dlcm", 1, 123_456, training, own)


def header(card: str) -> dict[str, object]:
    """The metadata between the first two lines of dashes."""
    _, metadata, _ = card.split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(metadata)
    return found


def tables(card: str) -> list[list[str]]:
    """The rows of each table, with a blank line before and behind it."""
    found: list[list[str]] = []
    before = ""
    for line in card.split("\n"):
        if line.startswith("|"):
            if not before.startswith("|"):
                assert before == "", line
                found.append([])
            found[-1].append(line)
        else:
            assert not before.startswith("|") or line == "", before
        before = line
    return found


def test_adapter_says_what_it_was_trained_on(params: Params) -> None:
    card = adapter_card(params, comparison(fine_tuned=True), adapter())
    assert header(card)["base_model"] == params.llm.name
    assert " reading the response alone, " in card
    figures = pair_figures()
    assert f"| pairs | {figures['pairs']} of round 2, of {figures['users_with_pair']} users" in card
    assert f"has sha256 {DIGEST}" in card
    assert "| starts from | policy 1 |" in card
    assert f"| loss | {params.align.loss}, beta {params.align.beta} |" in card
    assert "| reward accuracy on 10 pairs of validation users | 0.90 (0.60 to 0.98)" in card


def test_the_fine_tuned_control_has_no_beta(params: Params) -> None:
    card = adapter_card(params, comparison(fine_tuned=True), adapter("sft"))
    assert "| loss | sft |" in card
    assert "| starts from | the base LLM |" in card
    assert "of round 1, of" in card


def test_without_held_out_pairs_no_accuracy_is_said(params: Params) -> None:
    card = adapter_card(params, comparison(fine_tuned=True), adapter(pairs=0))
    assert "reward accuracy" not in card


def test_ranker_says_how_it_was_trained(params: Params) -> None:
    card = ranker_card(params, comparison(fine_tuned=True), ranker())
    assert card.count("# DLCM with DPO4Rec, round 2") == 1
    assert "| size | 123456 parameters;" in card
    assert "at epoch 5 of 6" in card
    assert "NDCG@5 0.7800" in card


def test_ranker_says_what_it_reaches_itself(params: Params) -> None:
    """Its own values stand apart from the experiment's; of its file is the main protocol's."""
    found = comparison(fine_tuned=True)
    own, experiment = tables(ranker_card(params, found, ranker()))[-2:]
    assert own == [
        "| trained and tested on | own NDCG@5 |",
        "| --- | --- |",
        "| Negatives by popularity (main): this model | .6123 [.5800, .6400] |",
        "| Uniform negatives, the paper's protocol (secondary): a model of its own, which is not in"
        " this folder | .7000 [.6500, .7500] |",
    ]
    assert experiment[0].startswith("| mean of the experiment | Negatives by popularity (main) |")
    mean = level(found.primary.values["round_2"])
    (row,) = [line for line in experiment if line.startswith("| DPO4Rec, round 2 ")]
    assert row.startswith(f"| DPO4Rec, round 2 (this model among them) | {mean} |")


@pytest.mark.parametrize("card", ["adapter", "ranker"])
def test_results_are_those_of_the_comparison(params: Params, card: str) -> None:
    found = comparison(fine_tuned=True)
    text = (
        adapter_card(params, found, adapter())
        if card == "adapter"
        else ranker_card(params, found, ranker())
    )
    assert summary(found) in text
    results = tables(text)[-1]
    assert len(results) == 2 + len(found.variants)
    assert len({row.count("|") for row in results}) == 1
    marked = [row for row in results if "(this model" in row]
    assert len(marked) == 1 and marked[0].startswith("| DPO4Rec, round 2")
    assert "means over dlcm, prm and 2 seeds,\nwith 95% intervals over 12 test users" in text
    assert text.endswith(".\n") and not text.endswith("\n\n")
