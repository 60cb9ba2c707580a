"""Stage sample: a policy's responses for all users (paper, section 4.1)."""

import click

from rec.config import Params
from rec.files import write_json
from rec.machine import cores
from rec.sampling import sample, sampling_health
from rec.tables import PROMPTS, RESPONSES, read_table, write_table
from stages import layout
from stages.runner import stage


@stage
@click.argument("policy", type=click.IntRange(min=0))
def main(params: Params, policy: int) -> None:
    """Sample the responses of a POLICY: 0 is the base LLM, t the LLM after round t."""
    responses = sample(
        read_table(layout.PROMPTS, PROMPTS),
        gguf=layout.GGUF,
        adapter=layout.adapter_gguf(policy),
        domain=params.data.domain,
        response=params.prompts.response,
        settings=params.sampling,
        context=params.llm.context,
        seed=params.seed,
        threads=params.machine.threads or cores(),
        parallel=params.machine.parallel_sequences,
    )
    write_table(responses, layout.responses(policy), RESPONSES)
    write_json(layout.sampling_metrics(policy), sampling_health(responses))


if __name__ == "__main__":
    main()
