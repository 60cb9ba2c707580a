"""A shop's own tables: CSV, TSV, Parquet or JSONL, their columns named in `data.tabular`.

With `data.tabular.impressions` there is a further relation, raw_impressions: list, user, item,
place, label, timestamp, file, row. Items that have no file of their own are those of the
interactions and the impressions, each named by the first row that tells something of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rec.config import Data, Impressions, Tabular
from rec.datasets.files import Found, find, matching, one_line, required
from rec.datasets.table_files import Cell, Column, Table, file_format, open_table
from rec.datasets.text import create_faults, literal
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.datasets import Source

#: Ticks of a second.
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGERS = (*SIGNED, *(f"U{name}" for name in SIGNED))
FLOATS = ("FLOAT", "DOUBLE")
#: Whole numbers below these are exact.
EXACT = {"FLOAT": 2**24, "DOUBLE": 2**53}
#: A date, or a date and a time, which may have an offset from UTC.
DATE_TIME = (
    "^ *([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,][0-9]+)?)?"
    " *(?:[Zz]|UTC|GMT|([+-])([0-9]{2}):?([0-9]{2})?)? *$"
)
NO_CATEGORIES = "CAST([] AS VARCHAR[])"
#: Rows of impressions come after those of interactions.
AFTER = 1 << 61
#: A label of raw_impressions; null where it is no number.
LABEL = "try_cast(label AS DOUBLE)"
NONE = ' ("" where there is none)'


@dataclass(frozen=True)
class Files:
    """The published files by their part."""

    interactions: Sequence[Found]
    items: Sequence[Found]
    impressions: Sequence[Found]


def read(source: Source) -> None:
    """Leave the relations of a shop's tables. Raises RecError for what is no such table."""
    create_faults(source.connection)
    data, tabular = source.data, source.data.tabular
    files = _files(source)
    _require_one_clock(files, tabular)
    known = [] if files.items else _item_columns(tabular)
    impressions = interactions = None
    if files.interactions:
        columns = [*_interaction_columns(tabular), *known]
        interactions = open_table(source, files.interactions, columns, "ratings")
    if files.impressions:
        log = tabular.impressions
        further = [_optional(column) for column in known] if interactions else known
        columns = [*_impression_columns(log), *further]
        impressions = open_table(source, files.impressions, columns, "impressions")
        _view(
            source,
            "raw_impressions",
            _impressions(impressions, log, log.time_unit or tabular.time_unit),
        )
    if interactions:
        _view(source, "raw_ratings", _interactions(interactions, data))
    else:
        _view(source, "raw_ratings", _clicked(data))
    if files.items:
        columns = [_needed(tabular.item, "data.tabular.item"), *_item_columns(tabular)]
        items = open_table(source, files.items, columns, "items")
        _view(source, "raw_items", _items(items, tabular, tabular.item))
        return
    parts = [(interactions, tabular.item, 0), (impressions, tabular.impressions.item, AFTER)]
    _named_by_first(source, [(t, item, at) for t, item, at in parts if t])


def _require_one_clock(files: Files, tabular: Tabular) -> None:
    """Raise RecError where a list could not be placed among the interactions by time."""
    both = files.interactions and files.impressions
    if both and not (tabular.timestamp and tabular.impressions.timestamp):
        empty = "impressions.timestamp" if tabular.timestamp else "timestamp"
        raise RecError(
            f'data.tabular.{empty}: "" is not possible; interactions and impressions of two files'
            " need a time each, or no list has a history"
        )


def _view(source: Source, name: str, query: str) -> None:
    source.connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")


# Which files


def _files(source: Source) -> Files:
    tabular = source.data.tabular
    found = find(source.path, source.work)
    items = _matching(source, found, tabular.items, "data.tabular.items")
    log = tabular.impressions.file
    impressions = _matching(source, found, log, "data.tabular.impressions.file")
    if tabular.interactions:
        setting = "data.tabular.interactions"
        interactions = _matching(source, found, tabular.interactions, setting)
        return Files(interactions, items, impressions)
    others = [
        name
        for name, file in sorted(found.items())
        if file not in (*items, *impressions) and (source.path.is_file() or file_format(name))
    ]
    if impressions and not (len(others) == 1 and source.path.is_file() and file_format(others[0])):
        return Files([], items, impressions)
    if len(others) != 1:
        shown = one_line(", ".join(others[:20])) or "no table"
        raise RecError(f"{source.path}: found {shown}: set data.tabular.interactions")
    return Files([required(found, others[0], source.path)], items, impressions)


def _matching(
    source: Source, found: Mapping[str, Found], pattern: str, setting: str
) -> list[Found]:
    """The files that a name or a pattern means, in the order of their names."""
    if not pattern:
        return []
    if pattern in found:
        return [required(found, pattern, source.path)]
    parts = matching(source.path, source.work, pattern)
    if not parts:
        shown = one_line(", ".join(sorted(found)[:20])) or "no file"
        raise RecError(f"{source.path}: no file {pattern!r}; found {shown}: set {setting}")
    return parts


