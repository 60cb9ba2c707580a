"""The small project, built once: tests that change it take a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from rec.config import Params
from rec.inference.catalogue import Catalogue
from rec.params import load_params
from tests.inference.project import items_table, write_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small project."""
    return write_project(tmp_path_factory.mktemp("inference") / "project")


@pytest.fixture
def params(project: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of the small project; a test runs in its folder."""
    monkeypatch.chdir(project)
    return load_params(project / "params.yaml")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The films of the small project."""
    return Catalogue(items_table())
