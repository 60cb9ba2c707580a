"""Some of DVC's plots as one picture: `python -m stages.plots docs/plots.png`.

`dvc plots show` writes a page that loads its library from the network; this draws the same
specifications and data without.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import vl_convert

from rec.files import atomic_path

Spec = dict[str, Any]

#: The comparison, and what shows how alignment went.
DRAWN = ("NDCG@5 on test users, by protocol", "Alignment: log-ratios to the reference")


@click.command()
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
def main(picture: Path) -> None:
    """Draw plots of dvc.yaml into the file PICTURE, a PNG."""
    png = vl_convert.vegalite_to_png(side_by_side(shown()))
    with atomic_path(picture) as temporary:
        temporary.write_bytes(png)
    click.echo(picture.resolve())


def shown() -> dict[str, Spec]:
    """The plots of `dvc plots show` as Vega-Lite specifications with their data, by title."""
    command = [sys.executable, "-m", "dvc", "plots", "show", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException("`dvc plots show` failed; run `dvc repro` first")
    plots = json.loads(done.stdout)["data"]
    return {title: versions[0]["content"] for title, versions in plots.items() if versions}


def side_by_side(plots: dict[str, Spec]) -> Spec:
    """DRAWN as one specification, a part of which may have no configuration of its own."""
    missing = [title for title in DRAWN if title not in plots]
    if missing:
        raise click.ClickException(f"no plot {missing[0]!r}; make its data with `dvc repro`")
    whole = {key: plots[DRAWN[0]][key] for key in ("$schema", "config")}
    parts = [{k: v for k, v in plots[title].items() if k not in whole} for title in DRAWN]
    apart = {"color": "independent", "strokeDash": "independent"}
    return {**whole, "background": "white", "hconcat": parts, "resolve": {"scale": apart}}


if __name__ == "__main__":
    main()
