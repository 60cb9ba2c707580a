"""The small project, as the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from rec.config import Params
from rec.params import load_params


@pytest.fixture
def params(small_project: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of the small project; a test runs in its folder."""
    monkeypatch.chdir(small_project)
    return load_params(small_project / "params.yaml")