# Which columns


def _interaction_columns(tabular: Tabular) -> list[Column]:
    return [
        _needed(tabular.user, "data.tabular.user"),
        _needed(tabular.item, "data.tabular.item"),
        Column(tabular.rating, f"data.tabular.rating{NONE}"),
        Column(tabular.timestamp, f"data.tabular.timestamp{NONE}"),
    ]


def _impression_columns(log: Impressions) -> list[Column]:
    setting = "data.tabular.impressions."
    return [
        _needed(log.list, f"{setting}list"),
        _needed(log.user, f"{setting}user"),
        _needed(log.item, f"{setting}item"),
        _needed(log.label, f"{setting}label"),
        Column(log.place, f"{setting}place{NONE}"),
        Column(log.timestamp, f"{setting}timestamp{NONE}"),
    ]


def _item_columns(tabular: Tabular) -> list[Column]:
    separator = tabular.category_separator
    return [
        Column(tabular.title, f"data.tabular.title{NONE}"),
        Column(tabular.year, f"data.tabular.year{NONE}"),
        Column(tabular.about, f"data.tabular.about{NONE}"),
        *(
            Column(name, "data.tabular.categories", many=True, separator=separator)
            for name in tabular.categories
        ),
    ]


def _needed(name: str, setting: str) -> Column:
    if not name:
        raise RecError(f"{setting} is empty; it must name a column")
    return Column(name, setting)


def _optional(column: Column) -> Column:
    return Column(column.name, column.setting, True, column.many, column.separator)


# Relations


def _interactions(table: Table, data: Data) -> str:
    tabular = data.tabular
    rating = table.get(tabular.rating)
    value = _number(rating) if rating else f"CAST({data.rating_maximum} AS DOUBLE)"
    user, item = (_text(table.get(name)) for name in (tabular.user, tabular.item))
    time = _time(table.get(tabular.timestamp), tabular.time_unit)
    return (
        f"SELECT {user} AS user, {item} AS item, {value} AS rating, {time} AS timestamp,"
        f" file, row FROM {table.relation}"
    )


def _impressions(table: Table, log: Impressions, unit: str) -> str:
    ids = ", ".join(
        f"{_text(table.get(getattr(log, name)))} AS {name}" for name in ("list", "user", "item")
    )
    place, label = table.get(log.place), table.get(log.label)
    return (
        f"SELECT {ids}, {_number(place) if place else 'CAST(NULL AS DOUBLE)'} AS place,"
        f" {_label(label)} AS label, {_time(table.get(log.timestamp), unit)} AS timestamp,"
        f" file, row FROM {table.relation}"
    )


def _clicked(data: Data) -> str:
    """The impressions that were clicked or rated as interactions, a click as the best rating."""
    lowest, highest = (
        f"CAST({end} AS DOUBLE)" for end in (data.rating_minimum, data.rating_maximum)
    )
    if data.tabular.impressions.labels == "clicks":
        rating, given = highest, f"{LABEL} = 1"
    else:
        rating, given = LABEL, f"{LABEL} <> 0 AND {LABEL} BETWEEN {lowest} AND {highest}"
    return (
        f"SELECT user, item, {rating} AS rating, timestamp, file, row FROM raw_impressions"
        f" WHERE {given}"
    )


def _items(table: Table, tabular: Tabular, item: str, further: str = "") -> str:
    title = _text(table.get(tabular.title)) if tabular.title else _text(table.get(item))
    year = table.get(tabular.year)
    digits = f"regexp_extract({_text(year)}, '[0-9]{{4}}')"
    return (
        f"SELECT {_text(table.get(item))} AS item, {title} AS title,"
        f" {f'try_cast({digits} AS INTEGER)' if year else 'CAST(NULL AS INTEGER)'} AS year,"
        f" {_categories(table, tabular)} AS categories, {_text(table.get(tabular.about))} AS about,"
        f" file, row{further} FROM {table.relation}"
    )


def _named_by_first(source: Source, parts: Sequence[tuple[Table, str, int]]) -> None:
    """Group the rows of tables by their item; of each column the first value stands."""
    tabular = source.data.tabular
    rows = " UNION ALL ".join(
        _items(table, tabular, item, f", sequence + {after} AS sequence")
        for table, item, after in parts
    )
    source.connection.execute(
        "CREATE OR REPLACE TABLE raw_items AS SELECT item,"
        " arg_min(title, sequence) FILTER (title IS NOT NULL) AS title,"
        " arg_min(year, sequence) FILTER (year IS NOT NULL) AS year,"
        f" coalesce(arg_min(categories, sequence) FILTER (len(categories) > 0), {NO_CATEGORIES})"
        " AS categories,"
        " arg_min(about, sequence) FILTER (about IS NOT NULL) AS about,"
        " arg_min(file, sequence) AS file, arg_min(row, sequence) AS row"
        f" FROM ({rows}) WHERE item IS NOT NULL GROUP BY item"
    )


# Cells


