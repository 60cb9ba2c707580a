"""rec.prompts: what the LLM is shown of a user, and the form that it is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rec.config import Impressions, Params, Tabular
from rec.params import load_params
from rec.prompts import DOMAINS, instructions, is_rated, user_prompts, words
from rec.tables import INTERACTIONS, ITEMS, PROMPTS, USERS, check_schema

#: user: item, rating, part, in the order of time
Histories = dict[str, list[tuple[str, float, str]]]

HISTORIES: Histories = {
    "ann": [
        ("old", 5, "profile"),
        ("bad", 1, "profile"),
        ("mid", 3.5, "profile"),
        ("new", 4, "profile"),
        ("later", 5, "list"),
    ],
    "bob": [("new", 5, "profile"), ("old", 4, "profile"), ("bad", 1, "list")],
    "eve": [("bad", 2, "profile"), ("later", 5, "list")],
}
TITLES: dict[str, str | None] = {
    "old": "Old Film",
    "bad": "Bad Film",
    "mid": "Mid Film",
    "new": "New Film",
    "later": "Later Film",
}


def prompts(
    histories: Histories = HISTORIES, titles: dict[str, str | None] = TITLES, **changes: Any
) -> pl.DataFrame:
    """The prompts of small histories; ratings of 4 or more are liked."""
    rows = [
        (user, item, rating, 100 + position, position, part)
        for user, history in histories.items()
        for position, (item, rating, part) in enumerate(history)
    ]
    interactions = pl.DataFrame(rows, schema=dict(INTERACTIONS), orient="row")
    items = pl.DataFrame(
        [(item, title, None, [], 1, place) for place, (item, title) in enumerate(titles.items())],
        schema=dict(ITEMS),
        orient="row",
    )
    users = pl.DataFrame(
        [(user, "train" if user < "c" else "test", 1, 1) for user in sorted(histories)],
        schema=dict(USERS),
        orient="row",
    )
    options = {"domain": "films", "response": "card", "history": 25, "positive_rating": 4.0}
    return user_prompts(interactions, items, users, **{**options, **changes})


def history(user: str, table: pl.DataFrame) -> str:
    text: str = table.row(by_predicate=pl.col("user") == user, named=True)["history"]
    return text


def test_table_has_a_row_per_user() -> None:
    table = check_schema(prompts(), PROMPTS, "prompts")
    assert table["key"].to_list() == ["user:ann", "user:bob", "user:eve"]
    assert table["split"].to_list() == ["train", "train", "test"]
    assert set(table["kind"]) == {"user"}


def test_latest_first_liked_and_disliked_apart() -> None:
    assert history("ann", prompts()) == (
        "Loved films: New Film; Old Film\nDisliked films: Mid Film; Bad Film"
    )


def facts(rows: Sequence[tuple[str, int | None, list[str]]], **changes: Any) -> str:
    """The lines after the titles, of a user who loved items of these (id, year, categories)."""
    items = pl.DataFrame(
        [(item, item.title(), year, names, 1, n) for n, (item, year, names) in enumerate(rows)],
        schema=dict(ITEMS),
        orient="row",
    )
    interactions = pl.DataFrame(
        [("ann", item, 5.0, place, place, "profile") for place, (item, *_) in enumerate(rows)],
        schema=dict(INTERACTIONS),
        orient="row",
    )
    users = pl.DataFrame([("ann", "train", 1, 1)], schema=dict(USERS), orient="row")
    options = {"domain": "films", "response": "card", "history": 25, "positive_rating": 4.0}
    table = user_prompts(interactions, items, users, **{**options, **changes})
    titles = 2 if changes.get("rated", True) else 1
    return history("ann", table).split("\n", titles)[titles]


def test_genres_and_years_of_the_loved_by_count() -> None:
    loved = [
        ("a", 1994, ["Drama", "Crime"]),
        ("b", 1999, ["Drama"]),
        ("c", 1971, ["Western", "Crime", "Drama"]),
    ]
    assert facts(loved) == (
        "Genres of the loved: Drama, Crime, Western\nYears of the loved: 1990s, 1970s"
    )


def test_unknown_years_and_categories_are_left_out() -> None:
    assert facts([("a", None, ["Drama"])]) == "Genres of the loved: Drama"
    assert facts([("a", 2001, [])]) == "Years of the loved: 2000s"


def test_lists_stay_hidden() -> None:
    table = prompts()
    assert not table["history"].str.contains("Later Film").any()
    assert history("bob", table) == "Loved films: Old Film; New Film\nDisliked films: none"


def test_nothing_liked() -> None:
    assert history("eve", prompts()) == "Loved films: none\nDisliked films: Bad Film"


def test_threshold_is_liked() -> None:
    text = history("ann", prompts(positive_rating=3.5))
    assert text == "Loved films: New Film; Mid Film; Old Film\nDisliked films: Bad Film"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, "Loved films: New Film\nDisliked films: none"),
        (2, "Loved films: New Film\nDisliked films: Mid Film"),
        (3, "Loved films: New Film\nDisliked films: Mid Film; Bad Film"),
    ],
)
def test_limit_keeps_the_most_recent(limit: int, expected: str) -> None:
    assert history("ann", prompts(history=limit)) == expected


def test_limit_is_each_users_own() -> None:
    """A user with a longer history must not move another's window."""
    long = {**HISTORIES, "zed": [("old", 5.0, "profile")] * 40}
    assert history("ann", prompts(long, history=2)) == history("ann", prompts(history=2))


