"""What the LLM is asked: a user's history, and the form of the answer (paper, section 4.1).

The instructions come first and are the same for every user, the history comes last, so that the
tokens of the instructions can be computed once for all users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from rec.config import Params
from rec.tables import PROMPTS


@dataclass(frozen=True)
class Domain:
    """The words of a kind of item, and the paper's preference factors as the labels of a card."""

    items: str
    person: str
    consumed: str
    chosen: str  # the participle: what the items are to those who took them
    factors: str
    card: Mapping[str, str]  # a slot's name: what belongs there, where the name does not say it
    categories: str  # the word for an item's categories
    rated: bool = True  # whether the data tells which items were disliked

    @property
    def liked(self) -> str:
        """What the items that count as liked are called: loved, or no more than is known."""
        return "loved" if self.rated else self.chosen

    @property
    def labels(self) -> tuple[str, ...]:
        """The card's labels, which the sampler puts into a response."""
        return tuple(f"{name}:" for name in self.card)

    @property
    def lines(self) -> str:
        """The card's lines in words. A filled or a blank card would be copied by small models."""
        said = [
            f"{name.lower()} ({what})" if what else name.lower() for name, what in self.card.items()
        ]
        return ", ".join(said)


def _card(items: str, **others: str) -> dict[str, str]:
    named = {name.replace("_", " "): what for name, what in others.items()}
    rated = {f"Loved {items}": "", f"Disliked {items}": ""}
    return {**rated, **named, f"Similar {items}": "that are not in the history"}


DOMAINS: dict[str, Domain] = {
    "films": Domain(
        items="films",
        person="viewer",
        consumed="watched",
        chosen="watched",
        factors="genre, director and actors, period and country, characters, plot and theme, mood "
        "and tone, critical acclaim, production quality and soundtrack",
        card=_card(
            "films",
            Favourite_genres="",
            People="names of directors and actors",
            Period="which decades",
            Mood="adjectives",
        ),
        categories="Genres",
    ),
    "books": Domain(
        items="books",
        person="reader",
        consumed="read",
        chosen="read",
        factors="genre, author, period and setting, characters, plot and theme, mood and style, "
        "critical acclaim and length",
        card=_card(
            "books",
            Favourite_genres="",
            Authors="names",
            Period="which decades",
            Mood="adjectives",
        ),
        categories="Genres",
    ),
    "beauty": Domain(
        items="beauty products",
        person="shopper",
        consumed="bought",
        chosen="bought",
        factors="kind of product, brand, skin or hair type, purpose, ingredients, scent and shade, "
        "price and quality",
        card=_card(
            "beauty products",
            Favourite_kinds="",
            Brands="names",
            Purpose="",
            Style="adjectives",
        ),
        categories="Kinds",
    ),
    "products": Domain(
        items="products",
        person="shopper",
        consumed="bought",
        chosen="bought",
        factors="kind of product, brand, purpose, ingredients or materials, price, quality and "
        "packaging",
        card=_card(
            "products",
            Favourite_kinds="",
            Brands="names",
            Purpose="",
            Style="adjectives",
        ),
        categories="Kinds",
    ),
    "items": Domain(
        items="items",
        person="user",
        consumed="chose",
        chosen="chosen",
        factors="kind, maker, purpose, theme, style, price and quality",
        card=_card(
            "items",
            Favourite_kinds="",
            Makers="names",
            Purpose="",
            Style="adjectives",
        ),
        categories="Kinds",
    ),
}


def is_rated(params: Params) -> bool:
    """Whether the data tells which items were disliked: not where every interaction is liked.

    Every stage that has to agree with the prompts asks here. Another answer changes the text of
    each prompt, and with it all that later stages read.
    """
    data, tabular = params.data, params.data.tabular
    told = data.positive_rating > data.rating_minimum
    if data.reader != "tabular":
        return told
    if tabular.impressions.file and not tabular.interactions:
        return told and tabular.impressions.labels == "ratings"
    return told and bool(tabular.rating)


