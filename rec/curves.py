"""Training curves as flat tables: of the reward models and of alignment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rec.errors import RecError
from rec.files import atomic_path
from rec.tables import Schema

#: One epoch of one reward model, of those of a fold.
REWARD_CURVES: Schema = {
    "round": pl.Int64,
    "fold": pl.Int64,
    "model": pl.Int64,
    "epoch": pl.Int64,
    "train_loss": pl.Float64,
    "valid_ndcg": pl.Float64,
}
#: One optimiser step of the alignment. Rewards are beta times the log-ratio to the reference.
ALIGNMENT: Schema = {
    "step": pl.Int64,
    "loss": pl.Float64,
    "margin": pl.Float64,  # of the rewards
    "accuracy": pl.Float64,  # share of pairs whose chosen side has the higher reward
    "chosen_reward": pl.Float64,
    "rejected_reward": pl.Float64,
    "chosen_log_probability": pl.Float64,  # of a response, nats
    "rejected_log_probability": pl.Float64,
    "chosen_log_ratio": pl.Float64,  # to the reference, nats per token
    "rejected_log_ratio": pl.Float64,
    "kl": pl.Float64,  # of the reference from the policy, nats per token
    "entropy": pl.Float64,  # of the policy, nats per token
    "gradient_norm": pl.Float64,
    "learning_rate": pl.Float64,
}
ALIGNMENT_CURVES: Schema = {"policy": pl.String, **ALIGNMENT}  # the policy that was trained


def reward_curves(rewards: Mapping[int, Any]) -> pl.DataFrame:
    """The curves inside each round's reward.json, by round, fold, model and epoch."""
    found = []
    for number, reward in sorted(rewards.items()):
        try:
            found += [
                [number, one["fold"], one["model"], epoch["epoch"]]
                + [float(epoch[level]) for level in ("train_loss", "valid_ndcg@5")]
                for one in reward_models(reward)
                for epoch in one["curve"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(
                f"reward.json of round {number}: not a reward model ({error})"
            ) from error
    return pl.DataFrame(found, schema=REWARD_CURVES, orient="row")


def reward_models(reward: Any) -> list[dict[str, Any]]:
    """The description of each reward model inside a reward.json."""
    models: list[dict[str, Any]] = reward["models"]
    return models


def alignment_curves(paths: Mapping[str, Path]) -> pl.DataFrame:
    """The curve of each policy that was trained, in the order of `paths`, by step."""
    tables = [
        read_csv(path, ALIGNMENT).select(pl.lit(policy).alias("policy"), *ALIGNMENT)
        for policy, path in paths.items()
    ]
    return pl.concat([pl.DataFrame(schema=ALIGNMENT_CURVES), *tables])


def read_csv(path: Path, schema: Schema) -> pl.DataFrame:
    """Read the columns of `schema`, numbers and names, from a CSV file.

    Raises RecError where a column is missing or broken.
    """
    if not path.is_file():
        raise RecError(f"{path}: no such file; run the stage that writes it (`dvc repro`)")
    types = {name: kind if kind == pl.String else pl.Float64 for name, kind in schema.items()}
    try:
        table = pl.read_csv(path, schema_overrides=types)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RecError(f"{path}: not a readable CSV file ({reason})") from error
    for column in schema:
        if column not in table.columns:
            raise RecError(f"{path}: column {column!r} is missing; needs {', '.join(schema)}")
    return table.select(pl.col(column).cast(dtype) for column, dtype in schema.items())


def write_csv(table: pl.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically, its numbers rounded to six digits."""
    rounded = table.with_columns(pl.selectors.float().round(6))
    with atomic_path(path) as temporary:
        rounded.write_csv(temporary)
