"""Model cards: what a model was trained on, how, and what it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rec.align.origin import origin
from rec.comparison.names import label, slug
from rec.comparison.result import Comparison, Estimate
from rec.config import BASE, TOLD, Params, protocols
from rec.outcomes import Outcome
from rec.pair_metrics import MEASURES
from rec.results import count, heading, level, summary


@dataclass(frozen=True)
class Adapter:
    """What is known of an aligned policy."""

    policy: str
    pairs: dict[str, Any]  # the metrics of the pairs that it learned from
    outcome: Outcome
    sha256: str  # of the base LLM's GGUF


@dataclass(frozen=True)
class Ranker:
    """What is known of a re-ranker of the comparison."""

    variant: str
    backbone: str
    seed: int
    parameters: int
    training: dict[str, Any]  # curve and best epoch
    #: NDCG@5 on test users by protocol, of this backbone and seed alone. The model of a protocol
    #: is trained on its lists; the one that is passed on is that of the first.
    own: dict[str, Estimate]


def adapter_card(params: Params, comparison: Comparison, adapter: Adapter) -> str:
    """The card of an aligned policy's LoRA, in Markdown."""
    found = origin(params, adapter.policy)
    name = slug(adapter.policy)
    return _rendered(
        "adapter_card.md.j2",
        params=params,
        comparison=comparison,
        slug=name,
        mark="this model",
        title=f"{params.llm.name}, {label(name)}, {params.data.name}",
        adapter=adapter,
        judged=TOLD[params.reward.text],
        round=found.round_,
        align=found.settings,
        measure=MEASURES[params.pairs.measure],
        start="the base LLM" if found.start == BASE else f"policy {found.start}",
    )


def ranker_card(params: Params, comparison: Comparison, ranker: Ranker) -> str:
    """The card of a re-ranker that reads a policy's texts, in Markdown."""
    name = slug(ranker.variant)
    return _rendered(
        "ranker_card.md.j2",
        params=params,
        comparison=comparison,
        slug=name,
        mark="this model among them",
        title=f"{ranker.backbone.upper()} with {label(name)}, {params.data.name}",
        ranker=ranker,
        told=TOLD[params.knowledge.text],
        protocol=protocols(params.data, params.prepare)[0],
    )


def _rendered(template: str, **known: Any) -> str:
    loader = PackageLoader("rec")
    cards = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    used = (count, heading, label, level, summary)
    cards.globals |= {function.__name__: function for function in used}
    return cards.get_template(template).render(**known).rstrip() + "\n"
