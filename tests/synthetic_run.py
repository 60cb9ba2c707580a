"""A small made-up run: every artifact that evaluate and report read, under the current folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from omegaconf import OmegaConf

from rec.config import UNTRAINED
from rec.curves import write_csv
from rec.evaluation import POPULARITY, evaluate, variants
from rec.files import write_json
from rec.pair_metrics import Tally, pair_metrics
from rec.tables import PAIRS, PROMPTS, REJECTS, RUNS, write_table
from stages import layout
from tests.aligned import alignment_summary, alignment_table, outcome
from tests.described import statistics

ROOT = Path(__file__).parents[1]
SEEDS = [1, 2]
#: NDCG@5 of the base LLM by user and list; the users are worth 0.6, 0.3 and 0.9.
BASE = {"a": [0.5, 0.7], "b": [0.2, 0.4], "c": [0.9, 0.9]}


def params_file(folder: Path, rounds: int = 2, **data: Any) -> Path:
    """The project's own params.yaml with so many rounds and few resamples."""
    values = OmegaConf.load(ROOT / "params.yaml")
    values.policies = list(range(rounds + 1))
    values.rounds = {str(t): t - 1 for t in range(1, rounds + 1)}
    values.evaluate.bootstrap = 200
    for key, value in data.items():
        values.data[key] = value
    path = folder / "params.yaml"
    OmegaConf.save(values, path)
    return path


def runs_table(
    variant: str,
    values: dict[str, list[float]],
    seeds: list[int] | None = None,
    maps: dict[str, list[float]] | None = None,
) -> pl.DataFrame:
    """A RUNS table: per user the NDCG@5 of the user's lists, the same for each seed."""
    chosen = seeds if seeds is not None else [0] if variant in UNTRAINED else SEEDS
    rows = [
        [variant, seed, f"{user}-{number}", user, value, (maps or values)[user][number]]
        for seed in chosen
        for user in values
        for number, value in enumerate(values[user])
    ]
    return pl.DataFrame(rows, schema=dict(RUNS), orient="row")


def random_runs(policies: list[int], users: int = 12, lists: int = 3) -> dict[str, pl.DataFrame]:
    """Every variant's runs; popularity is far worse, the others differ a little."""
    generator = np.random.default_rng(0)
    level = {f"u{user:02}": generator.uniform(0.6, 0.9, lists) for user in range(users)}
    tables = {}
    for rank, variant in enumerate(variants(policies)):
        shift = -0.2 if variant == POPULARITY else 0.004 * rank
        values = {
            user: [float(v) for v in np.clip(lists + shift + generator.normal(0, 0.02), 0, 1)]
            for user, lists in level.items()
        }
        tables[variant] = runs_table(variant, values)
    return tables


def shifted(shift: float) -> dict[str, list[float]]:
    return {user: [value + shift for value in values] for user, values in BASE.items()}


def small_runs() -> dict[str, pl.DataFrame]:
    """The base LLM is 0.1 better than no knowledge and round 1 is 0.05 better than the base."""
    return {
        "popularity": runs_table("popularity", shifted(-0.2)),
        "none": runs_table("none", shifted(-0.1)),
        "0": runs_table("0", BASE, maps=shifted(0.05)),
        "1": runs_table("1", shifted(0.05)),
    }


def compare(runs: dict[str, pl.DataFrame], resamples: int = 200) -> dict[str, Any]:
    figures = {policy: identifiability(policy) for policy in (0, 1)}
    sampling = {policy: health() for policy in (0, 1)}
    return evaluate(runs, figures, sampling, {1: outcome()}, resamples, seed=7)


def curve(start: float) -> list[dict[str, float]]:
    return [
        {"epoch": e, "train_loss": 2.0 / e, "valid_ndcg@5": start + 0.05 * (1 - 1 / e)}
        for e in range(1, 7)
    ]


def health() -> dict[str, float]:
    return {
        "responses": 700,
        "users": 240,
        "mean_tokens": 81.25,
        "cut_off": 0.03,
        "looping": 0.01,
        "empty": 0.0,
        "cut_slots": 2.5,
        "repeated": 4,
    }


