"""tests.llm.runtimes: its figures are those of a good adapter, and of a bad one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rec.llm import adapter
from tests.llm import runtimes
from tests.llm.test_adapter import save_lora
from tests.llm.tiny import Tiny

PROMPTS = [
    [{"role": "user", "content": f"The history of this viewer, latest first: {films}"}]
    for films in ("Heat", "Alien, Brazil", "The Sting; Crumb", "none")
]


def check(tiny: Tiny, folder: Path, count: int = 4, scale: float = 1.0) -> dict[str, Any]:
    return runtimes.check(tiny.gguf, tiny.hf, folder, PROMPTS[:count], scale, threads=1)


def exported(tiny: Tiny, folder: Path, **settings: Any) -> Path:
    save_lora(tiny, folder, **settings)
    adapter.export_adapter(folder, tiny.hf, folder / "adapter.gguf")
    return folder


def test_a_good_adapter(tiny: Tiny, tmp_path: Path) -> None:
    figures = check(tiny, exported(tiny, tmp_path))
    assert figures["prompts"] == 4 and figures["positions"] == 64
    assert figures["correlation"] > 0.9999 and figures["lowest_correlation_of_a_prompt"] > 0.999
    assert figures["slope"] == pytest.approx(1, abs=0.01)
    assert figures["difference_of_changes"] < 0.02 * figures["change"]
    assert figures["scale_zero_from_base"] == 0
    for greedy in (figures["greedy"], figures["greedy_base"]):
        assert greedy["until_first_difference"] <= greedy["step_by_step"]
        assert greedy["step_by_step"] > 0.9 and greedy["largest_gap_of_a_difference"] < 0.1


def test_the_scale_is_of_both_runtimes(tiny_llama: Tiny, tmp_path: Path) -> None:
    folder = exported(tiny_llama, tmp_path)
    half = check(tiny_llama, folder, 1, scale=0.5)
    assert half["correlation"] > 0.9999
    assert half["slope"] == pytest.approx(1, abs=0.01)


def test_an_alpha_that_was_lost(tiny_llama: Tiny, tmp_path: Path) -> None:
    folder = exported(tiny_llama, tmp_path / "good", lora_alpha=1)
    other = exported(tiny_llama, tmp_path / "other", lora_alpha=0.8)
    shutil.copy(other / "adapter.gguf", folder)
    figures = check(tiny_llama, folder)
    assert figures["slope"] < 0.95


def test_rows_in_the_other_order(
    tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "interleave_rotary", lambda rows, heads: rows)
    folder = exported(tiny_llama, tmp_path, target_modules=["q_proj", "k_proj"])
    figures = check(tiny_llama, folder)
    assert figures["correlation"] < 0.9
