"""rec.inference.entries: histories as people write them."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.errors import RecError
from rec.inference.entries import Entry, json_lines, read_entries, text_entries, value_entries


def seen(entries: list[Entry]) -> list[tuple[str, str, float | None]]:
    """Item, text and rating."""
    return [(entry.item, entry.text, entry.rating) for entry in entries]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story:5, Fargo:3", [("Toy Story", 5), ("Fargo", 3)]),
        ("Toy Story : 4.5;Fargo:3\nBabe:1", [("Toy Story", 4.5), ("Fargo", 3), ("Babe", 1)]),
        ("2001: A Space Odyssey:5", [("2001: A Space Odyssey", 5)]),
        (
            "Fast, Cheap & Out of Control:4, 187:2",
            [("Fast, Cheap & Out of Control", 4), ("187", 2)],
        ),
        ("Three Colors: Blue (1993): 5,", [("Three Colors: Blue (1993)", 5)]),
        (", Fargo:3, ,", [("Fargo", 3)]),
        ("Die Hard: With a Vengeance:-1", [("Die Hard: With a Vengeance", -1)]),
        ("Tank   Girl\t:2", [("Tank Girl", 2)]),
        ("2:22:5", [("2:22", 5)]),
        ("Toy Story:5\n\nFargo:3\t\n", [("Toy Story", 5), ("Fargo", 3)]),
        ("", []),
    ],
)
def test_text_with_ratings(text: str, expected: list[tuple[str, float]]) -> None:
    found = text_entries(text, "--history", rated=True)
    assert seen(found) == [("", title, rating) for title, rating in expected]
    assert not any(entry.many for entry in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Toy Story", "--history: 'Toy Story' has no rating; write TITLE:RATING"),
        ("Toy Story:5, Fargo", "'Fargo' has no rating"),
        ("Toy Story:five", "'Toy Story:five' has no rating"),
        (":5", "the rating 5 has no title before it"),
        ("Fargo:3,:5", "the rating 5 has no title before it"),
        ("Toy Story:5\nFargo\nBabe:1", "--history: line 2: 'Fargo' has no rating"),
        ("Toy Story:5\n:1", "--history: line 2: the rating 1 has no title before it"),
    ],
)
def test_text_with_a_rating_or_title_missing(text: str, said: str) -> None:
    with pytest.raises(RecError) as raised:
        text_entries(text, "--history", rated=True)
    assert said in str(raised.value)


def test_text_without_ratings_is_in_pieces() -> None:
    found = text_entries("Toy Story, Fargo; 2001: A Space Odyssey\n\nBabe:5,", "x", rated=False)
    assert seen(found) == [
        ("", "Toy Story, Fargo", None),
        ("", "2001: A Space Odyssey", None),
        ("", "Babe:5", None),
    ]
    assert all(entry.many for entry in found)


CSV = """
item,title,Rating,timestamp,user
50,,5,30,b
,"Fast, Cheap & Out of Control",3.5,10,a

12,"The ""Usual"" Suspects",1,20,b
"""


def test_csv() -> None:
    users = read_entries(CSV, "history.csv", rated=True)
    assert list(users) == ["b", "a"]
    assert seen(users["b"]) == [("50", "", 5), ("12", 'The "Usual" Suspects', 1)]
    assert seen(users["a"]) == [("", "Fast, Cheap & Out of Control", 3.5)]
    assert [entry.timestamp for entry in users["b"]] == [30, 20]
    assert [entry.where for entry in users["b"]] == ["history.csv: line 3", "history.csv: line 6"]


@pytest.mark.parametrize(
    "text",
    ["title\trating\nFargo\t3\n", "\ufefftitle,rating\r\nFargo,3\r\n", '"title","rating"\rFargo,3'],
)
def test_csv_of_other_kinds(text: str) -> None:
    assert seen(read_entries(text, "f", rated=True)[""]) == [("", "Fargo", 3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title,rating\nFargo,3\nBabe\n", "f: line 3: 1 cells; the header has 2 columns"),
        ("title,rating\nFargo,good", "f: line 2: rating: 'good' is not a number"),
        ("title,rating\nFargo,nan", "f: line 2: rating: 'nan' is not a number"),
        ("title,rating\nFargo,1e999", "f: line 2: rating: '1e999' is not a number"),
        ("title,rating\n,3", "f: line 2: it needs an item (an id) or a title"),
        ("title,timestamp\nFargo,today", "f: line 2: timestamp: 'today' is not a number"),
        ('title,rating\n"Fargo,3\n', "f: line 3: not CSV (unexpected end of data)"),
        ("title,rating,title\nFargo,3,Babe", "f: a column stands twice in the header"),
        ("title,rating\n", "f: there is no item in it"),
        ("movie,rating\nFargo,3", "f: the header ('movie,rating') names no column item (an id) or"),
        ("", "f: there is no item in it"),
    ],
)
def test_csv_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(RecError) as raised:
        read_entries(text, "f", rated=True)
    assert said in str(raised.value)


def test_json_lines() -> None:
    text = """{"item": 50, "rating": 5}
{"title": "Fargo", "rating": 3, "timestamp": 7, "user": 12}

