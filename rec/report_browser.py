"""The report's browser of pairs and users, as one value that the page holds as JSON.

Texts and titles stand in it once, in tables of their own; everything else has their numbers there.
What would make the page too large is left out by a hash of the ids, so that what stays is a fair
part, and is counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl

from rec.comparison.names import label, slug
from rec.comparison.users import MEASURE, label_metrics
from rec.errors import RecError
from rec.rerank.metrics import NAMES

MOST_PAIRS, MOST_USERS = 5_000, 1_000
MOST_LISTS = 5  # of each user
MOST_PAIR_BYTES, MOST_USER_BYTES = 5_000_000, 3_500_000  # with the texts that are new with them
DIGITS = 5
INITIAL = "Initial order"

Entry = list[Any]


@dataclass(frozen=True)
class Browsed:
    """What the browser shows, as the stages left it."""

    pairs: Mapping[int, pl.DataFrame]  # rec.tables.PAIRS, by round
    held_out: Mapping[int, pl.DataFrame]  # the same, of validation users
    prompts: pl.DataFrame  # rec.tables.PROMPTS
    responses: Mapping[str, pl.DataFrame]  # rec.tables.RESPONSES, by policy
    users: pl.DataFrame  # rec.tables.USERS
    items: pl.DataFrame  # rec.tables.ITEMS
    lists: pl.DataFrame  # rec.tables.LISTS, of the main protocol
    runs: Mapping[str, pl.DataFrame]  # rec.tables.RUNS, of one re-ranker of each variant
    metrics: pl.DataFrame  # rec.tables.USER_METRICS


def browser(browsed: Browsed, protocol: str) -> dict[str, Any]:
    """The browser's value. `protocol` is the main one.

    texts, titles: strings, named by their place everywhere below
    variants: [name, whether it is a policy with texts] of each re-ranker; lists follow this order
    pairs: [round, split, user, history, chosen, rejected, chosen score, rejected score], highest
        margin first
    users: [user, split, history, texts, values, number of lists, lists], in the order of their ids;
        a text per variant or null, NDCG@5 in the initial order and by each variant or null
    list: [titles, labels, NDCG@5 in the initial order, rankings]; a ranking is [places, NDCG@5]
    left_out: how many pairs and users the page has no room for

    Raises RecError where a run does not fit the lists.
    """
    page = _Page()
    pairs = list(_within(_pairs(browsed, page), MOST_PAIRS, MOST_PAIR_BYTES, page))
    users = list(_within(_users(browsed, protocol, page), MOST_USERS, MOST_USER_BYTES, page))
    number = sum(table.height for table in _tables(browsed))
    return {
        "texts": page.texts.values,
        "titles": page.titles.values,
        "initial": INITIAL,
        "variants": [[label(slug(v)), v in browsed.responses] for v in browsed.runs],
        "pairs": sorted(pairs, key=lambda pair: (pair[7] - pair[6], pair[1], pair[0], pair[2])),
        "users": sorted(users, key=lambda user: _natural(user[0])),
        "left_out": {
            "pairs": number - len(pairs),
            "users": browsed.users.height - len(users),
        },
    }


def as_json(value: Any) -> str:
    """JSON that may stand inside of a script element: no `<`, `>` or `&`, no needless spaces."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


class _Strings:
    """Strings, each once, and the bytes that they take."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.bytes = 0
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The place of a string, which is added where it is new."""
        found = self._numbers.setdefault(text, len(self.values))
        if found == len(self.values):
            self.values.append(text)
            self.bytes += _size(text)
        return found

    def cut(self, length: int) -> None:
        """Forget the strings from this place on."""
        for text in self.values[length:]:
            self.bytes -= _size(text)
            del self._numbers[text]
        del self.values[length:]


@dataclass
class _Page:
    texts: _Strings = field(default_factory=_Strings)
    titles: _Strings = field(default_factory=_Strings)

    @property
    def bytes(self) -> int:
        """What all strings take."""
        return self.texts.bytes + self.titles.bytes

    @property
    def lengths(self) -> tuple[int, int]:
        """How many strings there are."""
        return len(self.texts.values), len(self.titles.values)

    def cut(self, lengths: tuple[int, int]) -> None:
        """Forget the strings that came after there were so many."""
        self.texts.cut(lengths[0])
        self.titles.cut(lengths[1])


def _within(entries: Iterator[Entry], most: int, most_bytes: int, page: _Page) -> Iterator[Entry]:
    """The first `most` entries, as far as they and their new strings stay within `most_bytes`."""
    before, own = page.bytes, 0
    lengths = page.lengths
    for entry in islice(entries, most):
        own += _size(entry)
        if own + page.bytes - before > most_bytes:
            page.cut(lengths)
            return
        lengths = page.lengths
        yield entry


def _size(value: Any) -> int:
    """Bytes that an element of an array takes."""
    return len(as_json(value).encode()) + 1


