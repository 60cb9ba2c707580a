"""Stage align: a round of DPO, from the policy that it judged to the next (paper, section 4.3)."""

import click
import polars as pl

from rec.config import Params, judged_policy
from rec.files import atomic_path, write_json
from rec.llm.adapter import export_adapter
from rec.llm.model import Model
from rec.machine import use_threads
from rec.responses import response_form
from rec.tables import PAIRS, read_table
from stages import layout
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=click.IntRange(min=1))
def main(params: Params, round_: int) -> None:
    """Align the LLM on the pairs of a ROUND."""
    from rec.align import CURVE, align, token_pairs

    use_threads(params.machine.threads)
    start = judged_policy(params, round_)
    with Model(layout.GGUF, vocabulary_only=True) as model:
        form = response_form(
            model,
            params.data.domain,
            params.prompts.response,
            params.sampling.slot_tokens,
            params.sampling.text_tokens,
        )
        pairs = token_pairs(read_table(layout.pairs(round_), PAIRS), model, form)
    with atomic_path(layout.policy(round_)) as folder:
        curve = align(
            pairs,
            base=layout.HF,
            previous=layout.aligned(start),
            target=folder,
            settings=params.align,
            seed=params.seed,
            work=layout.WORK / f"align-{round_}",
        )
        export_adapter(folder, layout.HF, folder / layout.ADAPTER)
        write_json(folder / "policy.json", {"adapter": layout.ADAPTER, "llm": params.llm.name})
    with atomic_path(layout.alignment(round_)) as path:
        pl.DataFrame(curve, schema=dict.fromkeys(CURVE, pl.Float64)).write_csv(path)


if __name__ == "__main__":
    main()