def _text(cell: Cell | None) -> str:
    """Text; null where it is empty. A whole number has no decimal point, as in 12.0.

    A number in floating point that is no longer exact is null: two ids could read the same.
    """
    if cell is None:
        return "CAST(NULL AS VARCHAR)"
    if cell.type == "VARCHAR":
        return f"nullif({cell.sql}, '')"
    text = f"CAST({cell.sql} AS VARCHAR)"
    if cell.type not in FLOATS and not cell.type.startswith("DECIMAL"):
        return text
    whole = f"{cell.sql} = trunc({cell.sql})"
    number = f"CASE WHEN {whole} THEN CAST(CAST({cell.sql} AS HUGEINT) AS VARCHAR) ELSE {text} END"
    if cell.type not in FLOATS:
        return number
    return f"CASE WHEN abs({cell.sql}) < {EXACT[cell.type]} THEN {number} END"


def _number(cell: Cell) -> str:
    """A number, or the text that stands for one."""
    if cell.type == "FLOAT":
        return cell.sql
    if cell.type == "BOOLEAN":
        return f"CAST(CAST({cell.sql} AS INTEGER) AS DOUBLE)"
    if cell.type in (*INTEGERS, "DOUBLE") or cell.type.startswith("DECIMAL"):
        return f"CAST({cell.sql} AS DOUBLE)"
    return _text(cell)


def _label(cell: Cell | None) -> str:
    """A label as a number or as text; true is 1 and false is 0."""
    if cell is None or cell.type != "VARCHAR":
        return f"CAST({_number(cell)} AS DOUBLE)" if cell and _is_number(cell) else _text(cell)
    lower = f"lower(trim({cell.sql}))"
    return f"CASE {lower} WHEN 'true' THEN '1' WHEN 'false' THEN '0' ELSE {_text(cell)} END"


def _is_number(cell: Cell) -> bool:
    return cell.type in (*INTEGERS, *FLOATS, "BOOLEAN") or cell.type.startswith("DECIMAL")


def _categories(table: Table, tabular: Tabular) -> str:
    """The categories of all their columns, trimmed, without empty ones."""
    lists = []
    for name in tabular.categories:
        cell = table.get(name, many=True)
        if cell is None:
            continue
        text, separator = _text(cell), tabular.category_separator
        if cell.type.endswith("]"):
            lists.append(f"CAST({cell.sql} AS VARCHAR[])")
        else:
            split = f"string_split({text}, {literal(separator)})" if separator else f"[{text}]"
            lists.append(split)
    if not lists:
        return NO_CATEGORIES
    trimmed = f"list_transform(flatten([{', '.join(lists)}]), lambda x: trim(x))"
    return f"list_filter({trimmed}, lambda x: x IS NOT NULL AND x <> '')"


def _time(cell: Cell | None, unit: str) -> str:
    """Seconds since 1970; text where it is none. Without a column, the number of the row."""
    if cell is None:
        return "sequence"
    if cell.type.startswith("TIMESTAMP") or cell.type == "DATE":
        return f"try_cast(floor(epoch({cell.sql})) AS BIGINT)"
    if unit == "text":
        return _date_time(_text(cell))
    if cell.type in INTEGERS:
        return f"try_cast({_seconds(cell.sql, unit)} AS BIGINT)"
    if cell.type in FLOATS:
        return f"try_cast(floor({cell.sql} / {TICKS[unit]}) AS BIGINT)"
    text = _text(cell)
    exact = f"try_cast(floor(try_cast({text} AS DECIMAL(38, 9))) AS BIGINT)"
    return f"coalesce(CAST({_seconds(exact, unit)} AS VARCHAR), {text})"


def _seconds(number: str, unit: str) -> str:
    """Whole seconds, rounded down, of a whole number of ticks."""
    ticks = TICKS[unit]
    if ticks == 1:
        return number
    wide = f"CAST({number} AS HUGEINT)"
    return f"(({wide} - (({wide} % {ticks}) + {ticks}) % {ticks}) // {ticks})"


def _date_time(text: str) -> str:
    """Seconds, as text, of a date and time; the text itself where it is none.

    A number is no date: it becomes null, lest it be taken for seconds.
    """
    day, time, sign, hours, minutes = (
        f"regexp_extract({text}, '{DATE_TIME}', {group})" for group in range(1, 6)
    )
    local = f"try_cast(concat({day}, ' ', coalesce(nullif({time}, ''), '00:00')) AS TIMESTAMP)"
    offset = (
        f"coalesce(try_cast({hours} AS BIGINT), 0) * 3600"
        f" + coalesce(try_cast({minutes} AS BIGINT), 0) * 60"
    )
    utc = f"CAST(epoch({local}) AS BIGINT) - CASE {sign} WHEN '-' THEN -1 ELSE 1 END * ({offset})"
    other = f"CASE WHEN try_cast({text} AS DOUBLE) IS NULL THEN {text} END"
    return f"coalesce(CAST({utc} AS VARCHAR), {other})"
