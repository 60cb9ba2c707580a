"""Stage pairs ROUND: preference pairs from scored responses."""

import click

from rec import layout
from rec.config import Params, judged_policy
from rec.files import write_json
from rec.preferences import preference_pairs
from rec.tables import PAIRS, PROMPTS, RESPONSES, SCORES, read_table, write_table
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Choose each user's best and worst responses: validation users' are held out."""
    policy = judged_policy(params, round_)
    pairs, held_out, metrics = preference_pairs(
        read_table(layout.scores(round_), SCORES),
        read_table(layout.responses(policy), RESPONSES),
        read_table(layout.PROMPTS, PROMPTS),
        params.pairs,
    )
    write_table(pairs, layout.pairs(round_), PAIRS)
    write_table(held_out, layout.heldout_pairs(round_), PAIRS)
    write_json(layout.pairs_metrics(round_), metrics)


if __name__ == "__main__":
    main()
