"""Compose conf/ into params.yaml, as `dvc exp run -S GROUP=NAME` does.

For example `python -m stages.compose profile=tiny`.
"""

import sys
from pathlib import Path

from dvc.utils.hydra import compose_and_dump


def main(overrides: list[str]) -> None:
    """Write params.yaml from conf/config.yaml and Hydra overrides."""
    root = Path(__file__).parents[1]
    compose_and_dump(str(root / "params.yaml"), str(root / "conf"), None, "config", "", overrides)


if __name__ == "__main__":
    main(sys.argv[1:])
