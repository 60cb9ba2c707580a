"""rec.inference.adapters: which LLM writes, and whose re-ranker reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.files import write_json
from rec.inference.adapters import find_writer


def test_names(params: Params) -> None:
    here = Path.cwd()
    base, aligned = find_writer("base", params, here), find_writer("aligned", params, here)
    assert (base.policy.adapter, base.variant, base.stage) == (None, "0", "")
    assert (aligned.policy.adapter, aligned.variant) == (layout.policy("1"), "1")
    assert (aligned.name, aligned.policy.name, aligned.stage) == ("aligned", "1", "align@1")
    assert base.is_policy and aligned.is_policy
    assert find_writer("0", params, here).policy == base.policy
    assert find_writer("1", params, here).policy == aligned.policy
    tuned = replace(params, policies=["0", "1", "sft"], fine_tuned=["sft"])
    assert find_writer("sft", tuned, here).stage == "align-sft@sft"


def test_paths(params: Params, small_project: Path, tmp_path: Path) -> None:
    shutil.copytree(small_project / layout.policy("1"), tmp_path / "mine")
    (tmp_path / "mine" / layout.ADAPTER).rename(tmp_path / "mine" / "taste.gguf")
    shutil.copy(tmp_path / "mine/taste.gguf", tmp_path / "mine" / layout.ADAPTER)
    folder = find_writer("mine", params, tmp_path)
    assert folder.policy.adapter == tmp_path / "mine"
    assert (folder.name, folder.variant, folder.stage, folder.is_policy) == ("mine", "1", "", False)
    file = find_writer("mine/taste.gguf", params, tmp_path)
    assert file.policy.adapter_gguf == tmp_path / "mine/taste.gguf"
    alone = replace(params, rounds={}, policies=["0"])
    assert find_writer("mine", alone, tmp_path).variant == "0"


@pytest.mark.parametrize("chosen", ["alined", "2", "", "params.yaml", "data", "~no-such-user/x"])
def test_what_is_no_adapter(chosen: str, params: Params, small_project: Path) -> None:
    with pytest.raises(RecError) as raised:
        find_writer(chosen, params, small_project)
    assert str(raised.value) == (
        f"adapter {chosen!r}: use base, aligned, a policy (0, 1), a folder with adapter.gguf,"
        " or a .gguf file"
    )


def test_nothing_is_aligned_without_a_round(params: Params) -> None:
    with pytest.raises(RecError, match="no round of DPO"):
        find_writer("aligned", replace(params, rounds={}, policies=["0"]), Path.cwd())


def test_an_adapter_of_another_llm(params: Params, small_project: Path, tmp_path: Path) -> None:
    shutil.copytree(small_project / layout.policy("1"), tmp_path / "other")
    write_json(tmp_path / "other/policy.json", {"adapter": layout.ADAPTER, "llm": "qwen"})
    with pytest.raises(
        RecError, match=r"the adapter is for 'qwen'; params\.yaml has 'smollm2-135m'"
    ):
        find_writer("other", params, tmp_path)


def test_the_adapter_that_was_passed_on(
    params: Params, small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_writer("aligned", params, tmp_path).policy.adapter == layout.policy("1")
    shutil.copytree(small_project / layout.policy("1"), layout.MODELS / "adapter")
    assert find_writer("aligned", params, tmp_path).policy.adapter == layout.MODELS / "adapter"
    assert find_writer("1", params, tmp_path).policy.adapter == layout.policy("1")
