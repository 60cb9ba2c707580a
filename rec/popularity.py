"""The popularity baseline: what the lists are worth in the order of popularity, and in none.

A list's value follows from its length, its positives, and which of the first five places in the
order of popularity hold one. DuckDB finds these for each list; the metrics are then computed once
for each combination, of which there are few. Labels are 0 or 1.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import polars as pl

from rec.database import registered
from rec.distributions import rounded
from rec.rerank.metrics import average_precision, ndcg

TOP = 5
MEASURES = ("ndcg@5", "map@5")

#: A row per list: user, split, length, positives and hits, whose binary digits say which of the
#: first places hold a positive, the highest digit the first place.
JUDGED = f"""
    CREATE OR REPLACE TEMP TABLE judged AS
    WITH numbered AS (
        SELECT file_row_number AS number, "user", split, items, labels,
            len(items) AS length, len(list_filter(labels, lambda label: label >= 1)) AS positives
        FROM {{lists}}
    ), cells AS (
        SELECT number, unnest(items) AS item, unnest(labels) AS label,
            unnest(range(length)) AS place
        FROM numbered
    ), ordered AS (
        SELECT number, label,
            row_number() OVER (PARTITION BY number ORDER BY "rank", place) AS place
        FROM cells LEFT JOIN items USING (item)
    ), found AS (
        SELECT number, sum(
            CASE WHEN label >= 1 AND place <= {TOP} THEN 1 << ({TOP} - place)::INTEGER ELSE 0 END
        )::INTEGER AS hits
        FROM ordered GROUP BY number
    )
    SELECT "user", split, length, positives, hits FROM numbered JOIN found USING (number)
"""
#: Mean over users of the mean over a user's lists with a positive.
MEANS = """
    WITH valued AS (
        SELECT * FROM judged JOIN worth USING (length, positives, hits)
    ), per_user AS (
        SELECT split, "user", count(*) AS lists, {means} FROM valued GROUP BY split, "user"
    )
    SELECT split, sum(lists)::BIGINT AS lists, count(*) AS users, {means}
    FROM per_user GROUP BY split
"""


def popularity_baseline(
    connection: duckdb.DuckDBPyConnection, lists: str = "lists"
) -> dict[str, dict[str, Any]]:
    """By split: NDCG@5 and MAP@5 in the order of popularity, and as expected of a random order.

    The connection has the relations `items` and that named `lists` (with `file_row_number`). As in
    the final comparison (`rec.comparison`), a value is the mean over users of the mean over a
    user's lists, and lists without a positive, which no order tells apart, are left out: the
    figures `lists` and `users` count those that remain.
    """
    connection.execute(JUDGED.format(lists=lists))
    query = "SELECT DISTINCT length, positives, hits FROM judged WHERE positives > 0"
    combinations = worth(connection.sql(query).pl())
    columns = [name for measure in MEASURES for name in (measure, f"{measure}_random")]
    means = ", ".join(f'favg("{column}") AS "{column}"' for column in columns)
    with registered(connection, "worth", combinations):
        rows: pl.DataFrame = connection.sql(MEANS.format(means=means)).pl()
    return {
        row["split"]: {
            "lists": row["lists"],
            "users": row["users"],
            **{column: rounded(row[column]) for column in columns},
        }
        for row in rows.iter_rows(named=True)
    }


def worth(combinations: pl.DataFrame) -> pl.DataFrame:
    """The metrics of each combination of length, positives and hits.

    Of the places after the first five it only matters how many positives they add to the ideal.
    """
    hits, positives = (combinations[name].to_numpy() for name in ("hits", "positives"))
    first = (hits[:, None] >> np.arange(TOP)[::-1]) & 1
    behind = np.minimum(positives, TOP) - first.sum(1)
    labels = np.concatenate([first, np.arange(TOP) < behind[:, None]], axis=1)
    scores = np.broadcast_to(-np.arange(labels.shape[1]), labels.shape)
    shapes = [(n, p) for n, p in combinations.select("length", "positives").iter_rows()]
    return combinations.with_columns(
        pl.Series("ndcg@5", ndcg(scores, labels, TOP)),
        pl.Series("ndcg@5_random", [expected_ndcg(*shape) for shape in shapes], pl.Float64),
        pl.Series("map@5", average_precision(scores, labels, TOP)),
        pl.Series("map@5_random", [expected_precision(*shape) for shape in shapes], pl.Float64),
    )


def expected_ndcg(length: int, positives: int, k: int = TOP) -> float:
    """The mean of NDCG@k over all orders of `length` items with so many positives.

    Each place holds a positive with probability p = positives / length, so that it is
    p * sum(1 / log2(r + 1) for r = 1 ... min(k, length)), divided by the ideal,
    sum(1 / log2(r + 1) for r = 1 ... min(k, positives)).

    By hand: one positive of two items is first half of the time (1) and second otherwise
    (1 / log2(3) = 0.6309).

    >>> round(expected_ndcg(2, 1), 4)
    0.8155
    """
    reached = positives / length * _discounts(min(k, length))
    return reached / _discounts(min(k, positives))


def _discounts(places: int) -> float:
    return float((1.0 / np.log2(np.arange(2, places + 2))).sum())


def expected_precision(length: int, positives: int, k: int = TOP) -> float:
    """The mean of AP@k over all orders of `length` items with so many positives.

    Place r holds a positive with probability p = positives / length, and each of the r - 1 places
    before it does so too with probability q = p * (positives - 1) / (length - 1). The precision at
    r counts them, so that it is sum((p + (r - 1) * q) / r for r = 1 ... min(k, length)), divided by
    min(k, positives).

    By hand: one positive of two items comes first (1) or second (1 / 2).

    >>> expected_precision(2, 1)
    0.75
    """
    one = positives / length
    both = one * (positives - 1) / max(length - 1, 1)
    total = sum((one + (r - 1) * both) / r for r in range(1, min(k, length) + 1))
    return total / min(k, positives)