{"user": "12", "history": ["Babe:2, Twister:1", {"item": "1", "rating": 4}]}
{"user": 3, "history": "Toy Story:5"}
"""
    users = read_entries(text, "h.jsonl", rated=True)
    assert {user: seen(entries) for user, entries in users.items()} == {
        "": [("50", "", 5)],
        "12": [("", "Fargo", 3), ("", "Babe", 2), ("", "Twister", 1), ("1", "", 4)],
        "3": [("", "Toy Story", 5)],
    }
    assert users["12"][3].where == "h.jsonl: line 4: history, item 2"


def test_a_json_list_is_no_json_lines() -> None:
    with pytest.raises(RecError, match=r"^f: a JSON list; write JSON lines, an object \{"):
        read_entries('\n[ {"item": 1, "rating": 5}]', "f", rated=True)


def test_json_lines_of_other_systems() -> None:
    rows = [row for _, row in json_lines('\ufeff{"a": 1}\r\n{"a": 2}\r{"a": 3}', "f")]
    assert rows == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_values_without_ratings() -> None:
    found = value_entries(["Maybe, Maybe Not", 50, {"item": "1"}], "c", rated=False)
    assert seen(found) == [("", "Maybe, Maybe Not", None), ("", "50", None), ("1", "", None)]
    assert not any(entry.many for entry in found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": }', "f: line 2: not valid JSON (Expecting value, character 7)"),
        ('{"a": 1} x', "f: line 2: not valid JSON"),
        ("[1]", "f: line 2: [1] must be an object {...}"),
        ("[" * 100_000, "f: line 2: not valid JSON"),
        ('{"user": "a", "history": []}', "f: line 2: history: there is no item in it"),
        ('{"item": true}', "item: True must be a text or a whole number"),
        ('{"item": 1.5}', "item: 1.5 must be a text or a whole number"),
        ('{"item": [1]}', "item: [1] must be a text or a whole number"),
        ('{"title": "\\ud800"}', "is not text: a character is cut in two"),
        ('{"item": 1, "rating": true}', "rating: True is not a number"),
        ('{"item": 1, "rating": NaN}', "rating: nan is not a number"),
        ('{"item": 1, "rating": 1e999}', "rating: inf is not a number"),
        ('{"item": 1, "user": {}}', "user: {} must be a text or a whole number"),
        ('{"history": 5}', "f: line 2: history: 5 must be a text or a list"),
        ('{"history": [["a"]]}', "history, item 1: ['a'] must be a text or a whole number"),
        ('{"history": ["Fargo"]}', "history, item 1: 'Fargo' has no rating"),
        ("{}", "f: line 2: it needs an item (an id) or a title"),
        ('{"item": ' + "9" * 5000 + "}", "f: line 2: not valid JSON"),
    ],
)
def test_json_that_is_wrong(line: str, said: str) -> None:
    with pytest.raises(RecError) as raised:
        read_entries('{"item": 1}\n' + line, "f", rated=True)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


TITLES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).map(
    lambda text: " ".join(text.split())
)
RATINGS = st.integers(1, 10).map(lambda rating: rating / 2)
ROWS = st.lists(st.tuples(TITLES.filter(bool), RATINGS), min_size=1, max_size=6)


@given(ROWS)
def test_csv_comes_back(rows: list[tuple[str, float]]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([("title", "rating"), *rows])
    found = read_entries(file.getvalue(), "f", rated=True)[""]
    assert seen(found) == [("", title, rating) for title, rating in rows]


@given(ROWS)
def test_json_lines_come_back(rows: list[tuple[str, float]]) -> None:
    lines = [json.dumps({"title": title, "rating": rating}) for title, rating in rows]
    assert seen(read_entries("\n".join(lines), "f", rated=True)[""]) == [
        ("", title, rating) for title, rating in rows
    ]


PLAIN = (
    TITLES.map(lambda text: text.strip(" ,;"))
    .filter(lambda text: bool(text) and not any(character.isdigit() for character in text))
    .filter(lambda text: ";" not in text)
)


@given(st.lists(st.tuples(PLAIN, RATINGS), min_size=1, max_size=6))
def test_text_comes_back(rows: list[tuple[str, float]]) -> None:
    text = ", ".join(f"{title}:{rating}" for title, rating in rows)
    assert seen(text_entries(text, "f", rated=True)) == [
        ("", title, rating) for title, rating in rows
    ]


JUNK = st.text(max_size=60) | st.text('{}[]":,;\n\t 0123456789.-eE\\uNaInfty', max_size=60)
STARTS = st.sampled_from(["", "{", '{"item":', '{"history":', "title,rating\n", "item\tuser\n"])


@given(STARTS, JUNK, st.booleans())
def test_any_text_is_read_or_a_one_line_error(start: str, junk: str, rated: bool) -> None:
    try:
        users = read_entries(start + junk, "f", rated=rated)
    except RecError as error:
        assert len(str(error).splitlines()) == 1
    else:
        entries = [entry for own in users.values() for entry in own]
        assert entries and all(entry.item or entry.text for entry in entries)
        "".join(entry.item + entry.text for entry in entries).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["item", "title", "x"]), inner),
)


@given(VALUES, st.booleans())
def test_any_value_is_read_or_an_error(value: object, rated: bool) -> None:
    try:
        entries = value_entries(value, "f", rated=rated)
    except RecError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(entry.item or entry.text for entry in entries)


def test_lines_are_those_of_the_file() -> None:
    assert list(json_lines('\n{"a": "\u2028"}\n', "f")) == [("f: line 2", {"a": "\u2028"})]