def words(domain: str, rated: bool = True) -> Domain:
    """The words of a data set, for its prompts and for the form of their answers.

    Without ratings nothing is known to be loved or disliked: the card asks for the items that were
    watched, read or bought.
    """
    found = DOMAINS[domain]
    if rated:
        return found
    told = {f"Loved {found.items}", f"Disliked {found.items}"}
    others = {name: what for name, what in found.card.items() if name not in told}
    card = {f"{found.chosen.capitalize()} {found.items}": "", **others}
    return replace(found, card=card, rated=False)


def instructions(domain: Domain, response: str) -> str:
    """The system message: the task, and the form of the answer ("card" or "text")."""
    task = (
        f"You describe the taste of a {domain.person} from the {domain.items} that they "
        f"{domain.consumed}."
    )
    if response == "text":
        return f"{task} Think of {domain.factors}. Answer in a few sentences that name titles."
    return (
        f"{task} Fill in a card with what the history shows, the {domain.items} that set this "
        f"{domain.person} apart first. Its lines are: {domain.lines}."
    )


def history_text(domain: Domain) -> pl.Expr:
    """Expression over grouped interactions (`liked`, `title`): the history as plain text."""
    liked = _titles(f"{domain.liked.capitalize()} {domain.items}: ", pl.col("liked"))
    if not domain.rated:
        return liked
    return liked + _titles(f"\nDisliked {domain.items}: ", ~pl.col("liked"))


def _titles(label: str, which: pl.Expr) -> pl.Expr:
    titles = pl.col("title").filter(which).str.join("; ").replace("", "none")
    return pl.concat_str(pl.lit(label), titles)


def liked_most(shown: pl.DataFrame, label: str, value: pl.Expr, most: int) -> pl.DataFrame:
    """The `most` values that a user's liked items have most often, as a line of text per user."""
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
        line=pl.format("\n{}: {}", pl.lit(label), pl.col("value").head(most).str.join(", "))
    )


def _recent(interactions: pl.DataFrame, items: pl.DataFrame, history: int) -> pl.DataFrame:
    """The `history` most recent interactions of each user's profile part, latest first.

    With the columns of the items; of a title in one line, null where it is empty.
    """
    title = pl.col("title").str.replace_all(r"\s+", " ").str.strip_chars().replace("", None)
    return (
        interactions.filter(pl.col("part") == "profile")
        .filter(pl.col("position") >= pl.col("position").max().over("user") + 1 - history)
        .join(items, on="item", how="left")
        .sort("user", "position", descending=[False, True])
        .with_columns(title=title)
    )


def _history_texts(shown: pl.DataFrame, said: Domain) -> pl.DataFrame:
    """Each user's history in words: titles (one without is left out), then what the liked share.

    `shown` is what `_recent` gives, with the column `liked`.
    """
    texts = shown.group_by("user", maintain_order=True).agg(history=history_text(said))
    decade = pl.concat_list(pl.format("{}s", pl.col("year") // 10 * 10))
    for line in (
        liked_most(shown, f"{said.categories} of the {said.liked}", pl.col("categories"), 4),
        liked_most(shown, f"Years of the {said.liked}", decade, 2),
    ):
        texts = texts.join(line, on="user", how="left", maintain_order="left").select(
            "user", history=pl.col("history") + pl.col("line").fill_null("")
        )
    return texts


def user_prompts(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    *,
    domain: str,
    response: str,
    history: int,
    positive_rating: float,
    rated: bool = True,
) -> pl.DataFrame:
    """One prompt per user over the `history` most recent interactions of the profile part.

    Takes the tables INTERACTIONS, ITEMS and USERS, returns PROMPTS, one row per row of `users`.
    Where the data is not `rated`, every interaction counts as liked.
    """
    said = words(domain, rated)
    system = instructions(said, response)
    liked = pl.lit(not rated) | (pl.col("rating") >= positive_rating)
    texts = _history_texts(_recent(interactions, items, history).with_columns(liked=liked), said)
    message = pl.struct(
        role=pl.lit("user"),
        content=pl.concat_str(
            pl.lit(f"The history of this {said.person}, latest first.\n"), pl.col("history")
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
