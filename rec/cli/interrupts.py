"""Ctrl-C while a command waits for someone else."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Let Ctrl-C end waiting for stdin, a lock or a server, which polars would have go on.

    As soon as polars is imported, its own handler of SIGINT is called first, and system calls are
    begun again after it (SA_RESTART), so that Python would learn of the signal when they end.
    """
    import polars  # noqa: F401  so that it cannot be imported later

    signal.siginterrupt(signal.SIGINT, True)
