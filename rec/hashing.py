"""Random numbers that derive from ids and a seed alone.

SHA-256 turns an id into a key; SplitMix64 (Steele, Lea and Flood, 2014) turns a key into as many
numbers as are needed. Both are fixed in every bit: no order of rows, count of threads or version of
a library changes a split or a uniform draw. The weights of popular negatives are powers in floating
point, whose last bit may differ between machines; a draw notices it once in billions.
"""

from __future__ import annotations

from functools import cache

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

Keys = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys(texts: pl.Series) -> Keys:
    """A 64-bit key for each text: the first 16 hexadecimal digits of its SHA-256."""
    table = pl.DataFrame({"text": texts.cast(pl.String)}).with_row_index("place").to_arrow()
    query = "SELECT place, ('0x' || left(sha256(text), 16))::UBIGINT AS key FROM texts"
    connection = _connection()
    connection.register("texts", table)
    hashed: pl.DataFrame = connection.sql(query).pl()
    connection.unregister("texts")
    return hashed.sort("place")["key"].to_numpy().astype(np.uint64, copy=True)


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def keyed(prefix: str, ids: pl.Series) -> pl.Series:
    """Each id behind a prefix that says what its hash is for."""
    return pl.Series([prefix]).new_from_index(0, len(ids)) + ids


def uniform(texts: pl.Series) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each text: the first 52 bits of its SHA-256."""
    return (keys(texts) >> np.uint64(12)).astype(np.float64) * 2.0**-52


def mixed(states: Keys) -> Keys:
    """The output function of SplitMix64 for an array of states, of the same shape.

    >>> [hex(number) for number in mixed(np.array([0x9E3779B97F4A7C15], dtype=np.uint64))]
    ['0xe220a8397b1dcdaf']
    """
    z = states ^ (states >> np.uint64(30))
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def nth(states: Keys, number: int) -> Keys:
    """The random number `number` (from 0) of the sequence that each state begins."""
    return mixed(states + np.uint64((number + 1) * int(GOLDEN) % 2**64))
