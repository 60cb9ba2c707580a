"""The items that a person names: by id, or by a title that need not be written exactly.

A text is looked for as a title, with case, accents, punctuation, leading articles and "Title, The"
aside, or as an id; then as one of the titles that another has in parentheses; then with a typing
error per five characters, three at most; then as some of a title's words. The first of these that
finds an item decides, and it must find one alone; of items with the same title and year the most
popular is meant. Numbers are never taken for one another: "Rocky 2" is not "Rocky 3".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from rec.errors import RecError
from rec.titles import YEAR, article_first

#: Stands before an id where it could also be a title.
ID_MARK = "#"
_ROMAN = ("ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii")
_CHARACTERS_PER_ERROR, _MOST_ERRORS = 5, 3
_MOST_COMMAS, _LONGEST = 5, 500  # commas and characters of a title
_SHOWN = 6  # candidates that an error names
_NEAREST = 3


@dataclass(frozen=True)
class Match:
    """An item that a text names."""

    text: str  # as it was written
    item: str
    label: str  # the title with its year
    approximate: bool  # whether the text is neither the title nor the id

    def __str__(self) -> str:
        return f"{self.text} → {self.label}"


class Catalogue:
    """The items of the table ITEMS, to be found by id or title."""

    def __init__(self, items: pl.DataFrame) -> None:
        self.items = items
        self._rows = {item: row for row, item in enumerate(items["item"])}
        self._found: dict[str, Match] = {}
        self._read: dict[str, str] = {}  # keys of texts

    def __contains__(self, item: str) -> bool:
        return item in self._rows

    def label(self, item: str) -> str:
        """The title of an item with its year; the id where it has none."""
        title, year = self.items.select("title", "year").row(self._rows[item])
        return item if title is None else title if year is None else f"{title} ({year})"

    def expect(self, texts: Iterable[str]) -> None:
        """Read texts that will be looked for: many at once are read faster than one by one."""
        new = {text.strip() for text in texts} - {*self._read}
        if not new:
            return
        key = _as_key(pl.col("text").str.replace(YEAR, ""))
        table = pl.DataFrame({"text": list(new)}, schema={"text": pl.String})
        self._read |= dict(table.select("text", key=key).iter_rows())

    def by_id(self, item: str) -> Match:
        """The item of an id. Raises RecError where there is none."""
        if item not in self._rows:
            raise RecError(f"no item has the id {item!r}")
        return Match(item, item, self.label(item), approximate=False)

    def find(self, text: str) -> Match:
        """The item of a title or an id, "#12" being the id 12.

        Raises RecError where several could be meant, naming them, or none, naming the nearest.
        """
        text = text.strip()
        if text not in self._found:
            self._found[text] = self._find(text)
        return self._found[text]

    def titles(self, text: str) -> list[str]:
        """The titles that stand in a text with commas between them; titles may hold commas."""
        if len(text) <= _LONGEST:
            year, key = _year(text), self._key(text.strip())
            if self._titled(key, year) or self._misspelt(key, year):
                return [text]
        parts = text.split(",")
        ends = [range(min(at + 1 + _MOST_COMMAS, len(parts)), at, -1) for at in range(len(parts))]
        joined = {
            (at, end): ",".join(parts[at:end]).strip()
            for at in range(len(parts))
            for end in ends[at]
        }
        self.expect(joined.values())
        titles, at = [], 0
        while at < len(parts):
            end = next((end for end in ends[at] if self._is_title(joined[at, end])), at + 1)
            titles.append(joined[at, end])
            at = end
        return [title for title in titles if title]

    def _is_title(self, text: str) -> bool:
        key, year = self._key(text), _year(text)
        return bool(self._titled(key, year) or self._also_called(key, year))

    def _find(self, text: str) -> Match:
        if not 0 < len(text) <= _LONGEST:
            said = "an empty text" if not text else f"{text[:40]!r}... ({len(text)} characters)"
            raise RecError(f"{said} names no item")
        marked = text.removeprefix(ID_MARK)
        if marked != text and marked in self._rows:
            return Match(text, marked, self.label(marked), approximate=False)
        year, key = _year(text), self._key(text)
        named = {*self._titled(key, year), *([self._rows[text]] if text in self._rows else [])}
        if named:
            return self._one(text, named, approximate=False)
        for look in (self._also_called, self._misspelt, self._part_of):
            if rows := look(key, year):
                return self._one(text, rows, approximate=True)
        raise RecError(f"no item is called {text!r}{self._nearest(key)}")

    def _key(self, text: str) -> str:
        if text not in self._read:
            self.expect([text])
        return self._read[text]

    def _one(self, text: str, rows: Iterable[int], *, approximate: bool) -> Match:
        places = self.items["rank"]
        known = sorted({*rows}, key=lambda row: int(places[row]))
        items = [str(self.items["item"][row]) for row in known]
        if len({self.label(item) for item in items}) == 1:
            return Match(text, items[0], self.label(items[0]), approximate)
        shown = ", ".join(f"{ID_MARK}{item} {self.label(item)}" for item in items[:_SHOWN])
        more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
        raise RecError(
            f"{text!r} could be {shown}{more}; write the year too, or {ID_MARK} and the id"
        )

    def _titled(self, key: str, year: int | None) -> list[int]:
        return self._of_year(self._titles.get(key, []), year)

    def _also_called(self, key: str, year: int | None) -> list[int]:
        return self._of_year(self._other_titles.get(key, []), year)

    def _misspelt(self, key: str, year: int | None) -> list[int]:
        """The items whose titles have the fewest typing errors."""
        limit = min(_MOST_ERRORS, len(key) // _CHARACTERS_PER_ERROR)
        if limit == 0:
            return []
        by_errors: dict[float, list[int]] = defaultdict(list)
        near = process.extract(
            key, self._keys, scorer=OSA.distance, score_cutoff=limit, limit=None, processor=None
        )
        for name, errors, _ in near:
            if _numbers(name) == _numbers(key):
                by_errors[errors] += self._of_year(self._called(name), year)
        return next((rows for _, rows in sorted(by_errors.items()) if rows), [])

    def _part_of(self, key: str, year: int | None) -> list[int]:
        """The items whose titles hold all words of the key."""
        words = {*key.split()}
        if not words:
            return []
        names = [name for name in self._keys if words.issubset(name.split())]
        return self._of_year([row for name in names for row in self._called(name)], year)

    def _nearest(self, key: str) -> str:
        keys = self._keys if key else []
        near = process.extract(key, keys, scorer=fuzz.ratio, limit=_NEAREST, processor=None)
        rows = dict.fromkeys(self._called(name)[0] for name, _, _ in near)
        labels = [self.label(self.items["item"][row]) for row in rows]
        return f"; the nearest are {', '.join(labels)}" if labels else ""

    def _of_year(self, rows: Sequence[int], year: int | None) -> list[int]:
        """Those of the year; else those of a year before or after it, and of none."""
        if year is None:
            return list(rows)
        years = self.items["year"]
        same = [row for row in rows if years[row] == year]
        return same or [row for row in rows if years[row] is None or abs(years[row] - year) == 1]

    def _called(self, key: str) -> list[int]:
        return [*self._titles.get(key, []), *self._other_titles.get(key, [])]

    @cached_property
    def _keys(self) -> list[str]:
        return list(dict.fromkeys([*self._titles, *self._other_titles]))

    @cached_property
    def _titles(self) -> dict[str, list[int]]:
        return _grouped(self.items.select(row=pl.int_range(pl.len()), name="title"))

    @cached_property
    def _other_titles(self) -> dict[str, list[int]]:
        """Of titles such as "Hate (La Haine)": what stands in parentheses, and before them."""
        title = pl.col("title")
        others = pl.concat_list(
            title.str.extract_all(r"\([^()]+\)"), title.str.extract(r"^([^(]+)\(")
        )
        table = self.items.select(row=pl.int_range(pl.len()), name=others)
        return _grouped(table.explode("name"))


def _grouped(names: pl.DataFrame) -> dict[str, list[int]]:
    """Rows by the key of their name."""
    keyed = names.drop_nulls().select("row", key=_as_key(pl.col("name")))
    grouped = keyed.filter(pl.col("key") != "").group_by("key", maintain_order=True)
    return dict(grouped.agg(pl.col("row").unique()).iter_rows())


def _as_key(title: pl.Expr) -> pl.Expr:
    """What is compared of a title without its year: its words in small letters, blanks between.

    Without accents, a leading article and punctuation; "&" is "and", Roman numbers are Arabic.
    """
    words = (
        article_first(title.str.to_titlecase())
        .str.normalize("NFKD")
        .str.replace_all(r"[\x{300}-\x{36f}]+", "")
    )
    words = words.str.to_lowercase().str.replace_all(r"['’`]", "").str.replace_all("&", " and ")
    words = words.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars()
    for number, numeral in enumerate(_ROMAN, 2):
        words = words.str.replace_all(rf"\b{numeral}\b", str(number))
    return words.str.replace(r"^(?:the|an?) (.)", "${1}")


def _year(text: str) -> int | None:
    found = re.search(YEAR, text)
    return int(found[1]) if found else None


def _numbers(key: str) -> list[str]:
    return re.findall(r"\d+", key)
