"""Stages align, align-sft: a policy from another, by a round's pairs (paper, section 4.3)."""

import sys
from typing import TYPE_CHECKING

import click
import polars as pl

from rec import layout
from rec.align.origin import origin
from rec.config import Params
from rec.curves import ALIGNMENT, write_csv
from rec.files import atomic_path, write_json
from rec.llm.adapter import export_adapter
from rec.llm.model import Model
from rec.machine import use_threads
from rec.prompts import is_rated
from rec.responses import response_form
from rec.tables import PAIRS, read_table
from stages.runner import stage

if TYPE_CHECKING:
    from rec.align.training import Alignment


@stage
@click.argument("policy")
def main(params: Params, policy: str) -> None:
    """Train a POLICY: t by round t of DPO, sft on the chosen responses of round 1."""
    from rec.align import launch
    from rec.align.pairs import token_pairs
    from rec.align.training import align
    from rec.align.work import discard, locked

    source = origin(params, policy)
    if launch.is_needed(params.machine):
        launch.relaunch(["-m", "stages.align", *sys.argv[1:]], params.machine)
        return
    use_threads(launch.threads(params.machine))
    with Model(layout.GGUF, vocabulary_only=True) as model:
        form = response_form(
            model,
            params.data.domain,
            params.prompts.response,
            params.sampling.slot_tokens,
            params.sampling.text_tokens,
            rated=is_rated(params),
        )
        pairs = token_pairs(read_table(layout.pairs(source.round_), PAIRS), model, form)
        heldout = token_pairs(read_table(layout.heldout_pairs(source.round_), PAIRS), model, form)
    work = layout.WORK / "align" / policy
    with locked(work):
        found = align(
            pairs,
            heldout,
            base=layout.HF,
            previous=layout.aligned(source.start),
            live=layout.alignment(policy) / "live",
            settings=source.settings,
            seed=params.seed,
            work=work,
            checkpoint_seconds=params.machine.checkpoint_seconds,
        )
        if launch.is_first():
            _publish(found, params, policy)
            discard(work)


def _publish(found: "Alignment", params: Params, policy: str) -> None:
    """Write what the training leaves: the adapter for both runtimes, and how it went."""
    from rec.align.policy import publish

    write_json(layout.alignment_summary(policy), found.summary)
    write_csv(pl.DataFrame(found.curve, schema=dict(ALIGNMENT)), layout.alignment_curve(policy))
    with atomic_path(layout.policy(policy)) as folder:
        publish(found.adapter, folder)
        export_adapter(folder, layout.HF, folder / layout.ADAPTER)
        write_json(folder / "policy.json", {"adapter": layout.ADAPTER, "llm": params.llm.name})


if __name__ == "__main__":
    main()
