"""Ctrl-C while something is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.running import ROOT

LIMIT_SECONDS = 20


@pytest.mark.parametrize(
    "wait",
    [
        "from rec.cli.people import read_text; read_text('-')",
        "from rec.cli.interrupts import heed_interrupts; heed_interrupts();"
        "import threading; threading.Event().wait()",
    ],
)
def test_it_ends_the_wait(wait: str) -> None:
    code = f"import polars; print('waits', flush=True); {wait}"
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert running.stdin and running.stdout
    assert running.stdout.readline() == "waits\n"
    time.sleep(1)  # until it does
    running.send_signal(signal.SIGINT)
    try:
        assert running.wait(LIMIT_SECONDS) == -signal.SIGINT
    finally:
        running.kill()
        running.communicate()
