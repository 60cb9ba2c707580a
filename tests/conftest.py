"""Fixtures shared by the tests: tiny LLMs, built once per session.

The tests compare with what a CPU computes, and hide a GPU; `make test-gpu` runs those that use it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.llm.tiny import Tiny

if os.environ.get("REC_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny llama with grouped KV heads and tied embeddings."""
    from tests.llm.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny Qwen2 with grouped KV heads, biases and its own output matrix."""
    from tests.llm.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("qwen2"), "qwen2")


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Each tiny model in turn."""
    found: Tiny = request.getfixturevalue(f"tiny_{request.param}")
    return found


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small project with tiny models: tests that change it take a copy."""
    from tests.inference.project import write_project

    return write_project(tmp_path_factory.mktemp("small") / "project")
