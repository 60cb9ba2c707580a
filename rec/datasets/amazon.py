"""Amazon reviews as the McAuley lab publishes them: one category, its reviews and its metadata.

| year | reviews | metadata | lines of the metadata |
| --- | --- | --- | --- |
| 2014 | reviews_X_5.json.gz, reviews_X.json.gz | meta_X.json.gz | Python literals |
| 2018 | X_5.json.gz, X.json.gz | meta_X.json.gz | JSON |
| 2023 | X.jsonl.gz | meta_X.jsonl.gz | JSON |

Any of the files may be unpacked already, and they may lie in a subfolder or in an archive.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from rec.database import registered
from rec.datasets.files import Found, find, one_line, required
from rec.datasets.json_lines import objects
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.datasets import Source

CATEGORIES = 5
CATEGORY_LENGTH = 60
ABOUT_LENGTH = 80
SENTENCE_LENGTH = 20  # a shorter one ("No. 1") goes on with the next
#: Characters of a description that are looked at; the rest cannot matter.
DESCRIPTION_LENGTH = 4000
EXPECTED = (
    "the reviews and the metadata of one category: reviews_X_5.json.gz or X_5.json.gz with"
    " meta_X.json.gz, or X.jsonl.gz with meta_X.jsonl.gz"
)


@dataclass(frozen=True)
class Fields:
    """What a layout calls its fields."""

    user: str
    item: str
    rating: str
    timestamp: str
    ticks: int  # of the timestamp, in a second
    maker: str
    categories: tuple[str, ...]  # the first that holds any


#: By the ending of the files' names: 2014 and 2018, 2023.
FIELDS = {
    "json": Fields(
        *("reviewerID", "asin", "overall", "unixReviewTime", 1, "brand"),
        categories=("category", "categories"),
    ),
    "jsonl": Fields(
        *("user_id", "parent_asin", "rating", "timestamp", 1000, "store"),
        categories=("categories", "main_category"),
    ),
}
NAME = re.compile(r"(?P<kind>meta_|reviews_|)(?P<category>.+?)(?:_5)?\.(?P<ending>jsonl?)(?:\.gz)?")
#: Markup, and what stands between the tags of a script or a style sheet; the last may be cut.
MARKUP = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|$)|<[a-z/!][^<>]*(?:>|$)", re.I | re.S)
SENTENCE = re.compile(rf".{{{SENTENCE_LENGTH},}}?[.!?](?=\s)")
AUTHOR_PAGE = re.compile(r"Visit Amazon's (.+) Page")

TABLES = """
    CREATE OR REPLACE TABLE raw_ratings
        ("user" VARCHAR, item VARCHAR, rating VARCHAR, "timestamp" VARCHAR, file VARCHAR,
         row BIGINT);
    CREATE OR REPLACE TABLE raw_items
        (item VARCHAR, title VARCHAR, year INTEGER, categories VARCHAR[], about VARCHAR,
         file VARCHAR, row BIGINT);
