"""Preference pairs: each user's best response against their worst (DPO4Rec, arXiv 2410.05939)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from rec.config import Pairs
from rec.errors import RecError
from rec.health import lacks_text
from rec.tables import PAIRS

Row = dict[str, Any]


@dataclass
class Counts:
    """Why users gave no pair, and how pairs were decided."""

    single: int = 0  # fewer than two responses that are not empty
    identical: int = 0  # best and worst are the same text
    margin: int = 0  # the margin is not above pairs.minimum_margin
    maximum: int = 0  # beyond pairs.maximum
    empty: int = 0  # responses without text in a slot, left out
    ties: int = 0  # pairs kept whose best NDCG@5 or worst is shared: log-likelihood decided
    spared: int = 0  # users whose worst response was cut off and another was taken


def preference_pairs(
    scores: pl.DataFrame, responses: pl.DataFrame, prompts: pl.DataFrame, config: Pairs
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Pairs (`rec.tables.PAIRS`) and their metrics, from SCORES, RESPONSES and PROMPTS.

    Best and worst are by NDCG@5, ties by log-likelihood, then by the lower sample number. Empty
    responses are left out. A response that a limit cut off (finish reason "length") is rejected
    only where the user has no whole one besides the chosen. Pairs of identical text, and pairs
    whose margin in NDCG@5 is not above `config.minimum_margin`, are dropped; of the rest,
    `config.maximum` keeps those of the largest margin, ties by user.

    Raises RecError for scores of users that are not train users, for scores without a response, and
    where no pair is left.
    """
    table = _joined(scores, responses, prompts)
    counts = Counts(empty=int(table["empty"].sum()))
    rows = [_pair(user, counts) for user in _by_user(table)]
    rows = [row for row in rows if row["margin"] is not None and _keep(row, config, counts)]
    rows.sort(key=lambda row: (-row["margin"], row["user"]))
    if config.maximum is not None:
        counts.maximum = max(0, len(rows) - config.maximum)
        rows = rows[: config.maximum]
    if not rows:
        raise RecError(
            f"no preference pair is left of {table['user'].n_unique()} users ({counts.single} with "
            f"one response, {counts.identical} with identical texts, {counts.margin} with a margin "
            f"of {config.minimum_margin} or less): lower pairs.minimum_margin, or raise "
            "sampling.responses or sampling.temperature"
        )
    counts.ties = sum(row["tie"] for row in rows)
    pairs = pl.DataFrame([_flat(row) for row in rows], schema=dict(PAIRS)).sort("user")
    return pairs, _metrics(pairs, rows, counts, table)


def _joined(scores: pl.DataFrame, responses: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    named = prompts.select("key", "user", "split", "messages")
    table = scores.join(named, on="user", how="left")
    foreign = table.filter(pl.col("split").ne_missing("train")).sort("user")
    if foreign.height:
        user, split = foreign["user"][0], foreign["split"][0]
        where = "has no prompt" if split is None else f"is of split {split!r}"
        raise RecError(f"scores: user {user!r} {where}; only train users may become pairs")
    written = responses.select(
        "key", "sample", "text", "token_ids", "finish_reason", empty=lacks_text()
    )
    table = table.join(written, on=["key", "sample"], how="left").sort("user", "sample")
    table = table.with_columns(pl.col("ndcg@5").round(9))  # equal means differ in their last bits
    missing = table.filter(pl.col("text").is_null())
    if missing.height:
        user, sample = missing["user"][0], missing["sample"][0]
        raise RecError(f"scores: sample {sample} of user {user!r} has no response")
    return table


def _by_user(table: pl.DataFrame) -> list[list[Row]]:
    """The responses of each user that hold text, best first."""
    users: dict[str, list[Row]] = {}
    for row in table.iter_rows(named=True):
        own = users.setdefault(row["user"], [])
        if not row["empty"]:
            own.append(row)
    return [sorted(own, key=_rank) for own in users.values()]


def _rank(row: Row) -> tuple[float, float, int]:
    return (-row["ndcg@5"], -row["log_likelihood"], row["sample"])


def _pair(own: list[Row], counts: Counts) -> Row:
    """Best and worst of a user's ranked responses; a margin of None where there is no pair."""
    if len(own) < 2:
        counts.single += 1
        return {"margin": None}
    chosen, *others = own
    whole = [row for row in others if row["finish_reason"] != "length"]
    worst = (whole or others)[-1]
    counts.spared += worst is not others[-1]
    level = [row["ndcg@5"] for row in own]
    tie = level.count(chosen["ndcg@5"]) > 1 or level.count(worst["ndcg@5"]) > 1
    return {
        "user": chosen["user"],
        "chosen": chosen,
        "rejected": worst,
        "margin": chosen["ndcg@5"] - worst["ndcg@5"],
        "tie": tie,
    }


def _keep(row: Row, config: Pairs, counts: Counts) -> bool:
    if row["chosen"]["text"].strip() == row["rejected"]["text"].strip():
        counts.identical += 1
        return False
    if not row["margin"] > config.minimum_margin:
        counts.margin += 1
        return False
    return True


def _flat(row: Row) -> Row:
    chosen, rejected = row["chosen"], row["rejected"]
    return {
        "key": chosen["key"],
        "user": chosen["user"],
        "messages": chosen["messages"],
        "chosen": chosen["text"],
        "rejected": rejected["text"],
        "chosen_ids": chosen["token_ids"],
        "rejected_ids": rejected["token_ids"],
        "chosen_sample": chosen["sample"],
        "rejected_sample": rejected["sample"],
        "chosen_score": chosen["ndcg@5"],
        "rejected_score": rejected["ndcg@5"],
        "margin": row["margin"],
    }


def _metrics(
    pairs: pl.DataFrame, rows: list[Row], counts: Counts, table: pl.DataFrame
) -> dict[str, Any]:
    difference = pairs["chosen_ids"].list.len().cast(int) - pairs["rejected_ids"].list.len().cast(
        int
    )
    margins = pl.Series([row["margin"] for row in rows])
    return {
        "pairs": pairs.height,
        "users": table["user"].n_unique(),
        "dropped": {
            "one_response": counts.single,
            "identical": counts.identical,
            "margin": counts.margin,
            "maximum": counts.maximum,
        },
        "mean_margin": margins.mean(),
        "median_margin": margins.median(),
        "mean_length_difference": difference.mean(),
        "ties": counts.ties,
        "cut_spared": counts.spared,
        "empty_responses": counts.empty,
    }