def _by_hash(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _natural(user: str) -> tuple[int, int, str]:
    """Numbers before other ids, and by their value."""
    number = user.isascii() and user.isdigit()
    return (0, int(user), user) if number else (1, 0, user)


def _tables(browsed: Browsed) -> list[pl.DataFrame]:
    return [*browsed.pairs.values(), *browsed.held_out.values()]


def _pairs(browsed: Browsed, page: _Page) -> Iterator[Entry]:
    """Every pair, in the order of a hash."""
    histories = dict(browsed.prompts.select("key", "history").iter_rows())
    rows = {
        f"{number} {split} {row['user']} {row['chosen_sample']}": (number, split, row)
        for tables, split in ((browsed.pairs, "train"), (browsed.held_out, "valid"))
        for number, table in tables.items()
        for row in table.drop("messages", "chosen_ids", "rejected_ids").iter_rows(named=True)
    }
    for name in _by_hash(rows):
        number, split, row = rows[name]
        yield [
            number,
            split,
            row["user"],
            page.texts.number(histories.get(row["key"], "")),
            page.texts.number(row["chosen"]),
            page.texts.number(row["rejected"]),
            round(row["chosen_score"], DIGITS),
            round(row["rejected_score"], DIGITS),
        ]


def _users(browsed: Browsed, protocol: str, page: _Page) -> Iterator[Entry]:
    """Every user, in the order of a hash."""
    splits = dict(browsed.users.select("user", "split").iter_rows())
    prompts = browsed.prompts.select("user", "key", "history")
    histories = {user: history for user, _, history in prompts.iter_rows()}
    texts = {policy: _first_texts(table, prompts) for policy, table in browsed.responses.items()}
    values = _values(browsed.metrics, protocol, list(browsed.runs))
    lists = _Lists(browsed, protocol, page)
    for user in _by_hash(splits):
        written = [texts.get(variant, {}).get(user) for variant in browsed.runs]
        own = lists.of(user)
        yield [
            user,
            splits[user],
            page.texts.number(histories.get(user, "")),
            [None if text is None else page.texts.number(text) for text in written],
            [lists.initial.get(user), *values.get(user, [None] * len(written))],
            len(own),
            [lists.entry(name) for name in own[:MOST_LISTS]],
        ]


def _first_texts(responses: pl.DataFrame, prompts: pl.DataFrame) -> dict[str, str]:
    """The first response of each user."""
    first = responses.sort("key", "sample").unique("key", keep="first")
    return dict(first.join(prompts, on="key").select("user", "text").iter_rows())


def _values(
    metrics: pl.DataFrame, protocol: str, variants: Sequence[str]
) -> dict[str, list[float | None]]:
    """NDCG@5 of each user by each variant: means over backbones and seeds."""
    means = (
        metrics.filter(pl.col("protocol") == protocol)
        .group_by("user", "variant")
        .agg(pl.col(MEASURE).mean().round(DIGITS))
    )
    found: dict[str, list[float | None]] = {}
    for user, variant, value in means.iter_rows():
        if variant in variants:
            row = found.setdefault(user, [None] * len(variants))
            row[variants.index(variant)] = value
    return found


class _Lists:
    """The lists that were re-ranked, as entries of the page."""

    def __init__(self, browsed: Browsed, protocol: str, page: _Page) -> None:
        self._page = page
        self._titles = {
            item: title if year is None else f"{title} ({year})"
            for item, title, year in browsed.items.select("item", "title", "year").iter_rows()
        }
        self._rankings = {v: _rankings(v, runs, protocol) for v, runs in browsed.runs.items()}
        ranked = {name for rankings in self._rankings.values() for name in rankings}
        lists = browsed.lists.filter(pl.col("list").is_in(list(ranked))).sort("user", "position")
        lists = lists.with_columns(pl.Series(MEASURE, _ndcg(lists["labels"]))) if ranked else lists
        self._rows = {row["list"]: row for row in lists.iter_rows(named=True)}
        self._of: dict[str, list[str]] = {}
        for name, row in self._rows.items():
            self._of.setdefault(row["user"], []).append(name)
        self.initial = {
            user: round(sum(self._rows[name][MEASURE] for name in names) / len(names), DIGITS)
            for user, names in self._of.items()
        }

    def of(self, user: str) -> list[str]:
        """The names of a user's lists, in the order of time."""
        return self._of.get(user, [])

    def entry(self, name: str) -> Entry:
        """A list with its rankings by all variants."""
        row = self._rows[name]
        titles = [self._page.titles.number(self._titles.get(item, item)) for item in row["items"]]
        rankings = []
        for variant, of in self._rankings.items():
            found = of.get(name)
            if found is not None and sorted(found[0]) != list(range(len(titles))):
                raise RecError(
                    f"runs of {variant!r}: the places of list {name!r} are {found[0]}; they must "
                    f"be 0 to {len(titles) - 1}, each once"
                )
            rankings.append(found)
        return [titles, row["labels"], round(row[MEASURE], DIGITS), rankings]


def _rankings(variant: str, runs: pl.DataFrame, protocol: str) -> dict[str, Entry]:
    """By list [places, NDCG@5] with the user's first response, or with none."""
    first = runs.filter(
        pl.col("protocol") == protocol,
        pl.col("sample") == pl.col("sample").min().over("user", "protocol"),
    )
    if first.is_empty():
        raise RecError(f"runs of {variant!r}: no list of protocol {protocol}")
    values = [round(value, DIGITS) for value in _ndcg(first["labels"])]
    rows = zip(first["list"].to_list(), first["places"].to_list(), values, strict=True)
    return {name: [places, value] for name, places, value in rows}


def _ndcg(labels: pl.Series) -> list[float]:
    found: list[float] = label_metrics(labels)[:, NAMES.index(MEASURE)].tolist()
    return found
