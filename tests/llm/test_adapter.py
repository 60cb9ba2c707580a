"""rec.llm.adapter: a LoRA does in llama.cpp what it does in PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from safetensors.torch import load_file as load_torch_file
from safetensors.torch import save_file as save_torch_file

from rec.config import PROJECTIONS as ALLOWED
from rec.errors import RecError
from rec.llm.adapter import PROJECTIONS, export_adapter, interleave_rotary
from tests.llm.tiny import Tiny, hf_logits, llama_logits, load_hf

IDS = [5, 80, 300, 41, 7, 9, 200, 310, 222, 14, 14, 350]
TOLERANCE = 1e-4  # of logits up to 20: fp32 sums in another order differ by 1e-5


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


def largest(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(np.abs(left - right).max())


def misfit(tiny: Tiny, folder: Path, **changes: Any) -> float:
    """Largest difference of a LoRA's logits between the runtimes; both differ from the base's."""
    model = save_lora(tiny, folder, **changes)
    export_adapter(folder, tiny.hf, folder / "a.gguf")
    adapted = llama_logits(tiny.gguf, IDS, folder / "a.gguf")
    assert largest(adapted, llama_logits(tiny.gguf, IDS)) > 100 * TOLERANCE
    return largest(adapted, hf_logits(model, IDS))


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


def test_base_logits_agree(bridge: Bridge) -> None:
    assert largest(llama_logits(bridge.tiny.gguf, IDS), bridge.base) < TOLERANCE


def test_adapted_logits_agree(bridge: Bridge) -> None:
    adapted = llama_logits(bridge.tiny.gguf, IDS, bridge.adapter)
    assert largest(adapted, bridge.peft) < TOLERANCE
    assert largest(bridge.peft, bridge.base) > 0.5


def test_scale_zero_is_the_base_bit_for_bit(bridge: Bridge) -> None:
    off = llama_logits(bridge.tiny.gguf, IDS, bridge.adapter, 0.0)
    assert np.array_equal(off, llama_logits(bridge.tiny.gguf, IDS))


@pytest.mark.parametrize("projection", list(PROJECTIONS))
def test_each_projection_alone(tiny: Tiny, tmp_path: Path, projection: str) -> None:
    assert misfit(tiny, tmp_path, target_modules=[projection]) < TOLERANCE


EXPRESSIBLE: dict[str, dict[str, Any]] = {
    "rank-stabilised scale": {"use_rslora": True, "r": 9},
    "alpha that is no integer": {"lora_alpha": 2.5},
    "one layer": {"layers_to_transform": [1]},
    "excluded projections": {"exclude_modules": ["q_proj", "up_proj"]},
    "names as a pattern": {"target_modules": r".*\.layers\.0\..*k_proj"},
    "all linear layers": {"target_modules": "all-linear"},
    "dropout": {"lora_dropout": 0.5},
    **{
        f"start {start}": {"init_lora_weights": start}
        for start in (True, False, "gaussian", "orthogonal", "eva", "mica")
    },
}


@pytest.mark.parametrize("name", list(EXPRESSIBLE))
def test_what_leaves_a_plain_lora_is_exported(tiny_llama: Tiny, tmp_path: Path, name: str) -> None:
    assert misfit(tiny_llama, tmp_path, **EXPRESSIBLE[name]) < TOLERANCE


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_halves_in_16_bits(tiny_llama: Tiny, tmp_path: Path, kind: torch.dtype) -> None:
    save_lora(tiny_llama, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_torch_file({name: value.to(kind) for name, value in load_torch_file(path).items()}, path)
    export_adapter(tmp_path, tiny_llama.hf, tmp_path / "a.gguf")
    model = PeftModel.from_pretrained(load_hf(tiny_llama.hf), tmp_path).eval()
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


def add_head(folder: Path) -> None:
    for half in "AB":
        add_tensor(folder, f"base_model.model.lm_head.lora_{half}.weight")


def cut_to_rank(folder: Path, rank: int) -> None:
    path = folder / "adapter_model.safetensors"
    cut = {
        name: values[:rank] if ".lora_A." in name else values[:, :rank].copy()
        for name, values in load_file(path).items()
    }
    save_file(cut, path)


#: Settings of PEFT that a GGUF adapter cannot express.
REFUSED: list[tuple[str, Any]] = [
    ("peft_type", "LOHA"),
    ("bias", "all"),
    ("bias", "lora_only"),
    ("use_dora", True),
    ("modules_to_save", ["lm_head"]),
    ("rank_pattern", {"q_proj": 2}),
    ("alpha_pattern", {"q_proj": 2}),
    ("lora_bias", True),
    ("fan_in_fan_out", True),
    ("trainable_token_indices", [3]),
    ("target_parameters", ["q_proj.weight"]),
    ("layer_replication", [[0, 2], [1, 2]]),
    ("alora_invocation_tokens", [5, 80]),
    ("use_qalora", True),
    ("use_bdlora", {"nblocks": 2}),
    ("arrow_config", {"top_k": 3}),
    ("kasa_config", {"beta": 0.1}),
    ("monteclora_config", {"num_samples": 8}),
    ("velora_config", {"num_groups": 4}),
    ("megatron_config", {"hidden_size": 64}),
    ("loftq_config", {"loftq_bits": 4}),
    ("corda_config", {"corda_method": "ipm"}),
    ("lora_ga_config", {"direction": "ArBr"}),
    *(
        ("init_lora_weights", start)
        for start in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga")
    ),
    ("of_a_later_peft", 1),
    ("lora_alpha", 0),
    ("lora_alpha", float("nan")),
    ("r", None),
]

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"{key}={value}": (partial(edit_config, **{key: value}), f"{key} = {value!r} has no form")
        for key, value in REFUSED
    },
    "embeddings": (
        partial(add_tensor, name="base_model.model.model.embed_tokens.lora_embedding_A"),
        "embed_tokens.lora_embedding_A has no form",
    ),
    "trained embeddings": (
        partial(add_tensor, name="base_model.model.model.embed_tokens.weight"),
        "embed_tokens.weight has no form",
    ),
    "DoRA's magnitudes": (
        partial(
            add_tensor,
            name="base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        ),
        "lora_magnitude_vector has no form",
    ),
    "both halves of the head": (add_head, "lm_head.lora_A.weight has no form"),
    "half of a pair": (drop_half, "its other half is missing"),
    "another rank": (partial(cut_to_rank, rank=2), "which is not of rank 4"),
    "no tensors": (
        lambda folder: save_file({}, folder / "adapter_model.safetensors"),
        "holds no tensors",
    ),
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


#: What PEFT itself writes with settings that change more than the two halves.
SAVED: dict[str, dict[str, Any]] = {
    "DoRA": {"use_dora": True},
    "PiSSA": {"init_lora_weights": "pissa"},
    "OLoRA": {"init_lora_weights": "olora"},
    "activated LoRA": {"alora_invocation_tokens": [80]},
    "modules to save": {"modules_to_save": ["lm_head"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "trained tokens": {"trainable_token_indices": [3]},
    "biases": {"lora_bias": True},
    "ranks": {"rank_pattern": {"q_proj": 2}},
    "alphas": {"alpha_pattern": {"q_proj": 2}},
}


@pytest.mark.parametrize("name", list(SAVED))
def test_what_peft_saves_and_a_gguf_cannot_hold_is_refused(
    tiny_qwen2: Tiny, tmp_path: Path, name: str
) -> None:
    save_lora(tiny_qwen2, tmp_path, **SAVED[name])
    with pytest.raises(RecError, match="has no form in a GGUF adapter"):
        export_adapter(tmp_path, tiny_qwen2.hf, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()


def test_the_schema_allows_what_can_be_expressed() -> None:
    assert set(ALLOWED) == set(PROJECTIONS)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=60)
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
