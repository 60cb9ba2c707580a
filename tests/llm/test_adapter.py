"""rec.llm.adapter: a LoRA does in llama.cpp what it does in PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file

from rec.config import PROJECTIONS as ALLOWED
from rec.errors import RecError
from rec.llm.adapter import PROJECTIONS, export_adapter, interleave_rotary
from tests.llm.tiny import Tiny, hf_logits, llama_logits, load_hf

IDS = [5, 80, 300, 41, 7, 9, 200, 310, 222, 14, 14, 350]
TOLERANCE = 1e-4


def save_lora(tiny: Tiny, folder: Path, **changes: Any) -> Any:
    """Save a LoRA whose two halves are random; the model with it."""
    settings: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 6,
        "target_modules": list(PROJECTIONS),
        **changes,
    }
    model = get_peft_model(load_hf(tiny.hf), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(3)
    for name, value in sorted(model.named_parameters()):
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.2
    model.save_pretrained(folder)
    return model.eval()


@dataclass(frozen=True)
class Bridge:
    """A random LoRA of a tiny model: logits with and without it, by both runtimes."""

    tiny: Tiny
    adapter: Path
    peft: NDArray[np.float32]
    base: NDArray[np.float32]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def bridge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bridge:
    tiny: Tiny = request.getfixturevalue(f"tiny_{request.param}")
    folder = tmp_path_factory.mktemp("adapter")
    model = save_lora(tiny, folder)
    export_adapter(folder, tiny.hf, folder / "adapter.gguf")
    peft = hf_logits(model, IDS)
    return Bridge(tiny, folder / "adapter.gguf", peft, hf_logits(load_hf(tiny.hf), IDS))


def largest(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(np.abs(left - right).max())


def test_base_logits_agree(bridge: Bridge) -> None:
    assert largest(llama_logits(bridge.tiny.gguf, IDS), bridge.base) < TOLERANCE


def test_adapted_logits_agree(bridge: Bridge) -> None:
    adapted = llama_logits(bridge.tiny.gguf, IDS, bridge.adapter)
    assert largest(adapted, bridge.peft) < TOLERANCE
    assert largest(bridge.peft, bridge.base) > 0.5


def test_scale_zero_is_the_base(bridge: Bridge) -> None:
    assert (
        largest(llama_logits(bridge.tiny.gguf, IDS, bridge.adapter, 0.0), bridge.base) < TOLERANCE
    )


@pytest.mark.parametrize("projection", list(PROJECTIONS))
def test_each_projection_alone(tiny: Tiny, tmp_path: Path, projection: str) -> None:
    model = save_lora(tiny, tmp_path, target_modules=[projection])
    export_adapter(tmp_path, tiny.hf, tmp_path / "a.gguf")
    adapted = llama_logits(tiny.gguf, IDS, tmp_path / "a.gguf")
    assert largest(adapted, hf_logits(model, IDS)) < TOLERANCE
    assert largest(adapted, llama_logits(tiny.gguf, IDS)) > 100 * TOLERANCE


def test_rank_stabilised_scale(tiny_llama: Tiny, tmp_path: Path) -> None:
    model = save_lora(tiny_llama, tmp_path, use_rslora=True, r=9)
    export_adapter(tmp_path, tiny_llama.hf, tmp_path / "a.gguf")
    adapted = llama_logits(tiny_llama.gguf, IDS, tmp_path / "a.gguf")
    assert largest(adapted, hf_logits(model, IDS)) < TOLERANCE


def test_peft_reads_back_what_was_exported(bridge: Bridge) -> None:
    model = PeftModel.from_pretrained(load_hf(bridge.tiny.hf), bridge.adapter.parent)
    assert largest(hf_logits(model.eval(), IDS), bridge.peft) == 0.0


def test_same_adapter_same_bytes(bridge: Bridge, tmp_path: Path) -> None:
    export_adapter(bridge.adapter.parent, bridge.tiny.hf, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == bridge.adapter.read_bytes()


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop_half(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[max(tensors)]
    save_file(tensors, path)


def add_tensor(folder: Path, name: str) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({**load_file(path), name: np.zeros((4, 4), np.float32)}, path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "DoRA": (lambda folder: edit_config(folder, use_dora=True), "use_dora = True"),
    "modules_to_save": (
        lambda folder: edit_config(folder, modules_to_save=["lm_head"]),
        "modules_to_save = ['lm_head']",
    ),
    "rank_pattern": (
        lambda folder: edit_config(folder, rank_pattern={"q_proj": 2}),
        "rank_pattern = {'q_proj': 2}",
    ),
    "alpha_pattern": (
        lambda folder: edit_config(folder, alpha_pattern={"q_proj": 2}),
        "alpha_pattern = {'q_proj': 2}",
    ),
    "lora_bias": (lambda folder: edit_config(folder, lora_bias=True), "lora_bias = True"),
    "bias": (lambda folder: edit_config(folder, bias="all"), "bias = 'all'"),
    "other method": (lambda folder: edit_config(folder, peft_type="LOHA"), "peft_type = 'LOHA'"),
    "embeddings": (
        lambda folder: add_tensor(folder, "base_model.model.model.embed_tokens.lora_embedding_A"),
        "embed_tokens.lora_embedding_A has no form",
    ),
    "head": (
        lambda folder: add_tensor(folder, "base_model.model.lm_head.lora_A.weight"),
        "lm_head.lora_A.weight",
    ),
    "half of a pair": (drop_half, "its other half is missing"),
    "no settings": (lambda folder: (folder / "adapter_config.json").unlink(), "no such file"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors",
    ),
    "broken weights": (
        lambda folder: (folder / "adapter_model.safetensors").write_text("x" * 30),
        "adapter_model.safetensors",
    ),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_what_has_no_form_is_refused(tiny_llama: Tiny, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    save_lora(tiny_llama, tmp_path / "peft")
    damage(tmp_path / "peft")
    with pytest.raises(RecError) as caught:
        export_adapter(tmp_path / "peft", tiny_llama.hf, tmp_path / "a.gguf")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["peft"]


def test_the_schema_allows_what_can_be_expressed() -> None:
    assert set(ALLOWED) == set(PROJECTIONS)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_interleaving_is_a_permutation_within_heads(heads: int, half: int, rank: int) -> None:
    size = 2 * half
    rows = np.arange(heads * size * rank, dtype=np.float32).reshape(heads * size, rank)
    moved = interleave_rotary(rows, heads)
    for head in range(heads):
        block = slice(head * size, (head + 1) * size)
        order = [int(np.flatnonzero((rows[block] == row).all(1))[0]) for row in moved[block]]
        assert order == [index // 2 + half * (index % 2) for index in range(size)]
    restored = moved.reshape(heads, half, 2, rank).swapaxes(1, 2).reshape(rows.shape)
    assert np.array_equal(restored, rows)
