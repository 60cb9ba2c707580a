"""Items with ratings as people write them: plain text, CSV, or JSON lines.

| form | looks like |
| --- | --- |
| plain text | `Toy Story:5, Fargo:3`, or one a line; without ratings `Toy Story, Fargo` |
| CSV (or tabs) | a header with `item` (an id) or `title`; `rating`, `timestamp`, `user` |
| JSON lines | an object a line with the same names, or `{"user": ..., "history": [...]}` |

What a text is follows from its beginning. Items stand in the order of time, oldest first, unless
they have timestamps.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rec.errors import RecError

NO_USER = ""
#: Ends an item of a plain text: its rating, and what separates it from the next.
_RATING = re.compile(r":[ \t]*([-+]?\d+(?:\.\d+)?)[ \t]*(?=[,;]|$)")
_BLANK = " \t,;"


@dataclass(frozen=True)
class Entry:
    """An item as it was written: by its id, or by a text, which is a title or an id."""

    where: str  # for errors: "history.csv: line 3"
    item: str = ""
    text: str = ""
    many: bool = False  # whether `text` may be several titles with commas between them
    rating: float | None = None
    timestamp: float | None = None


def read_entries(text: str, name: str, *, rated: bool) -> dict[str, list[Entry]]:
    """The entries of each user, in the order of the text; those of nobody have the user "".

    `name` stands before errors; `rated` says whether plain texts have ratings. Raises RecError
    where there is no entry, and for a row that is none.
    """
    text = _unified(text)
    if text.lstrip().startswith("{"):
        pairs = _of_json_lines(text, name, rated=rated)
    elif re.match(r"\s*\[\s*\{", text):
        raise RecError(f"{name}: a JSON list; write JSON lines, an object {{...}} a line")
    elif header := _header(text, name):
        pairs = _of_csv(text, header, name)
    else:
        pairs = ((NO_USER, entry) for entry in text_entries(text, name, rated=rated))
    users: dict[str, list[Entry]] = {}
    for user, entry in pairs:
        users.setdefault(user, []).append(entry)
    if not users:
        raise RecError(f"{name}: there is no item in it")
    return users


def text_entries(text: str, name: str, *, rated: bool) -> list[Entry]:
    """The entries of a plain text: `rated` TITLE:RATING with commas between, else titles.

    Semicolons and line breaks separate, too. Raises RecError for a title without a rating, and
    names the line where there are several.
    """
    lines = text.split("\n")
    entries = []
    for number, line in enumerate(lines, 1):
        where = f"{name}: line {number}" if len(lines) > 1 else name
        entries += _rated_titles(line, where) if rated else _titles(line, where)
    return entries


def _titles(line: str, where: str) -> list[Entry]:
    pieces = [_sound(piece, where).strip(_BLANK) for piece in line.split(";")]
    return [Entry(where, text=piece, many=True) for piece in pieces if piece]


def _rated_titles(line: str, where: str) -> list[Entry]:
    entries, start = [], 0
    for found in _RATING.finditer(line):
        title = _sound(line[start : found.start()], where).strip(_BLANK)
        if not title:
            raise RecError(f"{where}: the rating {found[1]} has no title before it")
        entries.append(Entry(where, text=title, rating=float(found[1])))
        start = found.end()
    if rest := _sound(line[start:], where).strip(_BLANK):
        raise RecError(
            f"{where}: {_short(rest)} has no rating; write TITLE:RATING, as in Toy Story:5, Fargo:3"
        )
    return entries


def value_entries(value: Any, where: str, *, rated: bool) -> list[Entry]:
    """The entries of a JSON value: a plain text, or a list of texts, ids and objects.

    Raises RecError for another value.
    """
    if isinstance(value, str):
        return text_entries(value, where, rated=rated)
    if not isinstance(value, list):
        raise RecError(f"{where}: {_short(value)} must be a text or a list")
    entries = []
    for number, one in enumerate(value, 1):
        place = f"{where}, item {number}"
        if isinstance(one, Mapping):
            entries.append(object_entry(one, place))
        elif isinstance(one, str) and rated:
            entries += text_entries(one, place, rated=True)
        else:
            entries.append(Entry(place, text=_identifier(one, place)))
    return entries


def object_entry(row: Mapping[str, Any], where: str) -> Entry:
    """The entry of an object with `item` or `title`, `rating` and `timestamp`.

    Raises RecError where a value is missing or of a wrong type.
    """
    item, title = row.get("item"), row.get("title")
    if item in (None, "") and title in (None, ""):
        raise RecError(f"{where}: it needs an item (an id) or a title")
    return Entry(
        where,
        item="" if item in (None, "") else _identifier(item, f"{where}: item"),
        text="" if title in (None, "") else _identifier(title, f"{where}: title"),
        rating=_number(row.get("rating"), f"{where}: rating"),
        timestamp=_number(row.get("timestamp"), f"{where}: timestamp"),
    )


def json_lines(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's object, and the place to name in errors. Blank lines are left out.

    Raises RecError for a line that is no object.
    """
    for number, line in enumerate(_unified(text).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}: line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            reason = f"{error.msg}, character {error.pos + 1}"
            raise RecError(f"{where}: not valid JSON ({reason})") from None
        except (ValueError, RecursionError) as error:  # numbers too long, lists too deep
            reason = str(error).splitlines()[0]
            raise RecError(f"{where}: not valid JSON ({reason})") from None
        if not isinstance(value, dict):
            raise RecError(f"{where}: {_short(value)} must be an object {{...}}")
        yield where, value


