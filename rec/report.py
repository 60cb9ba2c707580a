"""report.html: everything that a run found, as one page that opens without a network.

Text from data sets and from LLMs reaches the page only through autoescape, or as JSON whose `<`,
`>` and `&` are escaped. The page's content security policy allows its own two scripts by their
digests and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rec import charts
from rec.config import Params
from rec.pair_metrics import MEASURES
from rec.report_alignment import alignment_grid, displacement, setting
from rec.report_comparison import (
    comparisons_grid,
    protocol_charts,
    protocol_sections,
    secondary_grid,
    slices_grid,
)
from rec.report_data import data_section
from rec.report_mediation import mediation_section
from rec.report_tables import (
    Run,
    chain,
    examples,
    flat_grid,
    pairs_grid,
    parameters,
    policy_name,
    training_grid,
)
from rec.results import basis, summary

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src "


def render(run: Run) -> str:
    """The whole page."""
    comparison = run.comparison
    name = run.params.data.name
    data = data_section(run.statistics, run.rejects)
    mediation = mediation_section(run.mediation)
    library = _library()
    script = _inline(_template("report.js"))
    digests = " ".join(f"'sha256-{_digest(text)}'" for text in (library, script))
    environment = Environment(
        loader=PackageLoader("rec"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=f"DPO4Rec on {name}",
        subtitle=_subtitle(run.params),
        policy=POLICY + digests,
        summary=summary(comparison),
        protocols=protocol_sections(comparison),
        basis=basis(comparison),
        comparisons=comparisons_grid(comparison.primary),
        secondary=secondary_grid(comparison),
        slices=slices_grid(comparison),
        chain=chain(run),
        mediation=mediation,
        training=training_grid(run.training, comparison.protocols[0]),
        setting=setting(run.params.align, run.params.fine_tuned),
        displacement=displacement(run.outcomes),
        alignment=alignment_grid(run.outcomes),
        data=data,
        sampling=flat_grid({policy_name(p): v for p, v in run.sampling.items()}, "Policy"),
        pair_counts=pairs_grid(run.pairs_metrics),
        examples=examples(run.pairs, run.prompts),
        measure=MEASURES[run.params.pairs.measure],
        parameters=parameters(run.params),
        charts=protocol_charts(comparison, name)
        | _charts(run)
        | data.charts
        | {"chart-mediation": mediation.chart},
        style=Markup(_template("report.css")),
        library=Markup(library),
        script=Markup(script),
    )


def _subtitle(params: Params) -> str:
    count = len(params.rounds)
    rounds = f"{count} round{'' if count == 1 else 's'} of alignment"
    return f"{params.llm.name}, {rounds}, loss {params.align.loss}"


def _template(name: str) -> str:
    return (files("rec") / "templates" / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    return _inline(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _inline(script: str) -> str:
    """A script that cannot end its element early, with the line ends that browsers hash."""
    text = re.sub(r"<(?=/script|!--|script)", r"\\x3c", script, flags=re.IGNORECASE)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _charts(run: Run) -> dict[str, charts.Spec]:
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
