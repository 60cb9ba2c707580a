"""The tables and texts of the report, from what the stages left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rec.comparison.names import label, slug
from rec.comparison.result import Comparison
from rec.config import BASE, FINE_TUNED, Params
from rec.curves import reward_models
from rec.errors import RecError
from rec.mediation.links import Link
from rec.outcomes import Outcome
from rec.pair_metrics import MEASURES
from rec.report_alignment import judged, signed
from rec.report_grid import DASH, Grid, Line
from rec.results import Row, points, rows, texts

EXAMPLES = 10
NO_NOTES: Mapping[str, str] = {}
#: What the figures of `rec.pair_metrics` say that their names do not.
PAIR_NOTES = {
    "users": "whose responses were scored",
    "margin, mean": "chosen − rejected, in the measure",
    "length difference, mean": "tokens, chosen − rejected",
    "length difference, mean absolute": "tokens",
    "length difference, chosen longer": "share of pairs; near that of the shorter is best",
    "length difference, correlation with margin": "near 0: larger margins are not longer texts",
    "ties": "pairs with a side whose score another response has",
    "cut spared": "pairs whose worst response was cut off: the next one is in it",
    "dropped, one response": "users without a pair, by reason, as below",
    "dropped, degenerate": "fewer than two responses that do not repeat themselves",
    "dropped, length": "no response fits the best one by pairs.length_ratio",
    "dropped, margin": "not above pairs.minimum_margin",
    "dropped pairs, length": "pairs that could not be, by reason, as below",
    "empty responses": "left out",
    "degenerate responses": "repeat themselves; left out unless pairs.degenerate is keep",
}


@dataclass(frozen=True)
class Run:
    """What a run left behind, as far as the report shows it. Policies and rounds are the keys."""

    params: Params
    comparison: Comparison
    metrics: Mapping[str, Any]  # metrics.json
    reward_curves: pl.DataFrame  # rec.curves.REWARD_CURVES
    alignment_curves: pl.DataFrame  # rec.curves.ALIGNMENT_CURVES
    outcomes: Mapping[str, Outcome]  # of the training of each policy
    rewards: Mapping[int, Any]  # reward.json
    training: Mapping[tuple[str, str], Sequence[Any]]  # by variant and backbone, of each seed
    pairs: Mapping[int, pl.DataFrame]  # rec.tables.PAIRS
    pairs_metrics: Mapping[int, Any]
    sampling: Mapping[str, Any]  # by policy
    statistics: Mapping[str, Any]  # stats.json
    rejects: pl.DataFrame  # rec.tables.REJECTS
    prompts: pl.DataFrame  # rec.tables.PROMPTS
    mediation: Mapping[int, Sequence[Link]]  # by round


def policy_name(policy: str) -> str:
    """How the report calls a policy."""
    if policy in FINE_TUNED:
        return "Fine-tuned"
    return "Base LLM" if policy == BASE else f"Round {policy}"


def chain(run: Run) -> Grid:
    """How far each step carried: one column per policy, the base LLM first.

    A round's reward models, pairs and alignment stand in the column of the policy that came out of
    it.
    """
    policies = run.params.policies
    by_slug = {row.slug: row for row in rows(run.comparison, run.comparison.protocols[0])}
    read = texts(run.metrics)
    found = [read.get(slug(policy)) for policy in policies]
    chance = run.metrics["identifiability"].get("chance", {}).get("mrr", 0)

    def line(name: str, note: str, values: Mapping[str, str]) -> Line:
        return Line(name, [values.get(policy, DASH) for policy in policies], note)

    reward = _rewards(run.rewards)
    pairs = {t: table.height for t, table in run.pairs.items()}
    held_out = {t: metrics["pairs"] for t, metrics in _held_out(run.pairs_metrics).items()}
    margins = {t: _mean(table["margin"].to_list()) for t, table in run.pairs.items()}
    margin_note = f"chosen − rejected, {MEASURES[run.params.pairs.measure]}"
    ends = {p: outcome for p, outcome in run.outcomes.items() if p not in FINE_TUNED}
    accuracies = {p: f"{o.accuracy:.3f}" for p, o in ends.items()}
    log_ratios = {p: signed(o.margin) for p, o in ends.items()}
    judgements = {p: judged(o.held_out.reward) for p, o in run.outcomes.items() if o.held_out}
    return Grid(
        ["Step", *map(policy_name, policies)],
        [
            Line(
                "Identifiability, MRR",
                [DASH if text is None else text.mrr_text for text in found],
                f"chance is {chance:.4f}",
            ),
            Line(
                "Identifiability, median rank",
                [DASH if text is None else text.rank_text for text in found],
            ),
            line("Reward model, NDCG@5", "validation lists, mean over folds", _cells(reward, 4)),
            line("Pairs", "a better and a worse text of a train user", _counts(pairs)),
            line("Held-out pairs", "of validation users, never trained on", _counts(held_out)),
            line("Mean margin", margin_note, _cells(margins, 4)),
            line("Alignment accuracy", "of pairs, last quarter of the steps", accuracies),
            line("Alignment margin", "nats per pair, last quarter of the steps", log_ratios),
            line("Held-out reward accuracy", "of pairs; chance is .5", judgements),
            Line(
                "Difference to the base LLM",
                [_final(by_slug[slug(policy)]) for policy in policies],
                "NDCG@5 points",
            ),
        ],
    )


def _rewards(rewards: Mapping[int, Any]) -> dict[int, float | None]:
    """Validation NDCG@5 over folds by round."""
    levels: dict[int, float | None] = {}
    for number, reward in rewards.items():
        try:
            levels[number] = _mean([float(m["valid_ndcg@5"]) for m in reward_models(reward)])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecError(f"reward.json of round {number}: no reward models ({error})") from error
    return levels


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _cells(values: Mapping[int, float | None], digits: int) -> dict[str, str]:
    """Numbers by round as texts by the policy that came out of it."""
    return {str(t): f"{value:.{digits}f}" for t, value in values.items() if value is not None}


def _counts(numbers: Mapping[int, int]) -> dict[str, str]:
    return {str(t): f"{number:,}" for t, number in numbers.items()}


def _final(row: Row) -> str:
    if row.vs_base is None:
        return DASH
    return f"{points(row.vs_base).replace('-', '−')}, {row.verdict}"


def training_grid(training: Mapping[tuple[str, str], Sequence[Any]], protocol: str) -> Grid:
    """Validation NDCG@5 and best epoch of the re-rankers of one protocol, by seed."""
    lines = []
    for (variant, backbone), seeds in training.items():
        try:
            found = [seed["protocols"][protocol] for seed in seeds]
            scores = " ".join(f"{float(one['valid_ndcg@5']):.4f}" for one in found)
            epochs = " ".join(f"{int(one['best_epoch'])}" for one in found)
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(
                f"training of {variant!r}, {backbone}: not as expected ({error})"
            ) from error
        lines.append(Line(label(slug(variant)), [backbone, scores, epochs]))
    columns = ["Variant", "Re-ranker", "Validation NDCG@5, by seed", "Best epoch, by seed"]
    return Grid(columns, lines)


def flat_grid(columns: Mapping[str, Any], name: str, notes: Mapping[str, str] = NO_NOTES) -> Grid:
    """Numbers and words of nested mappings, one line per key; what is neither is left out.

    `notes` are remarks by the line's name.
    """
    flat = {column: dict(_flat(value, "")) for column, value in columns.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    cells = {key: [values.get(key, DASH) for values in flat.values()] for key in keys}
    return Grid([name, *flat], [Line(key, cells[key], notes.get(key, "")) for key in keys])


def pairs_grid(metrics: Mapping[int, Any]) -> Grid:
    """The figures of each round's pairs, those of its held-out pairs beside them."""
    held_out = _held_out(metrics)
    columns = {}
    for number, figures in metrics.items():
        columns[f"Round {number}"] = {k: v for k, v in figures.items() if k != "held_out"}
        columns[f"Round {number}, held out"] = held_out[number]
    return flat_grid(columns, "Pairs", PAIR_NOTES)


