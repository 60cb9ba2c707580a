"""Preference pairs: each user's best responses against their worst (DPO4Rec, arXiv 2410.05939)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rec.config import Pairs
from rec.errors import RecError
from rec.health import lacks_text
from rec.pair_metrics import Tally, pair_metrics
from rec.tables import ALL_FOLDS, PAIRS

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two responses of a user, the better one chosen."""

    chosen: Row
    rejected: Row
    spared: bool  # a worse one was cut off, and not taken for that

    @property
    def margin(self) -> float:
        """By how much the chosen one is better, in the measure of the pairs."""
        return float(self.chosen["score"] - self.rejected["score"])


def preference_pairs(
    scores: pl.DataFrame, responses: pl.DataFrame, prompts: pl.DataFrame, config: Pairs
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """Pairs of train users, held-out pairs of validation users (both `rec.tables.PAIRS`), metrics.

    Responses are ranked by `config.measure` (NDCG@5, MAP@5 or the labels' log-likelihood, of which
    a rank-based measure sees only what crosses ranks), ties by log-likelihood, then by the lower
    sample number; scores and margins are of that measure. Empty ones are left out, a text
    that the user has already, and with `config.degenerate` "drop" those that repeat themselves. The
    chosen sides are a user's `config.per_user` best responses; each meets the worst one that is not
    in a pair yet and fits in length (`config.length_ratio`), so that no response stands in two
    pairs. A response that a limit cut off (finish reason "length") is rejected only where no whole
    one fits. Pairs whose margin is not above `config.minimum_margin` are dropped. Of the train
    users' pairs `config.maximum` keeps those of the largest margin, ties by user; held-out pairs
    are all kept, and there may be none.

    Raises RecError for scores of test users, for a train user whose score is not of the fold of
    one model, for scores without a response, and where no pair of a train user is left.
    """
    table = _joined(scores, responses, prompts, config)
    train, tally = _choose(table.filter(pl.col("split") == "train"), config)
    kept = _largest(train, config.maximum, tally)
    if not kept:
        raise RecError(_nothing_left(tally, config))
    pairs, metrics = _finished(kept, tally)
    unseen, others = _finished(*_choose(table.filter(pl.col("split") == "valid"), config))
    measure = {"measure": config.measure}
    return pairs, unseen, {**measure, **metrics, "held_out": {**measure, **others}}


def _joined(
    scores: pl.DataFrame, responses: pl.DataFrame, prompts: pl.DataFrame, config: Pairs
) -> pl.DataFrame:
    """Scores with their user's prompt and their text, sorted by user, best first.

    `sound`: the response may enter a pair; `tied`: so may another text with the same score.
    """
    named = prompts.select("key", "user", "split", "messages")
    table = scores.join(named, on="user", how="left")
    _require_scores(table)
    written = responses.select(
        "key", "sample", "text", "token_ids", "finish_reason", "looping", empty=lacks_text()
    )
    table = table.join(written, on=["key", "sample"], how="left")
    missing = table.filter(pl.col("text").is_null()).sort("user", "sample")
    if missing.height:
        user, sample = missing["user"][0], missing["sample"][0]
        raise RecError(f"scores: sample {sample} of user {user!r} has no response")
    score = pl.col(config.measure).round(9)  # equal means differ in their last bits
    table = table.with_columns(score=score)
    falling = [False, True, True, False]
    table = table.sort("user", "score", "log_likelihood", "sample", descending=falling)
    keep = pl.lit(config.degenerate == "keep")
    table = table.with_columns(sound=~pl.col("empty") & (keep | ~pl.col("looping")))
    texts = pl.col("text").str.strip_chars().filter(pl.col("sound"))
    return table.with_columns(tied=texts.n_unique().over("user", "score") > 1)


def _require_scores(table: pl.DataFrame) -> None:
    """Raise RecError for test users, and for train users whose score is a mean of all models."""
    one_fold = pl.col("fold") != ALL_FOLDS
    expected = pl.when(one_fold).then(pl.lit("train")).otherwise(pl.lit("valid"))
    foreign = table.filter(pl.col("split").ne_missing(expected)).sort("user", "sample")
    if foreign.height:
        user, split, fold = foreign.select("user", "split", "fold").row(0)
        where = f"is of split {split!r}" if split else "has no prompt"
        raise RecError(
            f"scores: user {user!r} {where} and has fold {fold}; only train users become pairs, "
            f"scored by one fold, and validation users held-out pairs, scored by all ({ALL_FOLDS})"
        )


def _choose(table: pl.DataFrame, config: Pairs) -> tuple[list[Pair], Tally]:
    """All pairs of the users of a split in order, and why there are no more."""
    users: dict[str, list[Row]] = {}
    for row in table.iter_rows(named=True):
        users.setdefault(row["user"], []).append(row)
    looping = table["looping"] & ~table["empty"]
    tally = Tally(len(users), int(table["empty"].sum()), int(looping.sum()))
    pairs = []
    for own in users.values():
        found = _user_pairs(own, config)
        kept = [pair for pair in found if isinstance(pair, Pair)]
        reasons = [reason for reason in found if isinstance(reason, str)]
        tally.pairs_dropped.update(reasons)
        if not kept:
            tally.users_dropped[reasons[0]] += 1
        pairs += kept
    return pairs, tally


def _user_pairs(own: list[Row], config: Pairs) -> list[Pair | str]:
    """The pairs of a user's ranked responses; in place of one that cannot be, the reason."""
    different: dict[str, Row] = {}
    for row in own:
        if row["sound"]:
            different.setdefault(row["text"].strip(), row)
    left = list(different.values())
    if len(left) < 2:
        return [_too_few(own)]
    found: list[Pair | str] = []
    while len(found) < config.per_user and len(left) > 1:
        chosen, left = left[0], left[1:]
        pair = _pair(chosen, left, config)
        if isinstance(pair, Pair):
            left = [row for row in left if row is not pair.rejected]
        found.append(pair)
    return found


def _too_few(own: list[Row]) -> str:
    if sum(not row["empty"] for row in own) < 2:
        return "one_response"
    return "degenerate" if sum(row["sound"] for row in own) < 2 else "identical"


def _pair(chosen: Row, others: Sequence[Row], config: Pairs) -> Pair | str:
    """A response with the worst of the `others` that fits; the reason where there is no pair."""
    fitting = [row for row in others if _fits(chosen, row, config.length_ratio)]
    if not fitting:
        return "length"
    whole = [row for row in fitting if row["finish_reason"] != "length"]
    rejected = (whole or fitting)[-1]
    pair = Pair(chosen, rejected, spared=rejected is not fitting[-1])
    return pair if pair.margin > config.minimum_margin else "margin"


def _fits(first: Row, second: Row, ratio: float | None) -> bool:
    shorter, longer = sorted((len(first["token_ids"]), len(second["token_ids"])))
    return ratio is None or (shorter > 0 and longer / shorter <= ratio)


def _largest(pairs: list[Pair], maximum: int | None, tally: Tally) -> list[Pair]:
    """The pairs of the largest margin, in the order that they have; the others are counted."""
    if maximum is None or len(pairs) <= maximum:
        return pairs
    order = sorted(range(len(pairs)), key=lambda place: -pairs[place].margin)  # stable: by user
    kept = [pairs[place] for place in sorted(order[:maximum])]
    before, after = ({pair.chosen["user"] for pair in some} for some in (pairs, kept))
    tally.pairs_dropped["maximum"] = len(pairs) - len(kept)
    tally.users_dropped["maximum"] = len(before - after)
    return kept


def _nothing_left(tally: Tally, config: Pairs) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in tally.users_dropped.items())
    return (
        f"no preference pair is left of {tally.users} users ({reasons}): lower "
        f"pairs.minimum_margin ({config.minimum_margin}), or raise pairs.length_ratio "
        f"({config.length_ratio}), sampling.responses or sampling.temperature"
    )


def _finished(pairs: list[Pair], tally: Tally) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The table of pairs and its metrics."""
    table = pl.DataFrame([_flat(pair) for pair in pairs], schema=dict(PAIRS))
    tally.ties = sum(pair.chosen["tied"] or pair.rejected["tied"] for pair in pairs)
    tally.spared = sum(pair.spared for pair in pairs)
    return table, pair_metrics(table, tally)


def _flat(pair: Pair) -> Row:
    chosen, rejected = pair.chosen, pair.rejected
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
        "chosen_score": chosen["score"],
        "rejected_score": rejected["score"],
        "margin": pair.margin,
    }
