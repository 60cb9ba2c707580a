"""The variants of the comparison: their names in tables, in figures and for readers."""

from __future__ import annotations

from collections.abc import Iterable

from rec.config import BASE, BASE_NAME, BASELINES, FINE_TUNED, ORDERS
from rec.errors import RecError

#: The response of the base LLM that proved best on the very lists that it is judged by.
BEST = "best"
BEST_SLUG = "best_of_n"
#: In the order of the results table; rounds stand between `sft` and `best_of_n`.
LABELS = {
    "shown": "As shown",
    "popularity": "Popularity",
    "random": "Random order",
    "none": "No knowledge",
    "noise": "Random vectors",
    "items": "Item text only",
    "swapped": "Another user's history",
    "history": "History text, no LLM",
    BASE_NAME: "Base LLM",
    "sft": "Fine-tuned on chosen",
}
BEST_LABEL = "Best of N (sees labels)"
ROUND = "round_"


def slug(variant: str) -> str:
    """The name of a variant among figures: its own, or base, round_1, round_2, best_of_n.

    Raises RecError for what is no variant.
    """
    if variant in (*ORDERS, *BASELINES, *FINE_TUNED):
        return variant
    if variant == BEST:
        return BEST_SLUG
    if not (variant.isascii() and variant.isdigit()):
        known = ", ".join((*ORDERS, *BASELINES, *FINE_TUNED))
        raise RecError(f"runs: variant {variant!r} is unknown; use {known} or a policy's number")
    return BASE_NAME if variant == BASE else f"{ROUND}{int(variant)}"


def round_number(name: str) -> int | None:
    """The round of DPO of a slug, None for other variants."""
    number = name.removeprefix(ROUND)
    return int(number) if number != name and number.isdigit() else None


def label(name: str) -> str:
    """What a reader sees for a slug; RecError where it is none."""
    if name in LABELS:
        return LABELS[name]
    if name == BEST_SLUG:
        return BEST_LABEL
    number = round_number(name)
    if number is None:
        raise RecError(f"figures: {name!r} is not the name of a variant")
    return f"DPO4Rec, round {number}"


def in_order(slugs: Iterable[str]) -> list[str]:
    """Slugs in the order of the results table.

    >>> in_order(["best_of_n", "round_2", "base", "round_1", "none"])
    ['none', 'base', 'round_1', 'round_2', 'best_of_n']
    """
    known = list(LABELS)

    def place(name: str) -> int:
        if name == BEST_SLUG:
            return 10**9
        number = round_number(name)
        return known.index(name) if number is None else len(known) + number

    return sorted(slugs, key=place)


def last_round(slugs: Iterable[str]) -> str | None:
    """The slug of the last round of DPO, None where there is none."""
    rounds = [name for name in in_order(slugs) if round_number(name) is not None]
    return rounds[-1] if rounds else None