def _held_out(metrics: Mapping[int, Any]) -> dict[int, Any]:
    """The figures of each round's held-out pairs. Raises RecError where there are none."""
    found = {}
    for number, figures in metrics.items():
        try:
            found[number] = figures["held_out"]
            int(found[number]["pairs"])
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(f"pairs of round {number}: no held-out figures ({error!r})") from error
    return found


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        parts = [(f"{name}, {key}" if name else str(key), part) for key, part in value.items()]
        return [pair for key, part in parts for pair in _flat(part, key.replace("_", " "))]
    if isinstance(value, float):
        return [(name, f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}")]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(name, f"{value:,}")]
    return [(name, value)] if isinstance(value, str) else []


def examples(pairs: Mapping[int, pl.DataFrame], prompts: pl.DataFrame) -> list[dict[str, Any]]:
    """Up to ten pairs: the highest margin of each round in turn, with the prompt's history."""
    histories = dict(prompts.select("key", "history").iter_rows())
    queues = {
        number: table.sort("margin", "key", descending=[True, False]).head(EXAMPLES).to_dicts()
        for number, table in sorted(pairs.items())
    }
    turns = [
        (number, queue[turn])
        for turn in range(EXAMPLES)
        for number, queue in queues.items()
        if turn < len(queue)
    ]
    return [
        {
            "round": number,
            "user": pair["user"],
            "history": histories.get(pair["key"], ""),
            "chosen": pair["chosen"],
            "rejected": pair["rejected"],
            "chosen_score": f"{pair['chosen_score']:.4f}",
            "rejected_score": f"{pair['rejected_score']:.4f}",
            "margin": f"{pair['margin']:.4f}",
        }
        for number, pair in turns[:EXAMPLES]
    ]


def parameters(params: Params) -> list[tuple[str, str]]:
    """Parameters by block, without file sources and without what only fits the machine."""
    blocks: list[tuple[str, str]] = []
    general = []
    for name, value in dataclasses.asdict(params).items():
        if name == "machine":
            continue
        if name == "rounds" or not isinstance(value, dict):
            general.append(f"{name} = {value}")
            continue
        kept = [f"{k} = {v}" for k, v in value.items() if k not in ("source", "sources")]
        blocks.append((name, ", ".join(kept)))
    return [("general", ", ".join(general)), *blocks]