def _unified(text: str) -> str:
    """`text` without a byte order mark, its lines ended as Unix ends them."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def user_name(value: Any, where: str) -> str:
    """The name of a user: a text or a whole number, "" for none. RecError for another value."""
    return NO_USER if value in (None, "") else _identifier(value, f"{where}: user")


def _of_json_lines(text: str, name: str, *, rated: bool) -> Iterator[tuple[str, Entry]]:
    for where, row in json_lines(text, name):
        user = user_name(row.get("user"), where)
        if "history" in row:
            entries = value_entries(row["history"], f"{where}: history", rated=rated)
            if not entries:
                raise RecError(f"{where}: history: there is no item in it")
        else:
            entries = [object_entry(row, where)]
        yield from ((user, entry) for entry in entries)


def _header(text: str, name: str) -> list[str]:
    """The columns of a CSV's first line; none where it is no header.

    Raises RecError for a header without `item` and `title`.
    """
    line = text.lstrip("\n").partition("\n")[0]
    columns = [cell.strip().strip('"').lower() for cell in line.split(_delimiter(line))]
    if {"item", "title"} & {*columns}:
        return columns
    if len(columns) > 1 and "rating" in columns:
        raise RecError(f"{name}: the header ({_short(line)}) names no column item (an id) or title")
    return []


def _delimiter(line: str) -> str:
    return "\t" if "\t" in line else ","


def _of_csv(text: str, header: list[str], name: str) -> Iterator[tuple[str, Entry]]:
    lines = text.lstrip("\n").split("\n")
    if len({*header}) < len(header):
        raise RecError(f"{name}: a column stands twice in the header: {', '.join(header)}")
    reader = csv.reader(
        (f"{line}\n" for line in lines[1:]), delimiter=_delimiter(lines[0]), strict=True
    )
    first = text.count("\n", 0, len(text) - len(text.lstrip("\n"))) + 1  # the header's line
    try:
        for cells in reader:
            where = f"{name}: line {first + reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise RecError(f"{where}: {len(cells)} cells; the header has {len(header)} columns")
            row = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
            yield user_name(row.get("user"), where), object_entry(row, where)
    except csv.Error as error:
        raise RecError(f"{name}: line {first + reader.line_num}: not CSV ({error})") from error


def _number(value: Any, where: str) -> float | None:
    """A finite number, of JSON or as text; None for none."""
    if value in (None, ""):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RecError(f"{where}: {_short(value)} is not a number")
    return number


def _identifier(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise RecError(f"{where}: {_short(value)} must be a text or a whole number")
    try:
        return _sound(str(value), where)
    except ValueError as error:  # of more digits than Python writes
        raise RecError(f"{where}: the number is too long") from error


def _sound(text: str, where: str) -> str:
    """`text` with single blanks. RecError where UTF-8 lacks it: JSON can spell half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecError(f"{where}: {_short(text)} is not text: a character is cut in two") from None
    return " ".join(text.split())


def _short(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "the value"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
