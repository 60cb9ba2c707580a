"""rec.inference.histories: from what is written to the tables that the pipeline reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.inference.catalogue import Catalogue
from rec.inference.entries import Entry, text_entries
from rec.inference.histories import (
    MOST_CANDIDATES,
    History,
    Scale,
    interactions,
    prepared_history,
    prepared_rows,
    prompts,
    resolve,
    resolve_candidates,
)
from rec.tables import INTERACTIONS, ITEMS, PROMPTS, check_schema
from tests.inference.project import FILMS, SPLITS, items_table

RATED, UNRATED = Scale(1, 5, rated=True), Scale(1, 5, rated=False)
CATALOGUE = Catalogue(items_table())


def history(text: str, scale: Scale = RATED) -> History:
    return resolve(text_entries(text, "--history", rated=scale.rated), CATALOGUE, scale)


def test_items_in_the_order_in_which_they_are_written() -> None:
    found = history("Toy Story:5, Fargoo:3.5, #187:1")
    assert (found.items, found.ratings) == (("1", "100", "187"), (5, 3.5, 1))
    assert list(map(str, found.matches)) == [
        "Toy Story → Toy Story (1995)",
        "Fargoo → Fargo (1996)",
        "#187 → The Godfather: Part II (1974)",
    ]


def test_timestamps_decide_the_order() -> None:
    rows = [("50", 5, 30.0), ("100", 4, 10.5), ("1", 3, 30.0)]
    entries = [Entry("f", item, rating=rating, timestamp=time) for item, rating, time in rows]
    found = resolve(entries, CATALOGUE, RATED)
    assert (found.items, found.ratings) == (("100", "50", "1"), (4, 5, 3))
    assert found.matches == ()


def test_the_later_of_two_ratings_of_an_item_counts() -> None:
    found = history("Fargo:1, Babe:2, Fargo (1996):5")
    assert (found.items, found.ratings) == (("8", "100"), (2, 5))


def test_without_ratings_all_are_the_highest() -> None:
    found = history("Maybe, Maybe Not, Fargo", UNRATED)
    assert (found.items, found.ratings) == (("534", "100"), (5, 5))
    assert resolve([Entry("f", "1", rating=2)], CATALOGUE, UNRATED).ratings == (2,)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (
            [Entry("f: line 2", "1", rating=6)],
            "f: line 2: Toy Story (1995): the rating 6 is out of",
        ),
        ([Entry("f", "1", rating=0.5)], "the rating 0.5 is out of range; it must be 1 to 5"),
        ([Entry("f", "1")], "f: Toy Story (1995) has no rating; it must be 1 to 5"),
        ([Entry("f: line 9", "x", rating=1)], "f: line 9: no item has the id 'x'"),
        ([Entry("f", text="Sabrina", rating=1)], "f: 'Sabrina' could be #274"),
        ([Entry("f", text="Babe, Alien", rating=1)], "; has each title a rating?"),
        (
            [Entry("f", "1", rating=1, timestamp=1), Entry("f: line 3", "50", rating=1)],
            "f: line 3: the timestamp is missing; give all items one, or none",
        ),
    ],
)
def test_what_is_wrong(entries: list[Entry], said: str) -> None:
    with pytest.raises(RecError) as raised:
        resolve(entries, CATALOGUE, RATED)
    assert said in str(raised.value)


def test_candidates_count_once_in_their_order() -> None:
    entries = text_entries("Fargo, 50, Toy Story, Star Wars, Fargo (1996)", "c", rated=False)
    found = resolve_candidates(entries, CATALOGUE)
    assert [match.item for match in found] == ["100", "50", "1"]
    assert [match.text for match in found] == ["Fargo", "50", "Toy Story"]


def test_too_many_candidates() -> None:
    rows: list[tuple[Any, ...]] = [
        (str(n), f"Film {n}", None, [], 0, n) for n in range(MOST_CANDIDATES + 1)
    ]
    many = Catalogue(pl.DataFrame(rows, schema=dict(ITEMS), orient="row"))
    entries = [Entry("c", str(n)) for n in range(MOST_CANDIDATES + 1)]
    assert len(resolve_candidates(entries[1:], many)) == MOST_CANDIDATES
    with pytest.raises(RecError, match="c: 5001 candidates; 5000 are the most"):
        resolve_candidates(entries, many)


def test_the_table_of_interactions() -> None:
    table = interactions({"b": History(("1", "50"), (5, 2.5)), "a": History(("8",), (1,))})
    check_schema(table, INTERACTIONS, "interactions")
    assert table.select("user", "item", "rating", "position", "part").rows() == [
        ("a", "8", 1, 0, "profile"),
        ("b", "1", 5, 0, "profile"),
        ("b", "50", 2.5, 1, "profile"),
    ]


def test_the_prompt_of_a_prepared_history_is_the_pipelines(params: Params) -> None:
    """Byte for byte, whether the history comes from the tables or as it would be written."""
    for user in SPLITS:
        (row,) = prepared_rows(user, layout.PROMPTS, PROMPTS).to_dicts()
        prepared = prepared_history(user, layout.INTERACTIONS)
        labels = [CATALOGUE.label(item) for item in prepared.items]
        written = ", ".join(
            f"{label}:{rating:g}" for label, rating in zip(labels, prepared.ratings, strict=True)
        )
        typed = resolve(text_entries(written, "t", rated=True), CATALOGUE, Scale.of(params))
        assert (typed.items, typed.ratings) == (prepared.items, prepared.ratings)
        (made,) = prompts({user: typed}, items_table(), params).to_dicts()
        assert {**row, "split": "new"} == made


def test_the_scale_of_data_without_dislikes(params: Params) -> None:
    assert Scale.of(params) == RATED
    liked = replace(params, data=replace(params.data, positive_rating=1.0))
    assert Scale.of(liked) == UNRATED
    (row,) = prompts({"u": History(("1", "50"), (1, 5))}, items_table(), liked).to_dicts()
    assert row["history"].startswith("Watched films: Star Wars; Toy Story\n")


def test_only_the_profile_part_of_a_prepared_user(params: Params) -> None:
    rows = pl.read_parquet(layout.INTERACTIONS).filter(user="164").sort("position")
    assert prepared_history("164", layout.INTERACTIONS).items == tuple(rows["item"][:6])


def test_users_and_tables_that_are_not_there(params: Params, tmp_path: Path) -> None:
    with pytest.raises(RecError, match=r"interactions\.parquet: user '5' is not in it"):
        prepared_history("5", layout.INTERACTIONS)
    with pytest.raises(RecError, match="no such file"):
        prepared_rows("5", tmp_path / "none.parquet", PROMPTS)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RecError, match="not a readable Parquet file"):
        prepared_rows("5", tmp_path / "bad.parquet", PROMPTS)
    pl.DataFrame({"user": ["5"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(RecError, match="column 'key' is missing"):
        prepared_rows("5", tmp_path / "other.parquet", PROMPTS)


ROWS = st.lists(
    st.tuples(st.sampled_from(FILMS), st.integers(2, 10)),
    unique_by=lambda row: row[0][0],
    min_size=1,
)


@given(ROWS)
def test_a_history_comes_back_from_text(rows: list[tuple[tuple[str], int]]) -> None:
    text = ", ".join(f"{CATALOGUE.label(film[0])}:{rating / 2}" for film, rating in rows)
    found = history(text)
    assert found.items == tuple(film[0] for film, _ in rows)
    assert found.ratings == tuple(rating / 2 for _, rating in rows)
