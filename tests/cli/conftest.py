"""The example project, as the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.example import write_example


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example project; a test runs in its folder."""
    root = write_example(tmp_path / "example")
    monkeypatch.chdir(root)
    for name in ("REC_PROJECT", "REC_STORE"):
        monkeypatch.delenv(name, raising=False)
    return root
