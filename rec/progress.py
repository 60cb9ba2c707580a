"""Progress bars: on a terminal only, silent in logs."""

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], description: str, total: int | None = None) -> "tqdm[T]":
    """Iterate with a bar that shows rate and time left."""
    return tqdm(items, desc=description, total=total, disable=None, dynamic_ncols=True)


def bar(description: str, total: int, unit: str = "it") -> "tqdm[Any]":
    """A bar that the caller moves with `update`."""
    return tqdm(desc=description, total=total, unit=unit, disable=None, dynamic_ncols=True)
