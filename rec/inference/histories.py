"""Histories of people, prepared or not, as the tables that the pipeline reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rec.config import Data, Params
from rec.errors import RecError
from rec.inference.catalogue import Catalogue, Match
from rec.inference.entries import Entry
from rec.prompts import is_rated, user_prompts
from rec.tables import INTERACTIONS, USERS, Schema, check_schema, read_table

#: The split of users who are not in the prepared data.
NEW = "new"
#: Most candidates of a list: attention over it takes memory with the square of their number.
MOST_CANDIDATES = 5_000


@dataclass(frozen=True)
class Scale:
    """The ratings of a data set."""

    minimum: float
    maximum: float
    rated: bool  # whether a rating is needed: the data tells what was disliked

    @classmethod
    def of(cls, params: Params) -> Scale:
        """The scale of the parameters' data."""
        data: Data = params.data
        return cls(data.rating_minimum, data.rating_maximum, is_rated(params))

    def checked(self, rating: float | None, where: str) -> float:
        """The rating; where none is needed, none is the highest. RecError for one off the scale."""
        if rating is None and not self.rated:
            return self.maximum
        allowed = f"it must be {self.minimum:g} to {self.maximum:g}"
        if rating is None:
            raise RecError(f"{where} has no rating; {allowed}")
        if not self.minimum <= rating <= self.maximum:
            raise RecError(f"{where}: the rating {rating:g} is out of range; {allowed}")
        return rating


@dataclass(frozen=True)
class History:
    """What a user interacted with, oldest first, each item once."""

    items: tuple[str, ...]
    ratings: tuple[float, ...]
    matches: tuple[Match, ...] = ()  # of the items that were named by a text

    def __len__(self) -> int:
        return len(self.items)


def resolve(entries: Sequence[Entry], catalogue: Catalogue, scale: Scale) -> History:
    """The history that entries name, in the order of their timestamps where they have them.

    Of an item that stands there twice the last one counts. Raises RecError for an item that is
    unknown or could be several, for a rating off the scale or missing, and where some entries have
    timestamps and others not.
    """
    rows: dict[str, tuple[float, float]] = {}  # timestamp and rating
    timed = [entry.timestamp is not None for entry in entries]
    if any(timed) and not all(timed):
        where = entries[timed.index(False)].where
        raise RecError(f"{where}: the timestamp is missing; give all items one, or none")
    named = list(found(entries, catalogue))
    for entry, match in named:
        rating = scale.checked(entry.rating, f"{entry.where}: {match.label}")
        rows.pop(match.item, None)
        rows[match.item] = (entry.timestamp or 0.0, rating)
    ordered = sorted(rows, key=lambda item: rows[item][0])
    matches = tuple(match for entry, match in named if not entry.item)
    return History(tuple(ordered), tuple(rows[item][1] for item in ordered), matches)


def resolve_candidates(entries: Sequence[Entry], catalogue: Catalogue) -> tuple[Match, ...]:
    """The items that entries name, each once.

    Raises RecError for an item that is unknown or could be several, and for too many.
    """
    matches: dict[str, Match] = {}
    for _, match in found(entries, catalogue):
        matches.setdefault(match.item, match)
    if len(matches) > MOST_CANDIDATES:
        raise RecError(
            f"{entries[0].where}: {len(matches)} candidates; {MOST_CANDIDATES} are the most"
        )
    return tuple(matches.values())


def found(entries: Sequence[Entry], catalogue: Catalogue) -> Iterator[tuple[Entry, Match]]:
    """The items that entries name. Raises RecError where one is unknown or could be several."""
    catalogue.expect(entry.text for entry in entries if not entry.item)
    for entry in entries:
        texts = catalogue.titles(entry.text) if entry.many else [entry.text]
        try:
            matches = [catalogue.by_id(entry.item)] if entry.item else map(catalogue.find, texts)
            yield from ((entry, match) for match in matches)
        except RecError as error:
            unrated = "; has each title a rating?" if "," in entry.text and entry.rating else ""
            raise RecError(f"{entry.where}: {error}{unrated}") from None


def interactions(histories: dict[str, History]) -> pl.DataFrame:
    """The table INTERACTIONS of histories by user: all of them the profile part."""
    rows = [
        (user, item, rating, place, place, "profile")
        for user, history in histories.items()
        for place, (item, rating) in enumerate(zip(history.items, history.ratings, strict=True))
    ]
    return pl.DataFrame(rows, schema=dict(INTERACTIONS), orient="row").sort("user", "position")


def prompts(histories: dict[str, History], items: pl.DataFrame, params: Params) -> pl.DataFrame:
    """The table PROMPTS of histories by user, as the pipeline asks about prepared users."""
    users = pl.DataFrame(
        [(user, NEW, len(history), 0) for user, history in histories.items()],
        schema=dict(USERS),
        orient="row",
    )
    return user_prompts(
        interactions(histories),
        items,
        users,
        domain=params.data.domain,
        response=params.prompts.response,
        history=params.prompts.history,
        positive_rating=params.data.positive_rating,
        rated=is_rated(params),
    )


def prepared_history(user: str, path: Path) -> History:
    """The profile part of a prepared user, from the table INTERACTIONS.

    It is what the LLM reads, and lies before all of the user's lists. Raises RecError where there
    is none.
    """
    rows = prepared_rows(user, path, INTERACTIONS).filter(pl.col("part") == "profile")
    return History(tuple(rows["item"]), tuple(rows["rating"]))


def prepared_rows(value: str, path: Path, schema: Schema, column: str = "user") -> pl.DataFrame:
    """The rows of a table about a prepared user. Raises RecError where there is none."""
    if not path.is_file():
        return read_table(path, schema)
    try:
        rows = pl.scan_parquet(path, glob=False).filter(pl.col(column) == value).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RecError(f"{path}: not a readable Parquet file ({reason})") from error
    if rows.is_empty():
        raise RecError(f"{path}: {column} {value!r} is not in it")
    return check_schema(rows, schema, str(path))