@pytest.mark.parametrize("response", ["card", "text"])
def test_instructions_are_the_same_for_all_and_come_first(response: str) -> None:
    table = prompts(response=response)
    assert {message[0]["role"] for message in table["messages"]} == {"system"}
    assert {message[0]["content"] for message in table["messages"]} == {
        instructions(DOMAINS["films"], response)
    }
    for messages, text in table.select("messages", "history").iter_rows():
        assert [message["role"] for message in messages] == ["system", "user"]
        assert messages[1]["content"] == f"The history of this viewer, latest first.\n{text}"


def test_whitespace_in_titles_is_flattened() -> None:
    titles = {**TITLES, "new": "  New\r\n\tFilm\u00a0(II)  ", "old": "Old\u2028Film"}
    text = history("ann", prompts(titles=titles))
    assert text.splitlines() == [
        "Loved films: New Film (II); Old Film",
        "Disliked films: Mid Film; Bad Film",
    ]


def test_titles_without_text_are_left_out() -> None:
    titles: dict[str, str | None] = {**TITLES, "new": None, "mid": " \n"}
    assert (
        history("ann", prompts(titles=titles)) == "Loved films: Old Film\nDisliked films: Bad Film"
    )


def test_items_without_metadata_are_left_out() -> None:
    titles = {name: title for name, title in TITLES.items() if name != "new"}
    assert history("ann", prompts(titles=titles)).startswith("Loved films: Old Film\n")


def test_user_without_any_title() -> None:
    table = prompts(titles=dict.fromkeys(TITLES))
    assert table.height == 3
    assert history("ann", table) == "Loved films: none\nDisliked films: none"


def test_order_of_the_rows_does_not_matter() -> None:
    turned = dict(reversed(HISTORIES.items()))
    assert prompts(turned).equals(prompts())


@pytest.mark.parametrize("name", list(DOMAINS))
def test_instructions_name_the_lines_in_the_order_of_the_labels(name: str) -> None:
    domain = DOMAINS[name]
    text = instructions(domain, "card").partition("Its lines are: ")[2]
    places = [text.index(label.removesuffix(":").lower()) for label in domain.labels]
    assert places == sorted(places) and len(set(places)) == len(domain.labels) == 7
    assert not any(label in text for label in domain.labels)


