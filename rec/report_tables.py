"""The tables and texts of the report, from what the stages left behind."""

from __future__ import annotations

import dataclasses
import json
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
from rec.report_browser import Browsed
from rec.report_grid import DASH, Grid, Line, minus
from rec.report_texts import held_out_figures
from rec.results import Row, points, rows, texts

EXAMPLES = 10


@dataclass(frozen=True)
class Run:
    """What a run left behind, as far as the report shows it. Policies and rounds are the keys."""

    params: Params
    comparison: Comparison
    figures: Mapping[str, Any]  # rec.comparison.figures.figures
    reward_curves: pl.DataFrame  # rec.curves.REWARD_CURVES
    alignment_curves: pl.DataFrame  # rec.curves.ALIGNMENT_CURVES
    outcomes: Mapping[str, Outcome]  # of the training of each policy
    rewards: Mapping[int, Any]  # reward.json
    training: Mapping[tuple[str, str], Sequence[Any]]  # by variant and backbone, of each seed
    pairs_metrics: Mapping[int, Any]
    sampling: Mapping[str, Any]  # by policy
    speeds: Mapping[str, float | None]  # tokens/s, by policy; None where it is not known
    statistics: Mapping[str, Any]  # stats.json
    rejects: pl.DataFrame  # rec.tables.REJECTS
    mediation: Mapping[int, Sequence[Link]]  # by round
    controls: Mapping[str, Sequence[Link]]  # links of the policies that no round made
    browsed: Browsed


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
    read = texts(run.figures)
    found = [read.get(slug(policy)) for policy in policies]
    chance = run.figures["identifiability"].get("chance", {}).get("mrr", 0)

    def line(name: str, note: str, values: Mapping[str, str]) -> Line:
        return Line(name, [values.get(policy, DASH) for policy in policies], note)

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
            Line(
                "Texts cut by the encoder",
                [DASH if text is None else text.cut_text for text in found],
                "longer than encoder.max_tokens",
            ),
            *(line(name, note, values) for name, note, values in _of_rounds(run)),
            Line(
                "Difference to the base LLM",
                [_final(by_slug[slug(policy)]) for policy in policies],
                "NDCG@5 points",
            ),
        ],
    )


def _of_rounds(run: Run) -> list[tuple[str, str, Mapping[str, str]]]:
    """Name, note and cells by policy of the lines about reward models, pairs and alignments."""
    reward = _rewards(run.rewards)
    pairs = {t: table.height for t, table in run.browsed.pairs.items()}
    held_out = {t: metrics["pairs"] for t, metrics in held_out_figures(run.pairs_metrics).items()}
    margins = {t: _mean(table["margin"].to_list()) for t, table in run.browsed.pairs.items()}
    margin_note = f"chosen − rejected, {MEASURES[run.params.pairs.measure]}"
    ends = {p: outcome for p, outcome in run.outcomes.items() if p not in FINE_TUNED}
    accuracies = {p: f"{o.accuracy:.3f}" for p, o in ends.items()}
    log_ratios = {p: signed(o.margin) for p, o in ends.items()}
    judgements = {p: judged(o.held_out.reward) for p, o in run.outcomes.items() if o.held_out}
    return [
        ("Reward model, NDCG@5", "validation lists, mean over models", _cells(reward, 4)),
        ("Pairs", "a better and a worse text of a train user", _counts(pairs)),
        ("Held-out pairs", "of validation users, never trained on", _counts(held_out)),
        ("Mean margin", margin_note, _cells(margins, 4)),
        ("Alignment accuracy", "of pairs, last quarter of the steps", accuracies),
        ("Alignment margin", "nats per pair, last quarter of the steps", log_ratios),
        ("Held-out reward accuracy", "of pairs; chance is .5", judgements),
    ]


def _rewards(rewards: Mapping[int, Any]) -> dict[int, float | None]:
    """Validation NDCG@5, mean over models, by round."""
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
    return f"{minus(points(row.vs_base))}, {row.verdict}"


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
            general.append(f"{name} = {_written(value)}")
            continue
        kept = [f"{k} = {_written(v)}" for k, v in value.items() if k not in ("source", "sources")]
        blocks.append((name, ", ".join(kept)))
    return [("general", ", ".join(general)), *blocks]


def _written(value: Any) -> str:
    """A parameter's value as params.yaml has it: null and true, not None and True."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
