"""A params.yaml composed from conf/, for tests that choose groups."""

from __future__ import annotations

from pathlib import Path

from dvc.utils.hydra import compose_and_dump

ROOT = Path(__file__).parents[1]


def compose(target: Path, overrides: list[str]) -> Path:
    """Write the composition with Hydra overrides to `target`."""
    compose_and_dump(str(target), str(ROOT / "conf"), None, "config", "", overrides)
    return target
