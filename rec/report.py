"""report.html: everything that a run found, as one page that opens without a network.

Text from data sets and from LLMs reaches the page only through autoescape, or as JSON whose `<`,
`>` and `&` are escaped. The page's content security policy allows its own scripts and its style by
their digests and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rec import charts
from rec.config import TOLD, Params
from rec.mediation.links import STEPS
from rec.mediation_chart import SHORT
from rec.pair_metrics import MEASURES
from rec.report_alignment import LOSSES, alignment_grid, displacement, setting
from rec.report_browser import as_json, browser
from rec.report_comparison import (
    Tile,
    comparisons_grid,
    protocol_charts,
    protocol_sections,
    secondary_grid,
    slices_grid,
    tiles,
)
from rec.report_data import data_section
from rec.report_grid import minus
from rec.report_mediation import first_broken, mediation_section
from rec.report_metrics import metric_grids
from rec.report_tables import (
    Run,
    chain,
    examples,
    parameters,
    policy_name,
    training_grid,
)
from rec.report_texts import pairs_charts, pairs_grid, sampling_grid
from rec.results import basis, summary

#: Nothing may be loaded, sent or embedded; only what has one of these digests may run or style.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src {styles}; "
    "script-src {scripts}"
)


def render(run: Run) -> str:
    """The whole page."""
    style, library = _template("report.css"), _library()
    scripts = [_inline(_template(name)) for name in ("report.js", "browser.js")]
    policy = POLICY.format(styles=_digests([style]), scripts=_digests([library, *scripts]))
    environment = Environment(
        loader=PackageLoader("rec"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = _texts(run) | _sections(run)
    return environment.get_template("report.html.j2").render(
        policy=policy,
        style=Markup(style),
        library=Markup(library),
        scripts=[Markup(script) for script in scripts],
        **data,
    )


def _texts(run: Run) -> dict[str, Any]:
    """What the page says in sentences."""
    params = run.params
    return {
        "title": f"DPO4Rec on {params.data.name}",
        "subtitle": _subtitle(params),
        "summary": minus(summary(run.comparison)),
        "basis": basis(run.comparison),
        "setting": setting(params.align, params.fine_tuned),
        "displacement": displacement(run.outcomes),
        "measure": MEASURES[params.pairs.measure],
        "reranker": f"{params.rerank.backbones[0]}, seed {params.rerank.seeds[0]}",
    }


def _sections(run: Run) -> dict[str, Any]:
    """Tables, charts, and the data of the browser."""
    comparison, browsed = run.comparison, run.browsed
    main = comparison.protocols[0]
    data = data_section(run.statistics, run.rejects)
    controls = {policy_name(policy): links for policy, links in run.controls.items()}
    mediation = mediation_section(run.mediation, controls)
    named = {policy_name(policy): figures for policy, figures in run.sampling.items()}
    speeds = {policy_name(policy): speed for policy, speed in run.speeds.items()}
    value = browser(browsed, main)
    specs = protocol_charts(comparison) | _curves(run) | data.charts
    specs |= {"chart-mediation": mediation.chart}
    specs |= pairs_charts(browsed.pairs, MEASURES[run.params.pairs.measure])
    return {
        "tiles": [*tiles(comparison), *_broken_tile(run)],
        "protocols": protocol_sections(comparison),
        "all_metrics": metric_grids(comparison, run.figures),
        "comparisons": comparisons_grid(comparison.primary),
        "secondary": secondary_grid(comparison),
        "slices": slices_grid(comparison),
        "chain": chain(run),
        "mediation": mediation,
        "told": TOLD[run.params.knowledge.text],
        "judged": TOLD[run.params.reward.text],
        "training": training_grid(run.training, main),
        "alignment": alignment_grid(run.outcomes),
        "data": data,
        "sampling": sampling_grid(named, speeds),
        "rounds": list(browsed.pairs),
        "pair_counts": pairs_grid(run.pairs_metrics),
        "examples": examples(browsed.pairs, browsed.prompts),
        "left_out": value["left_out"],
        "parameters": parameters(run.params),
        "charts": Markup(as_json(specs)),
        "browser": Markup(as_json(value)),
    }


def _broken_tile(run: Run) -> list[Tile]:
    """Where the chain of the last round breaks."""
    if not run.mediation:
        return []
    number = max(run.mediation)
    broken = first_broken(run.mediation[number])
    name = f"First link of the chain that does not hold, round {number}"
    if broken is None:
        return [Tile(name, "none of those measured", "", "", "")]
    return [Tile(name, SHORT[broken.step], "", f"“{STEPS[broken.step]}”", "")]


def _subtitle(params: Params) -> str:
    count = len(params.rounds)
    rounds = f"{count} round{'' if count == 1 else 's'} of alignment"
    return (
        f"LLM {params.llm.name}, {rounds}, loss {params.align.loss} ({LOSSES[params.align.loss]})"
    )


def _template(name: str) -> str:
    return (files("rec") / "templates" / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    return _inline(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _inline(script: str) -> str:
    """A script that cannot end its element early, with the line ends that browsers hash."""
    text = re.sub(r"<(?=/script|!--|script)", r"\\x3c", script, flags=re.IGNORECASE)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _digests(texts: list[str]) -> str:
    """Sources of a content security policy that are these texts alone."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _curves(run: Run) -> dict[str, charts.Spec]:
    reward, alignment = run.reward_curves, run.alignment_curves
    return {
        "chart-reward-ndcg": charts.reward_chart(reward, "valid_ndcg", "Validation NDCG@5"),
        "chart-reward-loss": charts.reward_chart(reward, "train_loss", "Training loss"),
        "chart-align-loss": charts.alignment_chart(alignment, "loss", "Loss"),
        "chart-align-accuracy": charts.alignment_chart(alignment, "accuracy", "Reward accuracy"),
        "chart-align-margin": charts.alignment_chart(alignment, "margin", "Reward margin"),
        "chart-align-rewards": charts.sides_chart(alignment, "reward", "Reward"),
        "chart-align-ratios": charts.sides_chart(alignment, "log_ratio", "Log-ratio per token"),
        "chart-align-kl": charts.alignment_chart(alignment, "kl", "KL per token"),
    }
