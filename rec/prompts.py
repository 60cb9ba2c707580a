"""What the LLM is asked: a user's history, and the form of the answer (paper, section 4.1).

The instructions come first and are the same for every user, the history comes last, so that the
tokens of the instructions can be computed once for all users.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rec.tables import PROMPTS


@dataclass(frozen=True)
class Domain:
    """The words of a kind of item, and the paper's preference factors as the labels of a card."""

    items: str
    person: str
    consumed: str
    factors: str
    labels: tuple[str, ...]  # of the card
    categories: str  # the word for an item's categories
    blank: str  # the card as the LLM is shown it: what belongs after each label


def _labels(items: str, *others: str) -> tuple[str, ...]:
    names = (f"Loved {items}", f"Disliked {items}", *others, f"Similar {items}")
    return tuple(f"{name}:" for name in names)


DOMAINS: dict[str, Domain] = {
    "films": Domain(
        items="films",
        person="viewer",
        consumed="watched",
        factors="genre, director and actors, period and country, characters, plot and theme, mood "
        "and tone, critical acclaim, production quality and soundtrack",
        labels=_labels("films", "Favourite genres", "People", "Period", "Mood"),
        categories="Genres",
        blank="Loved films: <titles>\n"
        "Disliked films: <titles>\n"
        "Favourite genres: <genres>\n"
        "People: <directors and actors>\n"
        "Period: <decades>\n"
        "Mood: <two or three words>\n"
        "Similar films: <titles>",
    ),
    "books": Domain(
        items="books",
        person="reader",
        consumed="read",
        factors="genre, author, period and setting, characters, plot and theme, mood and style, "
        "critical acclaim and length",
        labels=_labels("books", "Favourite genres", "Authors", "Period", "Mood"),
        categories="Genres",
        blank="Loved books: <titles>\n"
        "Disliked books: <titles>\n"
        "Favourite genres: <genres>\n"
        "Authors: <authors>\n"
        "Period: <decades>\n"
        "Mood: <two or three words>\n"
        "Similar books: <titles>",
    ),
    "products": Domain(
        items="products",
        person="shopper",
        consumed="bought",
        factors="kind of product, brand, purpose, ingredients or materials, price, quality and "
        "packaging",
        labels=_labels("products", "Favourite kinds", "Brands", "Purpose", "Style"),
        categories="Kinds",
        blank="Loved products: <titles>\n"
        "Disliked products: <titles>\n"
        "Favourite kinds: <kinds>\n"
        "Brands: <brands>\n"
        "Purpose: <two or three words>\n"
        "Style: <two or three words>\n"
        "Similar products: <titles>",
    ),
}


def instructions(domain: Domain, response: str) -> str:
    """The system message: the task, and the form of the answer ("card" or "text")."""
    task = (
        f"You describe the taste of a {domain.person} from the {domain.items} that they "
        f"{domain.consumed}."
    )
    if response == "text":
        return f"{task} Think of {domain.factors}. Answer in a few sentences that name titles."
    return (
        f"{task} Fill in this card with what the history shows, the {domain.items} that set this "
        f"{domain.person} apart first:\n{domain.blank}"
    )


def history_text(domain: Domain) -> pl.Expr:
    """Expression over grouped interactions (`liked`, `title`): the history as plain text."""
    liked = pl.col("title").filter(pl.col("liked")).str.join("; ")
    disliked = pl.col("title").filter(~pl.col("liked")).str.join("; ")
    return pl.concat_str(
        pl.lit(f"Loved {domain.items}: "),
        liked.replace("", "none"),
        pl.lit(f"\nDisliked {domain.items}: "),
        disliked.replace("", "none"),
    )


def loved_most(shown: pl.DataFrame, label: str, value: pl.Expr, most: int) -> pl.DataFrame:
    """The `most` values that a user's loved items have most often, as a line of text per user."""
    counts = (
        shown.filter(pl.col("liked"))
        .select("user", value=value)
        .explode("value")
        .drop_nulls()
        .group_by("user", "value")
        .len()
        .sort("user", "len", "value", descending=[False, True, False])
    )
    return counts.group_by("user", maintain_order=True).agg(
        line=pl.format(
            "\n{} of the loved: {}", pl.lit(label), pl.col("value").head(most).str.join(", ")
        )
    )


def user_prompts(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    *,
    domain: str,
    response: str,
    history: int,
    positive_rating: float,
) -> pl.DataFrame:
    """One prompt per user over the `history` most recent interactions of the profile part.

    Takes the tables INTERACTIONS, ITEMS and USERS, returns PROMPTS, one row per row of `users`.
    """
    words = DOMAINS[domain]
    system = instructions(words, response)
    shown = (
        interactions.filter(pl.col("part") == "profile")
        .filter(pl.col("position") >= pl.col("position").max().over("user") + 1 - history)
        .join(items, on="item", how="left")
        .sort("user", "position", descending=[False, True])
        .with_columns(
            liked=pl.col("rating") >= positive_rating,
            title=pl.col("title")
            .str.replace_all(r"\s+", " ")
            .str.strip_chars()
            .replace("", None),  # a null title is left out
        )
    )
    texts = shown.group_by("user", maintain_order=True).agg(history=history_text(words))
    decade = pl.concat_list(pl.format("{}s", pl.col("year") // 10 * 10))
    for line in (
        loved_most(shown, words.categories, pl.col("categories"), 4),
        loved_most(shown, "Years", decade, 2),
    ):
        texts = texts.join(line, on="user", how="left", maintain_order="left").select(
            "user", history=pl.col("history") + pl.col("line").fill_null("")
        )
    message = pl.struct(
        role=pl.lit("user"),
        content=pl.concat_str(
            pl.lit(f"The history of this {words.person}, latest first.\n"), pl.col("history")
        ),
    )
    return (
        users.select("user", "split")
        .join(texts, on="user", how="inner")
        .with_columns(
            key=pl.concat_str(pl.lit("user:"), pl.col("user")),
            kind=pl.lit("user"),
            messages=pl.concat_list(
                pl.struct(role=pl.lit("system"), content=pl.lit(system)), message
            ),
        )
        .select(list(PROMPTS))
        .sort("key")
    )
