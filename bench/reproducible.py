"""Whether two runs of HEAD in two empty clones give the same bytes: `python -m bench.reproducible`.

Compares dvc.lock stage by stage, with `sampling.deterministic: true` (`--no-deterministic` turns it
off). `--quick` takes the tiny profile.
"""

import json
from pathlib import Path
from typing import Any

import click
import yaml

from bench.clone import empty_clone, run


def lock(*overrides: str) -> dict[str, Any]:
    """The stages of dvc.lock after `dvc repro` in an empty clone."""
    with empty_clone(*overrides) as clone:
        run("dvc", "repro", "--quiet", cwd=clone)
        stages: dict[str, Any] = yaml.safe_load((Path(clone) / "dvc.lock").read_text())["stages"]
        return stages


@click.command()
@click.option("--quick", is_flag=True, help="The tiny profile: a few users.")
@click.option("--deterministic/--no-deterministic", default=True, show_default=True)
def main(quick: bool, deterministic: bool) -> None:
    """Print, as JSON, the stages whose outputs are equal and those whose outputs differ."""
    overrides = [f"sampling.deterministic={str(deterministic).lower()}"]
    if quick:
        overrides.append("profile=tiny")
    first, second = lock(*overrides), lock(*overrides)
    equal = [name for name in first if first[name].get("outs") == second[name].get("outs")]
    differing = sorted(set(first) - set(equal))
    print(json.dumps({"equal": sorted(equal), "differing": differing}, indent=2))


if __name__ == "__main__":
    main()
