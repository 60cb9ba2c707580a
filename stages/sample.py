"""Stage sample: a policy's responses for all users (paper, section 4.1)."""

import click

from rec import layout
from rec.config import Params, require_policy
from rec.files import sha256, write_json
from rec.health import sampling_health
from rec.llm.backends import Policy
from rec.llm.store.responses import store_root
from rec.prompts import is_rated
from rec.sampling import sample
from rec.tables import PROMPTS, RESPONSES, read_table, write_table
from stages.runner import stage


@stage
@click.argument("policy")
def main(params: Params, policy: str) -> None:
    """Sample the responses of a POLICY, one of `policies` in params.yaml."""
    require_policy(params, policy)
    responses, work = sample(
        read_table(layout.PROMPTS, PROMPTS),
        Policy(policy, layout.GGUF, layout.HF, layout.aligned(policy)),
        domain=params.data.domain,
        response=params.prompts.response,
        settings=params.sampling,
        context=params.llm.context,
        seed=params.seed,
        machine=params.machine,
        store=store_root(),
        rated=is_rated(params),
    )
    click.echo(f"sample: {work}", err=True)
    write_table(responses, layout.responses(policy), RESPONSES)
    write_json(layout.sampling_metrics(policy), sampling_health(responses))
    if work.tokens:
        digest = sha256(layout.responses(policy))
        speed = {"tokens": work.tokens, "seconds": round(work.seconds, 2), "responses": digest}
        write_json(layout.drawing(policy), speed)


if __name__ == "__main__":
    main()
