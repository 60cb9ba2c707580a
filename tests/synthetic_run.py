"""A small made-up run: every artifact that evaluate and report read, under the current folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf

from rec.comparison.families import Draws
from rec.comparison.result import Comparison
from rec.config import BASE, FINE_TUNED
from rec.curves import ALIGNMENT, write_csv
from rec.files import write_json
from rec.outcomes import HeldOut, Outcome, Share
from rec.pair_metrics import Tally, pair_metrics
from rec.tables import ITEMS, LISTS, PAIRS, PROMPTS, REJECTS, RUNS, write_table
from stages import layout
from tests.comparison.made import (
    PROTOCOLS,
    is_order,
    items_table,
    lists_table,
    random_comparison,
    random_runs,
)
from tests.described import statistics

ROOT = Path(__file__).parents[1]
SEEDS = [1, 2]
BACKBONES = ["dlcm", "prm"]
ORDERS = ["popularity", "random"]
BASELINES = ["none", "noise", "items", "history"]


def policies_of(rounds: int, fine_tuned: bool) -> list[str]:
    """The base LLM, a policy per round, and the control."""
    return [BASE, *map(str, range(1, rounds + 1)), *(FINE_TUNED if fine_tuned else ())]


def params_file(folder: Path, rounds: int = 2, fine_tuned: bool = False, **data: Any) -> Path:
    """The project's own params.yaml with so many rounds and few resamples."""
    values = OmegaConf.load(ROOT / "params.yaml")
    values.policies = policies_of(rounds, fine_tuned)
    values.rounds = {str(t): str(t - 1) for t in range(1, rounds + 1)}
    values.fine_tuned = list(FINE_TUNED) if fine_tuned else []
    values.orders, values.baselines = ORDERS, BASELINES
    values.prepare.negatives = PROTOCOLS
    values.rerank = {"backbones": BACKBONES, "seeds": SEEDS}
    values.evaluate = {"bootstrap": 200, "permutations": 1000}
    for key, value in data.items():
        values.data[key] = value
    path = folder / "params.yaml"
    OmegaConf.save(values, path)
    return path


def comparison(rounds: int = 2, fine_tuned: bool = False, told: int = 1) -> Comparison:
    """The comparison of the run that `write_run` writes."""
    variants = [*ORDERS, *BASELINES, *policies_of(rounds, fine_tuned)]
    return random_comparison(variants, Draws(200, 199, 7), told=told)


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


def identifiability(policy: str) -> dict[str, float]:
    number = 0 if policy in FINE_TUNED else int(policy)
    return {
        "mrr": 0.1 + 0.2 * number,
        "median_rank": 40.0 / (number + 1),
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


def alignment_table(round_: int = 1, steps: int = 12) -> pl.DataFrame:
    """Both sides become less likely, the rejected one more so."""
    rows = [
        {
            "step": step,
            "loss": 0.69 - 0.01 * step * round_,
            "margin": 0.02 * step * round_,
            "accuracy": min(1.0, 0.5 + 0.03 * step + 0.02 * round_),
            "chosen_reward": 0.01 * step,
            "rejected_reward": -0.01 * step,
            "chosen_log_probability": -150.0 - step,
            "rejected_log_probability": -160.0 - 2 * step,
            "chosen_log_ratio": -0.002 * step * round_,
            "rejected_log_ratio": -0.004 * step * round_,
            "kl": 0.0001 * step,
            "entropy": 2.5,
            "gradient_norm": 1.5,
            "learning_rate": 5e-5,
        }
        for step in range(1, steps + 1)
    ]
    return pl.DataFrame(rows, schema=dict(ALIGNMENT))


def alignment_summary(round_: int = 1, pairs: int = 10) -> dict[str, Any]:
    """What the align stage writes about a round: the end of its curve, and held-out pairs."""
    late = alignment_table(round_).drop("step").tail(3)
    heldout = {
        "pairs": pairs,
        "likelihood_accuracy_before": {"value": 0.5, "low": 0.236593, "high": 0.763407},
        "likelihood_accuracy_after": {"value": 0.6, "low": 0.312674, "high": 0.831820},
        "reward_accuracy": {"value": 0.9, "low": 0.595850, "high": 0.982124},
        "mean_margin": 0.4,
        "median_margin": 0.3,
        "chosen_log_ratio": -1.0,
        "rejected_log_ratio": -1.4,
    }
    return {
        "steps": 12,
        **{column.name: column.mean() for column in late},
        "likelihood_displacement": True,
        "heldout": heldout if pairs else {"pairs": 0},
    }


def outcome(pairs: int = 10) -> Outcome:
    """A round that ended without displacement."""
    held_out = HeldOut(pairs, Share(0.5, 0.24, 0.76), Share(0.6, 0.31, 0.83), Share(0.9, 0.6, 0.98))
    return Outcome(
        steps=5,
        loss=0.65,
        accuracy=0.8,
        margin=1.25,
        chosen_log_ratio=0.004,
        rejected_log_ratio=-0.0081234567,
        kl=0.002,
        displaced=False,
        held_out=held_out if pairs else None,
    )


def trained(variant: str, backbone: str, seed: int) -> dict[str, Any]:
    """What the rerank stage writes about a re-ranker's training."""
    found = {"best_epoch": 5, "valid_ndcg@5": 0.78, "curve": curve(0.73)}
    protocols = dict.fromkeys(PROTOCOLS, found)
    return {"variant": variant, "backbone": backbone, "seed": seed, "protocols": protocols}


def write_runs(rounds: int = 2, fine_tuned: bool = False, told: int = 1) -> None:
    """Write the runs of all variants, with the lists and items that they are of."""
    orders = []
    for run, table in random_runs(
        [*ORDERS, *BASELINES, *policies_of(rounds, fine_tuned)], told=told
    ):
        if is_order(run.variant):
            orders.append(table)
        else:
            write_table(table, layout.runs(*run), RUNS)
            write_json(layout.training(*run), trained(*run))
    write_table(pl.concat(orders), layout.ORDER_RUNS, RUNS)
    write_table(lists_table(), layout.LISTS, LISTS)
    write_table(items_table(), layout.ITEMS, ITEMS)


def write_run(
    rounds: int = 2,
    title: str = "Heat (1995)",
    text: str = "Loved films: Heat",
    fine_tuned: bool = False,
    told: int = 1,
) -> None:
    """Write all inputs of evaluate and report where `stages.layout` puts them."""
    write_runs(rounds, fine_tuned, told)
    for policy in policies_of(rounds, fine_tuned):
        write_json(layout.identifiability(policy), identifiability(policy))
        write_json(layout.sampling_metrics(policy), health())
        if policy != BASE:
            number = 1 if policy in FINE_TUNED else int(policy)
            write_csv(alignment_table(number), layout.alignment_curve(policy))
            summary = alignment_summary(number, 10 * (number - 1))
            write_json(layout.alignment_summary(policy), summary)
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
        half = {"users": 96, "r": 0.1 * number, "best_minus_worst": 0.002}
        reward = {"seed": 1, "folds": 2, "models": folds, "policy": number - 1, "split_half": half}
        write_json(layout.reward(number) / "reward.json", reward)
        write_table(pairs_table(number, text=text), layout.pairs(number), PAIRS)
        write_json(layout.pairs_metrics(number), pair_figures())
    write_json(layout.STATISTICS, statistics())
    write_table(rejects_table(text), layout.REJECTS, REJECTS)
    write_table(prompts_table(title), layout.PROMPTS, PROMPTS)