"""
RATINGS = """
    INSERT INTO raw_ratings
    SELECT CASE WHEN left(fields[1], 1) NOT IN ('[', '{{') THEN fields[1] END,
        CASE WHEN left(fields[2], 1) NOT IN ('[', '{{') THEN fields[2] END,
        fields[3],
        CASE WHEN $ticks = 1 THEN fields[4]
             ELSE coalesce((TRY_CAST(fields[4] AS BIGINT) // $ticks)::VARCHAR, fields[4]) END,
        $file,
        row
    FROM {block} WHERE fields IS NOT NULL ORDER BY row
"""
ITEMS: dict[str, pl.DataType | type[pl.DataType]] = {
    "item": pl.String,
    "title": pl.String,
    "year": pl.Int32,
    "categories": pl.List(pl.String),
    "about": pl.String,
    "file": pl.String,
    "row": pl.Int64,
}


def read(source: Source) -> None:
    """Leave the relations of one category in any of the layouts.

    Raises RecError where a file is missing, empty or damaged, or where there are more categories.
    """
    reviews, meta, fields = _files(source)
    source.connection.execute(TABLES)
    _read_ratings(source.connection, reviews, fields)
    _read_items(source.connection, meta, fields)


def _files(source: Source) -> tuple[Found, Found, Fields]:
    """The reviews, the metadata and what their fields are called."""
    found = find(source.path, source.work)
    matches = {name: match for name in sorted(found) if (match := NAME.fullmatch(name))}
    files = {  # an unpacked copy beside its packed file counts for nothing
        name: match for name, match in matches.items() if f"{name}.gz" not in matches
    }
    names = one_line(", ".join(files))
    reviews = [name for name, match in files.items() if match["kind"] != "meta_"]
    if not reviews:
        shown = names or "none"
        raise RecError(f"{source.path}: no Amazon reviews (found {shown}); expected {EXPECTED}")
    if len(reviews) > 1 or len({match["category"] for match in files.values()}) > 1:
        raise RecError(f"{source.path}: found {names}; expected {EXPECTED}")
    match = files[reviews[0]]
    meta = f"meta_{match['category']}.{match['ending']}"
    meta = meta if meta in files else f"{meta}.gz"
    return (
        required(found, reviews[0], source.path),
        required(found, meta, source.path),
        FIELDS[match["ending"]],
    )


def _read_ratings(connection: duckdb.DuckDBPyConnection, file: Found, fields: Fields) -> None:
    names = (fields.user, fields.item, fields.rating, fields.timestamp)
    for block in objects(connection, file, names, "ratings"):
        values = {"ticks": fields.ticks, "file": file.name}
        connection.execute(RATINGS.format(block=block), values)


def _read_items(connection: duckdb.DuckDBPyConnection, file: Found, fields: Fields) -> None:
    names = (fields.item, "title", "description", fields.maker, *fields.categories)
    for block in objects(connection, file, names, "items", as_json=True):
        query = f"SELECT row, fields FROM {block} WHERE fields IS NOT NULL ORDER BY row"
        rows = connection.execute(query).fetchall()
        items = [_item(texts) | {"file": file.name, "row": row} for row, texts in rows]
        with registered(connection, "amazon_items", pl.DataFrame(items, ITEMS)):
            connection.execute("INSERT INTO raw_items SELECT * FROM amazon_items")


def _item(texts: list[str | None]) -> dict[str, Any]:
    """An item from the JSON of its fields."""
    item, title, description, maker, *categories = map(_value, texts)
    kept = next(filter(None, map(_categories, categories)), [])
    return {
        "item": _text(item),
        "title": _text(title),
        "categories": kept,
        "about": _about(description, maker, kept),
    }


def _value(text: str | None) -> Any:
    """The value of a JSON text; None where Python cannot hold it."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _strings(value: Any) -> Iterator[str]:
    """The strings of a text, a list, or a list of lists, in order."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            waiting.extend(reversed(part))


def _categories(value: Any) -> list[str]:
    """The usable categories. The first is the store's, which says nothing beside others."""
    published = list(_strings(value))
    kept = list(dict.fromkeys(filter(None, map(_category, published))))
    if len(kept) > 1 and kept[0] == _category(published[0]):
        del kept[0]
    return kept[:CATEGORIES]


@lru_cache(maxsize=1 << 16)
def _category(text: str) -> str:
    """A category without entities; empty where it is markup, or a sentence that strayed there."""
    text = _plain(text) if not MARKUP.search(text) else ""
    return "" if len(text) > CATEGORY_LENGTH or text.endswith(".") else text


def _about(description: Any, maker: Any, categories: list[str]) -> str | None:
    """The start of the first description that has words, else the maker and a category."""
    for text in _strings(description):
        text = _plain(MARKUP.sub(" ", text[:DESCRIPTION_LENGTH]))
        if re.search(r"\w", text):
            return _start(text)
    name = _plain(MARKUP.sub(" ", maker[:DESCRIPTION_LENGTH])) if isinstance(maker, str) else ""
    name = AUTHOR_PAGE.sub(r"\1", name)
    return ", ".join([name, *categories[-1:]]) if re.search(r"\w", name) else None


def _plain(text: str) -> str:
    """Text without entities, in single spaces."""
    return " ".join(html.unescape(text).split())


def _start(text: str) -> str:
    """The first sentence, or as many words as fit."""
    sentence = SENTENCE.match(text[: ABOUT_LENGTH + 1] + (" " if len(text) <= ABOUT_LENGTH else ""))
    if sentence:
        return sentence[0].rstrip(" .")
    if len(text) <= ABOUT_LENGTH:
        return text
    words = text[: ABOUT_LENGTH + 1].rpartition(" ")[0] or text[:ABOUT_LENGTH]
    return words.rstrip(" ,;:.-–—")
