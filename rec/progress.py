"""Progress bars: on a terminal only, silent in logs."""

from typing import Any

from tqdm import tqdm


def bar(description: str, total: int, unit: str = "it") -> "tqdm[Any]":
    """A bar that the caller moves with `update`; what takes less than a second shows none."""
    return tqdm(desc=description, total=total, unit=unit, disable=None, dynamic_ncols=True, delay=1)
