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
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return [Finding(name, "problem", f"could not be checked ({reason})", SETUP)]
    finally:
        _log.debug("%s: %.1f s", name, time.perf_counter() - started)


def some(names: list[str], most: int = 3) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
