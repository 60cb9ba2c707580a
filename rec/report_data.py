"""The report's section on the data: what they are, what was left out, and what popularity reaches.

Values of rejected rows are texts of strangers: they are handed on as they are, for the page's
autoescape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rec import charts
from rec.errors import RecError
from rec.report_grid import DASH, Grid, Line

SPLITS = {"train": "Train", "valid": "Validation", "test": "Test"}
Figures = Mapping[str, Any]

#: The relations and reasons of prepare.json in words: what was left out, and a note.
RELATIONS = {
    "ratings": "Ratings",
    "impressions": "Rows of the log",
    "items": "Items",
    "users": "Users",
    "lists": "Lists",
}
REASONS = {
    "unparseable": ("Rows that could not be read", ""),
    "wrong encoding": ("Rows that are not UTF-8", ""),
    "id missing": ("Rows without an id", "of a user, an item or a list"),
    "item without metadata": ("Of items without a usable title", "or without any metadata"),
    "rating missing or not a number": ("Without a rating", "or with one that is not a number"),
    "rating out of range": ("Ratings out of range", "of data.rating_minimum to rating_maximum"),
    "label missing or not a number": ("Without a label", "or with one that is not a number"),
    "timestamp missing or not a number": ("Without a time", "or with one that is not a number"),
    "timestamp impossible": ("At an impossible time", "before 1970 or after 2099"),
    "label out of range": ("With a label out of range", "data.tabular.impressions.labels"),
    "position not a number": ("With a position that is not a number", ""),
    "list of several users": ("Of lists of several users", ""),
    "exact duplicate": ("Exact duplicates", "same user, item, rating and time; one stays"),
    "repeated user and item": ("Earlier ratings of the same item", "the user's latest stays"),
    "never rated": ("Items that nobody rated", ""),
    "repeated item": ("Further rows of an item", "the first usable one stays"),
    "named by other text": (
        "Items without a title of their own",
        "not left out: another text names them",
    ),
    "title unusable": ("Items without a usable title", ""),
    "too few interactions": ("With too few interactions", "prepare.minimum_interactions"),
    "not among prepare.users": ("Not chosen", "prepare.users keeps a part, by hash"),
    "without a list": ("Left without a list", ""),
    "short last block": ("Last interactions of a user", "too few for a list"),
    "without a positive": ("Without a positive", "no order of them is better than another"),
    "without a negative": ("Without a negative", "no order of them is better than another"),
    "too few items left as negatives": ("Without enough negatives", "the user knows most items"),
    "beyond prepare.lists_per_user": ("Beyond the user's first lists", "prepare.lists_per_user"),
    "user without interactions": ("Of users without interactions", ""),
    "user not kept": ("Of users that are not kept", "see what was left out of the users"),
    "shown again in the list": ("Shown again in their list", "the first place stays"),
    "beyond prepare.list_size": ("Beyond the first places of their list", "prepare.list_size"),
    "within the profile part": ("Within the profile part", "which the LLM may read"),
}

#: Figures of the popularity baseline, and what the report calls them.
ORDERED = {
    "ndcg@5": "NDCG@5, by popularity",
    "ndcg@5_random": "NDCG@5, at random",
    "map@5": "MAP@5, by popularity",
    "map@5_random": "MAP@5, at random",
}
#: How negatives were drawn, in words.
NEGATIVES = {"popularity": "negatives by popularity", "uniform": "uniform negatives"}


@dataclass(frozen=True)
class Kind:
    """The first rejected rows of a kind."""

    title: str
    rows: Sequence[Figures]  # file, row, value


@dataclass(frozen=True)
class DataSection:
    """What the section shows."""

    counts: Grid
    facts: Grid
    spreads: Grid
    baseline: Grid
    dropped: list[Grid]
    rejected: list[Kind]
    charts: dict[str, charts.Spec]


def data_section(figures: Figures, rejects: pl.DataFrame) -> DataSection:
    """The section, of stats.json and of a REJECTS table. Raises RecError for broken figures."""
    try:
        return DataSection(
            counts=_counts(figures),
            facts=_facts(figures),
            spreads=_spreads(figures),
            baseline=_baseline(figures),
            dropped=_dropped(figures),
            rejected=_rejected(rejects),
            charts=_charts(figures),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecError(f"stats.json: not as expected ({error!r})") from error


def _counts(figures: Figures) -> Grid:
    splits = [figures["splits"][split] for split in SPLITS]

    def line(name: str, key: str, note: str = "") -> Line:
        numbers = [int(split[key]) for split in splits]
        return Line(name, [f"{number:,}" for number in [*numbers, sum(numbers)]], note)

    return Grid(
        ["By split of the users", *SPLITS.values(), "All"],
        [
            line("Users", "users"),
            line("Interactions", "interactions"),
            line("In the profile part", "profile_interactions", "what the LLM may read"),
            line("Lists", "lists"),
            line("Lists without a positive", "lists_without_a_positive"),
            line("Positives", "positives", "in all lists"),
        ],
    )


def _facts(figures: Figures) -> Grid:
    items, found = figures["per_item"], figures["candidate_lists"]
    candidates = f"{found['without_a_positive']:,} of {found['number']:,}"
    lines = [
        Line("Items", [f"{figures['items']:,}"]),
        Line("Density", [_percent(figures["density"])], "interactions / (users × items)"),
        Line("Days", [f"{figures['first_day']} to {figures['last_day']}"]),
        Line(
            "Interactions tied in time",
            [_percent(figures["share_of_interactions_tied"])],
            "another of the same user has the same time; their order is drawn",
        ),
        Line("Items without a year", [_percent(figures["share_of_items_without_year"])]),
        Line("Items without categories", [_percent(figures["share_of_items_without_categories"])]),
        *(
            Line(
                f"Held by the most popular {entry['share'] * 100:g}%",
                [_percent(entry["interactions_share"])],
                f"share of interactions; {_number(entry['items'], 'item')}",
            )
            for entry in items["most_popular"]
            if entry["share"] in (0.01, 0.1, 0.5)
        ),
        Line(
            "Gini coefficient of items",
            [DASH if items["gini"] is None else f"{items['gini']:.3f}"],
            "0: all equally popular; 1: one has all",
        ),
        Line(
            "Lists dropped without a positive",
            [f"{candidates} ({_percent(found['share_without_a_positive'])})"],
            "of the lists that could have been",
        ),
    ]
    return Grid(["Overall", "Value"], lines)


def _number(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _percent(share: float | None) -> str:
    """A share as a percentage of three digits."""
    if share is None:
        return DASH
    return f"{100 * share:.3g}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def _spreads(figures: Figures) -> Grid:
    names = {
        "Interactions per user": figures["per_user"]["interactions"],
        "Profile part per user": figures["per_user"]["profile_interactions"],
        "Lists per user": figures["per_user"]["lists"],
        "Interactions per item": figures["per_item"]["interactions"],
        "Items per list": figures["per_list"]["items"],
        "Positives per list": figures["per_list"]["positives"],
        "History before a list": figures["per_list"]["history"],
    }
    keys = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")
    lines = [
        Line(name, [*(f"{int(found[key]):,}" for key in keys), f"{found['mean']:,.2f}"])
        for name, found in names.items()
    ]
    return Grid(["How many", "Least", "25%", "Median", "75%", "Most", "Mean"], lines)


def _baseline(figures: Figures) -> Grid:
    """What the two orders reach on the main protocol's lists, and on the others' test lists."""
    baseline, further = figures["popularity_baseline"], figures["further_protocols"]
    main = {split: baseline[split] for split in SPLITS}
    note = NEGATIVES[figures["protocols"][0]] if further else ""
    lines = [_ordered(name, main, key, _value, note) for key, name in ORDERED.items()]
    for protocol, test in further.items():
        of = {**dict.fromkeys(SPLITS), "test": test}
        lines += [
            _ordered(name, of, key, _value, f"{NEGATIVES[protocol]}, test lists alone")
            for key, name in ORDERED.items()
        ]
    lines += [
        _ordered("Lists", main, "lists", _count, "with a positive"),
        _ordered("Users", main, "users", _count, "of these lists"),
    ]
    return Grid(["Order of the lists", *SPLITS.values()], lines)


def _ordered(name: str, found: Figures, key: str, cell: Callable[[Any], str], note: str) -> Line:
    return Line(name, [DASH if of is None else cell(of[key]) for of in found.values()], note)


def _value(number: float) -> str:
    return f"{number:.4f}".removeprefix("0")


def _count(number: int) -> str:
    return f"{number:,}"


def _dropped(figures: Figures) -> list[Grid]:
    """A table for each relation of which something was left out."""
    dropped = figures["dropped"]
    wholes = {name: (count, "rows read") for name, count in figures["rows_read"].items()}
    wholes["users"] = (figures["users"] + sum(dropped.get("users", {}).values()), "users")
    grids = []
    for relation, reasons in dropped.items():
        whole, unit = wholes.get(relation, (0, ""))
        lines = [
            Line(*_words(reason, [f"{count:,}"], count, whole))
            for reason, count in reasons.items()
            if count
        ]
        if lines:
            share = [f"Share of {whole:,} {unit}"] if whole else []
            grids.append(Grid([_relation(relation), "Left out", *share], lines))
    return grids


def _words(reason: str, cells: list[str], count: int, whole: int) -> tuple[str, list[str], str]:
    name, note = REASONS.get(reason, (_sentence(reason), ""))
    return name, [*cells, _percent(count / whole)] if whole else cells, note


def _relation(relation: str) -> str:
    return RELATIONS.get(relation, _sentence(relation))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].replace("_", " ")


def _rejected(rejects: pl.DataFrame) -> list[Kind]:
    kinds = []
    groups = rejects.group_by("relation", "reason", maintain_order=True)
    for (relation, reason), rows in groups:
        name, _ = REASONS.get(str(reason), (_sentence(str(reason)), ""))
        title = f"{_relation(str(relation))}: {name[:1].lower()}{name[1:]}"
        kinds.append(Kind(title, rows.select("file", "row", "value").to_dicts()))
    return kinds


def _charts(figures: Figures) -> dict[str, charts.Spec]:
    per_user, per_item = figures["per_user"]["interactions"], figures["per_item"]
    return {
        "chart-data-ratings": charts.bars_chart(figures["ratings"], "Rating", "Interactions"),
        "chart-data-users": charts.bars_chart(
            per_user["histogram"], "Interactions of a user", "Users"
        ),
        "chart-data-items": charts.bars_chart(
            per_item["interactions"]["histogram"], "Interactions of an item", "Items"
        ),
        "chart-data-popularity": charts.popularity_chart(
            per_item["most_popular"], int(figures["items"])
        ),
    }