def identifiability(policy: int) -> dict[str, float]:
    return {
        "mrr": 0.1 + 0.2 * policy,
        "median_rank": 40.0 / (policy + 1),
        "users": 240,
        "chance_mrr": 0.0253,
        "within_user_cosine": 0.7,
        "between_user_cosine": 0.4,
    }


def pairs_table(round_: int, count: int = 8, text: str = "Loved films: Heat") -> pl.DataFrame:
    """Margins 0.01 .. 0.01 x count; `text` begins every chosen and rejected text."""
    rows = [
        {
            "key": f"user:u{n:02}",
            "user": f"u{n:02}",
            "messages": [{"role": "user", "content": "Describe"}],
            "chosen": f"{text} chosen {round_}.{n}",
            "rejected": f"{text} rejected {round_}.{n}",
            "chosen_ids": [1] * (n + 1),
            "rejected_ids": [3],
            "chosen_sample": 0,
            "rejected_sample": 1,
            "chosen_score": 0.7 + 0.01 * n,
            "rejected_score": 0.7,
            "margin": 0.01 * n,
        }
        for n in range(1, count + 1)
    ]
    return pl.DataFrame(rows, schema=dict(PAIRS))


def pair_figures(pairs: int = 8, held_out: int = 3) -> dict[str, Any]:
    """What the pairs stage writes about a round's pairs."""
    train, valid = pairs_table(1, pairs), pairs_table(1, held_out)
    dropped = Counter({"one_response": 2, "margin": 31})
    metrics = pair_metrics(train, Tally(pairs + 33, 1, 5, dropped, Counter({"margin": 40})))
    return {**metrics, "held_out": pair_metrics(valid, Tally(held_out))}


def prompts_table(title: str = "Heat (1995)", users: int = 12) -> pl.DataFrame:
    rows = [
        {
            "key": f"user:u{n:02}",
            "kind": "user",
            "user": f"u{n:02}",
            "split": "train",
            "messages": [{"role": "user", "content": "Describe"}],
            "history": f"Liked: {title}, film {n}\nDisliked: Alien (1979)",
        }
        for n in range(users)
    ]
    return pl.DataFrame(rows, schema=dict(PROMPTS))


def rejects_table(text: str = "196, 242, 3") -> pl.DataFrame:
    """Rejected rows of two kinds; `text` is in the values and in a file's name."""
    rows = [
        ("items", "repeated item", f"{text}.csv", 7, None),
        *(
            ("ratings", "rating out of range", "u.data", row, f"{text}, 8812497{row}")
            for row in (12, 3_456)
        ),
    ]
    return pl.DataFrame(rows, schema=dict(REJECTS), orient="row")


def write_run(rounds: int = 2, title: str = "Heat (1995)", text: str = "Loved films: Heat") -> None:
    """Write all inputs of evaluate and report where `stages.layout` puts them."""
    policies = list(range(rounds + 1))
    for variant, table in random_runs(policies).items():
        write_table(table, layout.runs(variant), RUNS)
        seeds = [
            {"seed": s, "best_epoch": 5, "valid_ndcg@5": 0.78, "curve": curve(0.73)} for s in SEEDS
        ]
        if variant != POPULARITY:
            write_json(layout.training(variant), {"seeds": seeds})
    for policy in policies:
        write_json(layout.identifiability(policy), identifiability(policy))
        write_json(layout.sampling_metrics(policy), health())
    for number in range(1, rounds + 1):
        folds = [
            {
                "fold": f,
                "best_epoch": 6,
                "valid_ndcg@5": 0.77 + 0.01 * f,
                "curve": curve(0.69 + 0.01 * (f + number)),
            }
            for f in range(2)
        ]
        reward = {"seed": 1, "folds": 2, "models": folds, "policy": number - 1}
        write_json(layout.reward(number) / "reward.json", reward)
        write_table(pairs_table(number, text=text), layout.pairs(number), PAIRS)
        write_json(layout.pairs_metrics(number), pair_figures())
        write_csv(alignment_table(number), layout.alignment_curve(number))
        write_json(layout.alignment_summary(number), alignment_summary(number, 10 * (number - 1)))
    write_json(layout.STATISTICS, statistics())
    write_table(rejects_table(text), layout.REJECTS, REJECTS)
    write_table(prompts_table(title), layout.PROMPTS, PROMPTS)
