"""rec.inference.catalogue: which items texts are taken for."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.errors import RecError
from rec.inference.catalogue import Catalogue, Match
from rec.tables import ITEMS
from tests.inference.project import FILMS, items_table

CATALOGUE = Catalogue(items_table())


def catalogue(*rows: tuple[Any, ...]) -> Catalogue:
    """A catalogue of rows of ITEMS."""
    return Catalogue(pl.DataFrame(rows, schema=dict(ITEMS), orient="row"))


@pytest.mark.parametrize(
    ("text", "item", "approximate"),
    [
        ("Toy Story", "1", False),
        ("  toy  story ", "1", False),
        ("Toy Story (1995)", "1", False),
        ("TOY STORY (1996)", "1", False),  # sources differ by a year
        ("Usual Suspects, The (1995)", "12", False),
        ("Usual Suspects", "12", False),
        ("the usual suspects", "12", False),
        ("usual suspects, the", "12", False),
        ("Godfather Part 2", "187", False),
        ("The Godfather - Part II", "187", False),
        ("Fast, Cheap and Out of Control", "1022", False),
        ("Sabrina (1954)", "486", False),
        ("50", "50", False),
        ("#50", "50", False),
        ("#187", "187", False),
        ("#330", "330", False),
        ("Se7en", "11", True),
        ("Seven", "11", True),
        ("La Haine", "1039", True),
        ("haine, la", "1039", True),
        ("Der Bewegte Mann", "534", True),
        ("Fargoo", "100", True),
        ("Star War", "50", True),
        ("Twiser", "118", True),
        ("Godfather II", "187", True),
        ("Space Odyssey", "135", True),
        ("2001", "135", True),
        ("out of control", "1022", True),
        ("Alien", "183", False),
        ("Aliens", "176", False),
        ("unknown", "267", False),
    ],
)
def test_what_is_found(text: str, item: str, approximate: bool) -> None:
    match = CATALOGUE.find(text)
    assert (match.item, match.approximate) == (item, approximate)
    assert str(match) == f"{text.strip()} → {match.label}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Sabrina", ["#274 Sabrina (1995)", "#486 Sabrina (1954)"]),
        ("187", ["#187 The Godfather: Part II (1974)", "#330 187 (1997)"]),
        ("Alienz", ["#183 Alien (1979)", "#176 Aliens (1986)"]),
        ("the Part", []),
    ],
)
def test_what_could_be_several(text: str, said: list[str]) -> None:
    if not said:  # a word of one title alone
        assert CATALOGUE.find(text).item == "187"
        return
    with pytest.raises(RecError) as raised:
        CATALOGUE.find(text)
    assert str(raised.value) == (
        f"{text!r} could be {', '.join(said)}; write the year too, or # and the id"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Toy Story 2", "'Toy Story 2'; the nearest are Toy Story (1995), "),
        ("Godfather Part 3", "'Godfather Part 3'; the nearest are The Godfather: Part II (1974), "),
        ("Fargo (1982)", "'Fargo (1982)'; the nearest are Fargo (1996), "),
        ("#99", "no item is called '#99'"),
        ("Babé & Fargo & Twister & more", "no item is called"),
        ("", "an empty text names no item"),
        ("x" * 600, "(600 characters) names no item"),
        ("?!", "no item is called '?!'"),
    ],
)
def test_what_is_not_found(text: str, said: str) -> None:
    with pytest.raises(RecError) as raised:
        CATALOGUE.find(text)
    assert said in str(raised.value)


def test_only_six_candidates_are_named() -> None:
    letters = enumerate("ABCDEFGHI")
    trek = catalogue(*((str(n), f"Star Trek {x}", 1990 + n, [], 0, 9 - n) for n, x in letters))
    with pytest.raises(RecError, match=r"'Star Trek' could be #8 Star Trek I .* and 3 more; write"):
        trek.find("Star Trek")


def test_of_items_with_the_same_title_and_year_the_popular_one_is_meant() -> None:
    popular = ("b", "The Ice Storm", 1997, None, 4, 0)
    twice = catalogue(popular, ("c", "The Ice Storm", 1997, [], 0, 2))
    assert twice.find("Ice Storm").item == "b"
    assert twice.find("#c").item == "c"
    differ = catalogue(("a", "Ice Storm", 1997, [], 0, 1), popular)
    with pytest.raises(RecError, match=r"could be #b The Ice Storm .1997., #a Ice Storm"):
        differ.find("The Ice Storm")


def test_ids_are_found_by_id_alone() -> None:
    assert CATALOGUE.by_id("330").label == "187 (1997)"
    with pytest.raises(RecError, match="no item has the id 'Fargo'"):
        CATALOGUE.by_id("Fargo")


def test_titles_without_words_are_found_by_id() -> None:
    odd = catalogue(
        ("a", "!!!", None, [], 1, 0), ("b", None, None, [], 0, 1), ("c", "東京物語", 1953, [], 0, 2)
    )
    assert odd.find("a").label == "!!!"
    assert odd.find("b").label == "b"
    assert odd.find("東京物語").item == "c"
    with pytest.raises(RecError, match="no item is called 'x'"):
        odd.find("x")


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Fargo, Toy Story", ["Fargo", "Toy Story"]),
        ("50,100 , 1", ["50", "100", "1"]),
        ("Maybe, Maybe Not", ["Maybe, Maybe Not"]),
        ("Babe, Maybe, Maybe Not, Twister", ["Babe", "Maybe, Maybe Not", "Twister"]),
        (
            "Usual Suspects, The (1995), Fast, Cheap & Out of Control, Babe",
            ["Usual Suspects, The (1995)", "Fast, Cheap & Out of Control", "Babe"],
        ),
        ("Fast, Cheep & Out of Control", ["Fast, Cheep & Out of Control"]),
        ("Nothing, Like It", ["Nothing", "Like It"]),
        (",,", []),
    ],
)
def test_titles_with_commas_between(text: str, titles: list[str]) -> None:
    assert CATALOGUE.titles(text) == titles


@given(st.permutations([film[0] for film in FILMS]))
def test_labels_with_commas_between_are_found_again(items: list[str]) -> None:
    labels = [CATALOGUE.label(item) for item in items]
    assert [CATALOGUE.find(text).item for text in CATALOGUE.titles(", ".join(labels))] == items


@given(st.sampled_from(FILMS))
def test_every_label_names_its_item(film: tuple[str, str, int | None, list[str]]) -> None:
    assert CATALOGUE.find(CATALOGUE.label(film[0])).item == film[0]


NOISE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(NOISE | st.builds("{}{}".format, st.sampled_from([film[1] for film in FILMS]), NOISE))
def test_any_text_is_an_item_or_a_one_line_error(text: str) -> None:
    for title in [text, *CATALOGUE.titles(text)]:
        try:
            found = CATALOGUE.find(title)
        except RecError as error:
            assert str(error).isprintable()
        else:
            assert isinstance(found, Match) and found.item in CATALOGUE
