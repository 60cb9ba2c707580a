"""What a check found."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

_log = logging.getLogger(__name__)

#: warning: something works less well, or is not there yet; problem: something cannot work.
State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    check: str
    state: State
    found: str
    mend: str = ""  # what to do about a warning or a problem


#: How to mend an environment: everything anew.
SETUP = "run `make clean setup`"

Check = Callable[[], Iterable[Finding]]


def run(name: str, check: Check) -> list[Finding]:
    """The findings of a check; a problem where the check itself fails, whatever the reason."""
    started = time.perf_counter()
    try:
        return list(check())
    except Exception as error:
        return [Finding(name, "problem", f"could not be checked ({named(error)})", SETUP)]
    finally:
        _log.debug("%s: %.1f s", name, time.perf_counter() - started)


def named(error: Exception) -> str:
    """The kind of an error, and the first line of what it says."""
    kind, said = type(error).__name__, str(error).strip()
    return f"{kind}: {said.splitlines()[0]}" if said else kind


def some(names: list[str], most: int = 3) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