@pytest.mark.parametrize("name", list(DOMAINS))
def test_domains_have_their_own_words(name: str) -> None:
    domain = DOMAINS[name]
    table = prompts(domain=name)
    text = " ".join(message["content"] for messages in table["messages"] for message in messages)
    assert domain.items in text and domain.person in text and domain.consumed in text
    foreign = {word for other in DOMAINS.values() for word in (other.items, other.person)}
    for word in foreign - {domain.items, domain.person}:
        assert not re.search(rf"\b{word}\b", text.replace(domain.items, ""))


@pytest.mark.parametrize("name", list(DOMAINS))
def test_free_text_shows_no_card(name: str) -> None:
    text = instructions(DOMAINS[name], "text")
    assert DOMAINS[name].factors in text
    assert "card" not in text and DOMAINS[name].lines not in text


def test_the_words_of_films_to_the_letter() -> None:
    """A change here makes every stored response and every result another."""
    films = words("films")
    assert films.labels == (
        "Loved films:",
        "Disliked films:",
        "Favourite genres:",
        "People:",
        "Period:",
        "Mood:",
        "Similar films:",
    )
    assert instructions(films, "card") == (
        "You describe the taste of a viewer from the films that they watched. Fill in a card with "
        "what the history shows, the films that set this viewer apart first. Its lines are: loved "
        "films, disliked films, favourite genres, people (names of directors and actors), period "
        "(which decades), mood (adjectives), similar films (that are not in the history)."
    )


# Data without dislikes


def params(**data: Any) -> Params:
    """The committed parameters with other values in their block `data`."""
    loaded = load_params(Path(__file__).parents[1] / "params.yaml")
    for key, value in data.items():
        setattr(loaded.data, key, value)
    return loaded


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, True),
        ({"tabular": Tabular(rating="")}, True),  # another reader does not ask for it
        ({"reader": "tabular"}, True),
        ({"reader": "tabular", "tabular": Tabular(rating="")}, False),
        ({"positive_rating": 1}, False),
        ({"reader": "tabular", "tabular": Tabular(impressions=Impressions("log.csv"))}, False),
        (
            {
                "reader": "tabular",
                "tabular": Tabular(rating="", impressions=Impressions("log", labels="ratings")),
            },
            True,
        ),
        (
            {
                "reader": "tabular",
                "tabular": Tabular("orders.csv", impressions=Impressions("log.csv")),
            },
            True,
        ),
    ],
)
def test_whether_the_data_tells_dislikes(data: dict[str, Any], expected: bool) -> None:
    assert is_rated(params(**data)) == expected


@pytest.mark.parametrize(
    ("domain", "label"),
    [
        ("films", "Watched films:"),
        ("books", "Read books:"),
        ("beauty", "Bought beauty products:"),
        ("products", "Bought products:"),
        ("items", "Chosen items:"),
    ],
)
def test_without_dislikes_the_card_is_shorter(domain: str, label: str) -> None:
    rated, implicit = words(domain), words(domain, rated=False)
    assert rated is DOMAINS[domain]
    assert implicit.labels == (label, *rated.labels[2:])
    text = instructions(implicit, "card")
    assert f"Its lines are: {label[:-1].lower()}, " in text
    assert "loved" not in text and "disliked" not in text
    assert instructions(implicit, "text") == instructions(rated, "text")


@pytest.mark.parametrize("response", ["card", "text"])
def test_without_dislikes_the_history_has_one_line(response: str) -> None:
    table = prompts(rated=False, response=response)
    assert history("ann", table) == "Watched films: New Film; Mid Film; Bad Film; Old Film"
    assert history("eve", table) == "Watched films: Bad Film"
    assert not table["messages"].explode().struct.field("content").str.contains("(?i)loved").any()


def test_without_dislikes_nothing_is_called_loved() -> None:
    rows = [("a", 1994, ["Drama", "Crime"]), ("b", 1999, ["Drama"])]
    assert facts(rows, rated=False) == (
        "Genres of the watched: Drama, Crime\nYears of the watched: 1990s"
    )
    assert facts(rows[:1], rated=False, domain="items").startswith("Kinds of the chosen: Crime")
