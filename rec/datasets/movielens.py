"""MovieLens in the layouts in which it is published.

| layout | files | text |
| --- | --- | --- |
| RecBole's atomic files | X.inter, X.item: tabs, typed header | UTF-8 |
| ML-100k | u.data: tabs; u.item: bars, 19 flags for genres | latin-1 |
| ML-1M, ML-10M | ratings.dat, movies.dat: double colons | latin-1, UTF-8 |
| ML-20M and later, ML-latest | ratings.csv, movies.csv: commas, quotes, header | UTF-8 |

The layout follows from the files, which may lie in a folder, in a subfolder or in an archive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rec.datasets.files import UNPARSEABLE, Found, find, required
from rec.datasets.table_files import Column, open_table
from rec.datasets.text import add_faults, delimited, header, literal
from rec.errors import RecError
from rec.titles import YEAR, article_first

if TYPE_CHECKING:
    from rec.datasets import Source

#: The flags of u.item in their order (the archive's u.genre).
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
#: What stands for no genre.
NO_GENRE = ("", "unknown", "(no genres listed)")
RATING_FIELDS = ("user", "item", "rating", "timestamp")
EXPECTED = (
    "X.inter and X.item, u.data and u.item, ratings.dat and movies.dat, ratings.csv and movies.csv,"
    " or a zip with them"
)


@dataclass(frozen=True)
class Layout:
    """The files of a layout, and a function for each that gives a query of its rows.

    Ratings have the columns user, item, rating, timestamp, file and row; items have item, title,
    year (text or null), categories, file and row.
    """

    ratings: str
    items: str
    read_ratings: Callable[[Source, Found], str]
    read_items: Callable[[Source, Found], str]


def read(source: Source) -> None:
    """Leave the relations of a data set in any of the layouts.

    Titles have their article in front, and no year. Raises RecError where a file is missing, empty
    or cannot be read.
    """
    found = find(source.path, source.work)
    layout = _layout(found, source.path)
    ratings = required(found, layout.ratings, source.path)
    items = required(found, layout.items, source.path)
    source.connection.execute(
        f"CREATE OR REPLACE VIEW raw_ratings AS {layout.read_ratings(source, ratings)}"
    )
    films = _films(source.connection.sql(layout.read_items(source, items)).pl())
    source.connection.register("films", films)
    source.connection.execute("CREATE OR REPLACE TABLE raw_items AS FROM films")
    source.connection.unregister("films")


def _layout(found: Mapping[str, Found], path: Path) -> Layout:
    """The one layout of which there is a file."""
    stems = sorted(name.removesuffix(".inter") for name in found if name.endswith(".inter"))
    atomic = [
        Layout(f"{stem}.inter", f"{stem}.item", _atomic_ratings, _atomic_items) for stem in stems
    ]
    present = [
        layout for layout in (*atomic, *LAYOUTS) if layout.ratings in found or layout.items in found
    ]
    if len(present) > 1:
        names = [name for one in present for name in (one.ratings, one.items) if name in found]
        raise RecError(f"{path}: more than one data set: {', '.join(names)}")
    if not present:
        raise RecError(f"{path}: no MovieLens files; expected {EXPECTED}")
    return present[0]


def _films(table: pl.DataFrame) -> pl.DataFrame:
    """From the columns of `Layout.read_items` to those of raw_items."""
    title = pl.col("title").str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()
    year = pl.col("year").str.extract(r"^\s*([0-9]{4})\s*$")
    unknown = pl.col("title") == "unkonwn"  # so spelt in the atomic files, for the title unknown
    return (
        table.with_columns(title)
        .with_columns(year=pl.coalesce(year, pl.col("title").str.extract(YEAR)).cast(pl.Int32))
        .with_columns(title=article_first(pl.col("title").str.replace(YEAR, "")))
        .select(
            "item",
            title=pl.when(unknown).then(pl.lit("unknown")).otherwise("title").replace("", None),
            year="year",
            categories=pl.col("categories")
            .fill_null([])
            .list.filter(~pl.element().is_in(NO_GENRE) & pl.element().is_not_null()),
            about=pl.lit(None, pl.String),
            file="file",
            row="row",
        )
    )


def _ratings(view: str) -> str:
    return f'SELECT "user", item, rating, "timestamp", file, row FROM {view}'


def _items(view: str, categories: str, year: str = "NULL") -> str:
    return (
        f"SELECT item, title, {year}::VARCHAR AS year, {categories}::VARCHAR[] AS categories,"
        f" file, row FROM {view}"
    )


def _atomic_ratings(source: Source, found: Found) -> str:
    names = {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "timestamp"}
    fields = header(found, "\t", names)
    return _ratings(delimited(source, found, fields, "\t", "ratings", skip=1))


def _atomic_items(source: Source, found: Found) -> str:
    names = {"item_id": "item", "movie_title": "title", "release_year": "year", "class": "genres"}
    fields = header(found, "\t", names)
    view = delimited(source, found, fields, "\t", "items", skip=1)
    return _items(view, "string_split(genres, ' ')", "year")


def _dat_ratings(source: Source, found: Found) -> str:
    return _ratings(delimited(source, found, RATING_FIELDS, "::", "ratings"))


def _dat_items(source: Source, found: Found) -> str:
    fields = ("item", "title", "genres")
    view = delimited(source, found, fields, "::", "items", encoding="latin-1")
    return _items(view, "string_split(genres, '|')")


def _csv_ratings(source: Source, found: Found) -> str:
    names = {"userId": "user", "movieId": "item", "rating": "rating", "timestamp": "timestamp"}
    fields = header(found, ",", names)
    return _ratings(delimited(source, found, fields, ",", "ratings", skip=1))


def _csv_items(source: Source, found: Found) -> str:
    """Titles may hold commas, and quotes around them."""
    columns = [Column(name) for name in ("movieId", "title", "genres")]
    table = open_table(source, [found], columns, "items")
    item, title, genres = (table.cells[column.name, column.many].sql for column in columns)
    return (
        f"SELECT {item} AS item, {title} AS title, CAST(NULL AS VARCHAR) AS year,"
        f" string_split({genres}, '|') AS categories, file, row FROM {table.relation}"
    )


def _100k_ratings(source: Source, found: Found) -> str:
    return _ratings(delimited(source, found, RATING_FIELDS, "\t", "ratings"))


def _100k_items(source: Source, found: Found) -> str:
    """Rows with a flag other than 0 and 1 are faults."""
    fields = ("item", "title", "", "", "", *GENRES)
    view = delimited(source, found, fields, "|", "items", encoding="latin-1")
    cells = ", ".join(f'"{name}"' for name in fields if name)
    flags = " AND ".join(f"coalesce(\"{name}\" IN ('0', '1'), FALSE)" for name in GENRES)
    add_faults(
        source.connection,
        f"SELECT 'items', '{UNPARSEABLE}', file, row, concat_ws('|', {cells}) FROM {view}"
        f" WHERE NOT ({flags})",
    )
    genres = ", ".join(f"CASE WHEN \"{name}\" = '1' THEN {literal(name)} END" for name in GENRES)
    return _items(view, f"[{genres}]") + f" WHERE {flags}"


LAYOUTS = (
    Layout("ratings.dat", "movies.dat", _dat_ratings, _dat_items),
    Layout("u.data", "u.item", _100k_ratings, _100k_items),
    Layout("ratings.csv", "movies.csv", _csv_ratings, _csv_items),
)
