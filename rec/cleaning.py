"""Which published rows are used, by a stated policy: the others are counted, and the first kept.

| reason | what it says | what happens |
| --- | --- | --- |
| unparseable, wrong encoding | the reader could make no row of it | dropped |
| id missing | no user or no item | dropped |
| rating missing or not a number | | dropped; the item is still no negative of the user |
| rating out of range | outside of `data.rating_*` | likewise |
| timestamp missing or not a number | | likewise |
| timestamp impossible | before 1970, its first second, or after 2099 | likewise |
| item without metadata | no row of the items, or none with a usable title | dropped |
| exact duplicate | same user, item, rating and time | one stays |
| repeated user and item | later rating of the same pair | the latest stays; no fault |
| repeated item | an item's further rows of metadata | the first usable one stays; no fault |
| named by other text | title empty or nothing but markup | named by `about`; no fault |
| title unusable | likewise, and there is no other text | dropped |

Faults count towards `data.bad_rows`; what is no fault does not.
"""

from __future__ import annotations

import html.entities
from collections import Counter

import duckdb
import polars as pl

from rec.config import Data
from rec.database import registered
from rec.errors import RecError
from rec.tables import REJECTS

KEPT = 20  # rejected rows of each kind that are kept
VALUE = 200  # characters of a rejected row that are kept
#: What to look at where a fault is common.
TO_CHECK = {
    "item without metadata": "the file of the items",
    "rating out of range": "data.rating_minimum and data.rating_maximum",
    "label out of range": "data.tabular.impressions.labels",
    "timestamp missing or not a number": "the times and data.tabular.time_unit",
    "timestamp impossible": "the times and data.tabular.time_unit",
}
ID_MISSING = 1  # number of this fault
#: SQL for the whole seconds of the column timestamp; null where it holds no number.
SECONDS = (
    "coalesce(try_cast(timestamp AS BIGINT), try_cast(try_cast(timestamp AS DOUBLE) AS BIGINT))"
)
FIRST_SECOND, LAST_SECOND = 1, 4_102_444_800  # 1970 to 2099; 0 is a time that is missing

NO_FAULT = ("repeated user and item", "repeated item", "never rated", "named by other text")

MARKUP = r"<[A-Za-z/!][^>]*>?"
ENTITIES = {
    **{f"&{name}": text for name, text in html.entities.html5.items() if name.endswith(";")},
    **{f"&#{code};": chr(code) for code in range(32, 0x2100)},
    **{f"&#x{code:x};": chr(code) for code in range(32, 0x2100)},
}


