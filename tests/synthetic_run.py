"""A small made-up run: every artifact that evaluate and report read, under the current folder."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf

from rec import layout
from rec.comparison.families import Draws
from rec.comparison.result import Comparison
from rec.config import BASE, FINE_TUNED
from rec.curves import write_csv
from rec.files import write_json
from rec.mediation.links import as_json
from rec.pair_metrics import Tally, pair_metrics
from rec.report_browser import Browsed
from rec.tables import (
    ITEMS,
    LISTS,
    PAIRS,
    PROMPTS,
    REJECTS,
    RESPONSES,
    RUNS,
    USERS,
    write_table,
)
from tests.aligned import alignment_summary, alignment_table
from tests.comparison.made import (
    PROTOCOLS,
    is_order,
    items_table,
    lists_table,
    random_comparison,
    random_runs,
    random_tables,
)
from tests.described import statistics
from tests.mediation.chains import chain, retold

ROOT = Path(__file__).parents[1]
SEEDS = [1, 2]
BACKBONES = ["dlcm", "prm"]
ORDERS = ["popularity", "random"]
BASELINES = ["none", "noise", "items", "swapped", "history"]


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


@cache
def comparison(rounds: int = 2, fine_tuned: bool = False, told: int = 1) -> Comparison:
    """The comparison of the run that `write_run` writes."""
    variants = [*ORDERS, *BASELINES, *policies_of(rounds, fine_tuned)]
    return random_comparison(variants, Draws(200, 199, 7), told=told)


@cache
def user_metrics(rounds: int = 2, fine_tuned: bool = False) -> pl.DataFrame:
    """The metrics of single users that `comparison` is made from, of one response each."""
    return random_tables([*ORDERS, *BASELINES, *policies_of(rounds, fine_tuned)]).users


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
        "cut": 0.01 * number,
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


def responses_table(text: str = "Loved films: Heat", users: int = 12) -> pl.DataFrame:
    """Two responses of each user; `text` begins them."""
    rows = [
        {
            "key": f"user:u{n:02}",
            "sample": sample,
            "text": f"{text} response {n}.{sample}",
            "token_ids": [1, 2],
            "prompt_tokens": 5,
            "response_tokens": 2,
            "finish_reason": "stop",
            "cut_slots": 0,
            "empty_slots": 0,
            "looping": False,
            "seed": 1,
        }
        for n in range(users)
        for sample in range(2)
    ]
    return pl.DataFrame(rows, schema=dict(RESPONSES))


def users_table(users: int = 12) -> pl.DataFrame:
    rows = [[f"u{n:02}", "test", 5, 3] for n in range(users)]
    return pl.DataFrame(rows, schema=dict(USERS), orient="row")


@cache
def browsed(
    rounds: int = 2,
    text: str = "Loved films: Heat",
    title: str = "Heat",
    fine_tuned: bool = False,
) -> Browsed:
    """What the browser shows of the run that `write_run` writes."""
    policies = policies_of(rounds, fine_tuned)
    variants = [*BASELINES, *policies]
    backbones, seeds = BACKBONES[:1], SEEDS[:1]
    numbers = range(1, rounds + 1)
    return Browsed(
        pairs={t: pairs_table(t, text=text) for t in numbers},
        held_out={t: pairs_table(t, 1 + t, text=f"{text} held out") for t in numbers},
        prompts=prompts_table(title),
        responses={p: responses_table(f"{text} by {p}") for p in policies},
        users=users_table(),
        items=items_table().with_columns(title=pl.lit(f"{title} ") + pl.col("title")),
        lists=lists_table(),
        runs={
            run.variant: table
            for run, table in random_runs(variants, backbones=backbones, seeds=seeds)
        },
        metrics=user_metrics(rounds, fine_tuned),
    )


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


def write_run(
    rounds: int = 2,
    title: str = "Heat (1995)",
    text: str = "Loved films: Heat",
    fine_tuned: bool = False,
    told: int = 1,
) -> None:
    """Write all inputs of evaluate and report where `rec.layout` puts them."""
    write_runs(rounds, fine_tuned, told)
    shown = browsed(rounds, text, title, fine_tuned)
    for policy in policies_of(rounds, fine_tuned):
        write_json(layout.identifiability(policy), identifiability(policy))
        write_json(layout.sampling_metrics(policy), health())
        write_table(shown.responses[policy], layout.responses(policy), RESPONSES)
        if policy != BASE:
            number = 1 if policy in FINE_TUNED else int(policy)
            write_csv(alignment_table(number), layout.alignment_curve(policy))
            summary = alignment_summary(number, 10 * (number - 1))
            write_json(layout.alignment_summary(policy), summary)
            write_json(layout.retold(policy), as_json(retold()))
    for number in range(1, rounds + 1):
        folds = [
            {
                "fold": f,
                "model": 0,
                "best_epoch": 6,
                "valid_ndcg@5": 0.77 + 0.01 * f,
                "curve": curve(0.69 + 0.01 * (f + number)),
            }
            for f in range(2)
        ]
        reward = {"seed": 1, "folds": 2, "per_fold": 1, "models": folds, "policy": number - 1}
        write_json(layout.reward(number) / "reward.json", reward)
        write_table(shown.pairs[number], layout.pairs(number), PAIRS)
        write_table(shown.held_out[number], layout.heldout_pairs(number), PAIRS)
        write_json(layout.pairs_metrics(number), pair_figures())
        write_json(layout.mediation(number), as_json(chain()))
    write_json(layout.STATISTICS, statistics())
    write_table(rejects_table(text), layout.REJECTS, REJECTS)
    write_table(shown.prompts, layout.PROMPTS, PROMPTS)
    write_table(shown.users, layout.USERS, USERS)
    write_table(shown.items, layout.ITEMS, ITEMS)
