"""rec.report_browser: what the browser of pairs and users holds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec import report_browser
from rec.errors import RecError
from rec.report_browser import Browsed, as_json, browser
from rec.rerank.metrics import ranked_ndcg
from tests.synthetic_run import BASELINES, browsed, pairs_table, prompts_table

PROTOCOL = "popularity"


def value_of(shown: Browsed) -> dict[str, Any]:
    found = browser(shown, PROTOCOL)
    assert json.loads(as_json(found)) == found
    return found


def test_pairs_are_whole_and_begin_with_the_largest_margin() -> None:
    found = value_of(browsed())
    assert len(found["pairs"]) == 8 + 8 + 2 + 3
    number, split, user, history, chosen, rejected, better, worse = found["pairs"][0]
    assert (number, split, user, better, worse) == (1, "train", "u08", 0.78, 0.7)
    texts = found["texts"]
    assert texts[history].endswith("film 8\nDisliked: Alien (1979)")
    assert texts[chosen] == "Loved films: Heat chosen 1.8"
    assert texts[rejected] == "Loved films: Heat rejected 1.8"
    margins = [pair[6] - pair[7] for pair in found["pairs"]]
    assert margins == sorted(margins, reverse=True)
    assert [pair[0] for pair in found["pairs"] if pair[1] == "valid"].count(2) == 3


def test_users_have_the_first_text_of_each_policy() -> None:
    found = value_of(browsed())
    names = [name for name, _ in found["variants"]]
    assert names[-3:] == ["Base LLM", "DPO4Rec, round 1", "DPO4Rec, round 2"]
    assert [told for _, told in found["variants"]] == [False] * len(BASELINES) + [True] * 3
    assert [user[0] for user in found["users"]] == [f"u{n:02}" for n in range(12)]
    _, split, history, texts, values, number, lists = found["users"][3]
    assert (split, number, len(lists)) == ("test", 3, 3)
    assert found["texts"][history].startswith("Liked: Heat, film 3")
    written = [None if n is None else found["texts"][n] for n in texts]
    told = [f"Loved films: Heat by {p} response 3.0" for p in "012"]
    assert written == [None] * len(BASELINES) + told
    assert len(values) == len(names) + 1


def test_values_are_means_over_backbones_and_seeds() -> None:
    shown = browsed()
    found = value_of(shown)
    metrics = shown.metrics.filter(user="u03", variant="2", protocol=PROTOCOL)
    assert metrics.height == 4
    assert found["users"][3][4][-1] == pytest.approx(metrics["ndcg@5"].mean(), abs=1e-5)
    assert found["users"][3][4][0] == 1.0  # the lists have their positives first


def test_a_list_in_the_order_of_each_variant() -> None:
    shown = browsed()
    found = value_of(shown)
    titles, labels, value, rankings = found["users"][0][6][1]
    assert [found["titles"][n] for n in titles] == [f"Heat {x}" for x in "DEFABCGHIJ"]
    assert (labels, value) == ([1, 1, 1] + [0] * 7, 1.0)
    run = shown.runs["2"].filter(list="u00-1", protocol=PROTOCOL)
    places, reached = rankings[-1]
    assert places == run["places"][0].to_list()
    assert [labels[place] for place in places] == run["labels"][0].to_list()
    assert reached == pytest.approx(ranked_ndcg(run["labels"].to_list(), 5)[0], abs=1e-5)


def test_years_stand_behind_titles() -> None:
    shown = browsed()
    items = shown.items.with_columns(year=pl.when(item="d").then(1995).cast(pl.Int32))
    assert {"Heat D (1995)", "Heat A"} <= set(value_of(replace(shown, items=items))["titles"])


def test_texts_stand_once() -> None:
    shown = browsed()
    same = {number: pairs_table(1) for number in (1, 2)}
    texts = value_of(replace(shown, pairs=same))["texts"]
    assert len(texts) == len(set(texts))
    assert texts.count("Loved films: Heat chosen 1.8") == 1


def test_ids_that_are_numbers_are_in_their_order() -> None:
    names = {f"u{n:02}": str(n * n) for n in range(12)}
    shown = browsed()
    users = shown.users.with_columns(pl.col("user").replace(names | {"u03": "ada"}))
    found = [user[0] for user in value_of(replace(shown, users=users))["users"]]
    assert found == ["0", "1", "4", "16", "25", "36", "49", "64", "81", "100", "121", "ada"]


def test_train_users_have_texts_and_no_lists() -> None:
    shown = browsed()
    row = ["t1", "train", 5, 3]
    users = pl.concat([shown.users, pl.DataFrame([row], shown.users.schema, orient="row")])
    prompts = prompts_table(users=1).with_columns(key=pl.lit("user:t1"), user=pl.lit("t1"))
    responses = {
        policy: pl.concat([table, table.head(1).with_columns(key=pl.lit("user:t1"))])
        for policy, table in shown.responses.items()
    }
    both = pl.concat([shown.prompts, prompts])
    found = value_of(replace(shown, users=users, prompts=both, responses=responses))["users"]
    user = next(user for user in found if user[0] == "t1")
    assert [n is None for n in user[3]] == [True] * len(BASELINES) + [False] * 3
    assert user[4:] == [[None] * (len(BASELINES) + 4), 0, []]


def test_more_lists_are_counted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_browser, "MOST_LISTS", 2)
    user = value_of(browsed())["users"][0]
    assert (user[5], len(user[6])) == (3, 2)


@pytest.mark.parametrize(
    ("name", "most", "left_out"),
    [
        ("MOST_PAIRS", 4, {"pairs": 17, "users": 0}),
        ("MOST_USERS", 5, {"pairs": 0, "users": 7}),
    ],
)
def test_no_more_than_the_page_has_room_for(
    monkeypatch: pytest.MonkeyPatch, name: str, most: int, left_out: dict[str, int]
) -> None:
    every = value_of(browsed())
    monkeypatch.setattr(report_browser, name, most)
    found = value_of(browsed())
    assert found["left_out"] == left_out
    assert every["left_out"] == {"pairs": 0, "users": 0}
    assert [user[0] for user in found["users"]] == [
        user[0] for user in every["users"] if user[0] in {one[0] for one in found["users"]}
    ]


@pytest.mark.parametrize("most", [0, 1_500, 2_500])
def test_no_more_bytes_than_the_page_has_room_for(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(report_browser, "MOST_PAIR_BYTES", most)
    monkeypatch.setattr(report_browser, "MOST_USER_BYTES", most)
    found = value_of(browsed(text="Liebesfilme: Die fabelhafte Welt der Amélie " * 3))
    frame = {**found, "texts": [], "titles": [], "pairs": [], "users": []}
    assert len(as_json(found).encode()) <= len(as_json(frame).encode()) + 2 * most
    assert (found["pairs"] == []) == (most == 0)
    assert found["left_out"]["pairs"] == 21 - len(found["pairs"]) > 0


def test_a_run_of_other_lists_is_named() -> None:
    shown = browsed()
    short = shown.lists.with_columns(pl.col("items", "labels").list.head(9))
    with pytest.raises(RecError, match=r"runs of 'none': the places of list 'u\d\d-0' are \["):
        browser(replace(shown, lists=short), PROTOCOL)


def test_a_run_without_the_protocol_is_named() -> None:
    with pytest.raises(RecError, match="runs of 'none': no list of protocol shown"):
        browser(browsed(), "shown")


def test_without_rounds_there_are_users_alone() -> None:
    found = value_of(browsed(0))
    assert found["pairs"] == [] and len(found["users"]) == 12


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_safe_inside_a_script_and_comes_back(text: str) -> None:
    made = as_json({"a": [text]})
    assert not set("<>&") & set(made)
    assert json.loads(made) == {"a": [text]}