class Rejects:
    """Rows that were left out: how many by relation and reason, and the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._rows: list[pl.DataFrame] = []

    def add(self, relation: str, reason: str, count: int, rows: pl.DataFrame) -> None:
        """Count `count` rows; `rows` (file, row, value) are some of them, the first ones first."""
        if not count:
            return
        self.counts[relation, reason] += count
        named = rows.select(
            pl.lit(relation).alias("relation"),
            pl.lit(reason).alias("reason"),
            pl.col("file").cast(pl.String),
            pl.col("row").cast(pl.Int64),
            pl.col("value").cast(pl.String).str.slice(0, VALUE),
        )
        self._rows.append(named)

    def of(self, relation: str) -> dict[str, int]:
        """The counts of a relation by reason, largest first."""
        found = {why: count for (where, why), count in self.counts.items() if where == relation}
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def table(self) -> pl.DataFrame:
        """The first rows of each kind: REJECTS, sorted by relation, reason, file and row."""
        rows = pl.concat([pl.DataFrame(schema=dict(REJECTS)), *self._rows])
        order = ["relation", "reason", "file", "row", "value"]
        return rows.sort(order).filter(pl.int_range(pl.len()).over("relation", "reason") < KEPT)


def usable_text(text: pl.Expr) -> pl.Expr:
    """Text without markup, entities and control characters; null where nothing is left.

    A tag that its source cut off ("<span class=...") is markup to its end.
    """
    plain = text.str.replace_all(MARKUP, " ")
    plain = plain.str.replace_many(list(ENTITIES), list(ENTITIES.values()))
    plain = plain.str.replace_all(r"[\s\p{Cc}\x{fffd}]+", " ").str.strip_chars()
    return pl.when(plain != "").then(plain)


def clean_items(
    connection: duckdb.DuckDBPyConnection, rejects: Rejects, shown: bool = False
) -> pl.DataFrame:
    """The items that have interactions and a usable title, a row each, sorted by item.

    With `shown` those that the impressions show too. Columns: item, title, year, categories.
    """
    met = " UNION ".join(
        f"SELECT DISTINCT trim(item) FROM {relation} WHERE item IS NOT NULL"
        for relation in ("raw_ratings", *(("raw_impressions",) if shown else ()))
    )
    found: pl.DataFrame = connection.sql(
        f"""
        SELECT nullif(trim(item), '') AS item, title, year, categories, about, file, row,
            trim(item) IN ({met}) AS rated
        FROM raw_items
        """
    ).pl()
    value = pl.concat_str(pl.col("item").fill_null(""), pl.lit(": "), pl.col("title").fill_null(""))
    found = found.sort("file", "row").with_columns(value=value)
    missing = found.filter(pl.col("item").is_null())
    rejects.add("items", "id missing", len(missing), missing.head(KEPT))
    found = found.filter(pl.col("item").is_not_null())
    unrated = found.filter(~pl.col("rated"))
    rejects.add("items", "never rated", len(unrated), unrated.head(0))
    named = found.filter(pl.col("rated")).with_columns(
        own=usable_text(pl.col("title")), other=usable_text(pl.col("about"))
    )
    untitled = named.filter(pl.coalesce("own", "other").is_null())
    rejects.add("items", "title unusable", len(untitled), untitled.head(KEPT))
    titled = named.filter(pl.coalesce("own", "other").is_not_null())
    first = titled.sort(pl.col("own").is_null(), "file", "row").unique(
        "item", keep="first", maintain_order=True
    )
    again = titled.join(first, on=["file", "row"], how="anti", maintain_order="left")
    rejects.add("items", "repeated item", len(again), again.head(KEPT))
    other = first.filter(pl.col("own").is_null())
    rejects.add("items", "named by other text", len(other), other.sort("file", "row").head(KEPT))
    return first.select(
        "item",
        title=pl.coalesce("own", "other"),
        year=pl.col("year").cast(pl.Int32),
        categories=pl.col("categories").cast(pl.List(pl.String)).fill_null([]),
    ).sort("item")


def _conditions(data: Data) -> dict[str, str]:
    """What is wrong with a rating, in SQL; the first that holds is its fault."""
    lowest, highest = data.rating_minimum, data.rating_maximum
    return {
        "id missing": "r.user IS NULL OR r.item IS NULL",
        "item without metadata": "item_code IS NULL",
        "rating missing or not a number": "rating IS NULL OR isnan(rating)",
        "rating out of range": f"rating NOT BETWEEN {lowest} AND {highest}",
        "timestamp missing or not a number": "timestamp IS NULL",
        "timestamp impossible": f"timestamp NOT BETWEEN {FIRST_SECOND} AND {LAST_SECOND}",
    }


def judge_ratings(connection: duckdb.DuckDBPyConnection, data: Data, items: pl.DataFrame) -> None:
    """Make the view `judged`: what can be read of each rating, and the number of its fault.

    Columns: user, item_code (the place in `items`; null for an item without metadata), rating
    (FLOAT), timestamp (BIGINT), file, row, fault (0 where there is none), value (as published).
    """
    coded = items.select("item").with_row_index("item_code")
    with registered(connection, "coded_items_frame", coded):
        connection.execute("CREATE TABLE coded_items AS FROM coded_items_frame")
    faults = " ".join(
        f"WHEN {condition} THEN {number}"
        for number, condition in enumerate(_conditions(data).values(), 1)
    )
    connection.execute(
        f"""
        CREATE VIEW judged AS
        SELECT r.user, item_code, rating, timestamp, file, row, value,
            CAST(CASE {faults} ELSE 0 END AS UTINYINT) AS fault
        FROM (
            SELECT nullif(trim(user), '') AS user, nullif(trim(item), '') AS item,
                try_cast(rating AS FLOAT) AS rating, {SECONDS} AS timestamp, file, row,
                {shown_value("user", "item", "rating", "timestamp")} AS value
            FROM raw_ratings
        ) AS r
        LEFT JOIN coded_items USING (item)
        """
    )


def reject_judged(
    connection: duckdb.DuckDBPyConnection, data: Data, counts: Counter[int], rejects: Rejects
) -> None:
    """Add the ratings of the view `judged` that are faulty; `counts` are theirs by number."""
    reasons = dict(enumerate(_conditions(data), 1))
    found = {fault: counts[fault] for fault in reasons if counts[fault]}
    if not found:
        return
    first = first_faulty(connection, "judged WHERE fault > 0")
    for fault, count in found.items():
        rejects.add("ratings", reasons[fault], count, first.filter(pl.col("fault") == fault))


def shown_value(*columns: str) -> str:
    """SQL for how a row reads: its columns, empty where one is missing."""
    return " || ', ' || ".join(f"coalesce(CAST({column} AS VARCHAR), '')" for column in columns)


def first_faulty(connection: duckdb.DuckDBPyConnection, source: str) -> pl.DataFrame:
    """The first rows of each fault of a relation: fault, file, row, value."""
    query = f"""
        SELECT fault, unnest(min({{'file': file, 'row': row, 'value': value}}, {KEPT}),
            recursive := true)
        FROM {source} GROUP BY fault
    """
    rows: pl.DataFrame = connection.sql(query).pl()
    return rows


def unreadable(connection: duckdb.DuckDBPyConnection, rejects: Rejects) -> None:
    """Count the rows of which the reader could make nothing."""
    query = "SELECT relation, reason, count(*) FROM raw_faults GROUP BY ALL ORDER BY ALL"
    for relation, reason, count in connection.sql(query).fetchall():
        query = """
            SELECT file, row, value FROM raw_faults WHERE relation = $1 AND reason = $2
            ORDER BY file, row LIMIT $3
        """
        rows = connection.sql(query, params=[relation, reason, KEPT]).pl()
        rejects.add(relation, reason, count, rows)


def require_good(data: Data, rejects: Rejects, relation: str, read: int) -> None:
    """Raise RecError where none of the rows read is left, or too large a share is faulty."""
    reasons = {why: n for why, n in rejects.of(relation).items() if why not in NO_FAULT}
    faults = sum(reasons.values())
    if not read:
        raise RecError(f"{data.name}: the files hold no {relation}; check data.path")
    if faults == read or faults > data.bad_rows * read:
        told = ", ".join(f"{why} {count}" for why, count in reasons.items())
        check = TO_CHECK.get(next(iter(reasons)), "the files")
        raise RecError(
            f"{data.name}: {faults} of {read} {relation} are faulty ({told}); data.bad_rows allows"
            f" a share of {data.bad_rows:g}: check {check}, or raise it"
        )
