"""What a changed parameter did, with intervals: `python -m stages.contrast AFTER BEFORE`.

AFTER and BEFORE are tables data/comparison/users.parquet of two experiments (`dvc get . --rev EXP
data/comparison/users.parquet -o FILE` takes one from `dvc exp`). Prints JSON, by variant. A setting
that is chosen by what test users gain has nobody left to be judged by: choose on validation users.
"""

import json
from dataclasses import asdict
from pathlib import Path

import click

from rec.comparison.across import across
from rec.comparison.families import Draws
from rec.errors import RecError
from rec.tables import USER_METRICS, read_table

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("after", type=FILE)
@click.argument("before", type=FILE)
@click.option(
    "--split",
    type=click.Choice(["valid", "test"]),
    default="valid",
    show_default=True,
    help="Whose lists: validation users to choose by, test users to report.",
)
@click.option("--protocol", default="popularity", show_default=True, help="Negatives of the lists.")
@click.option("--measure", default="ndcg@5", show_default=True, help="A metric of the tables.")
@click.option("--seed", default=2026, show_default=True, help="Of resamples and permutations.")
def main(after: Path, before: Path, split: str, protocol: str, measure: str, seed: int) -> None:
    """Print a metric of each variant in AFTER minus that in BEFORE, paired over users."""
    if measure not in USER_METRICS or "@" not in measure:
        known = ", ".join(name for name in USER_METRICS if "@" in name)
        raise click.BadParameter(f"{measure!r} is not one of {known}", param_hint="--measure")
    try:
        new, old = (read_table(path, USER_METRICS) for path in (after, before))
        found = across(new, old, split, protocol, measure, Draws(2000, 10000, seed))
    except RecError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps({name: asdict(one) for name, one in found.items()}, indent=2))


if __name__ == "__main__":
    main()
