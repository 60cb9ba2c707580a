"""A LoRA trained by PEFT, as a GGUF adapter that llama.cpp adds to the same weights.

llama.cpp's llama architecture interleaves the two halves of each rotary head, so the rows of the
query's and the key's `lora_B` are permuted as the base's are; Qwen2 keeps Hugging Face's order.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from rec.errors import RecError
from rec.files import atomic_path, read_json

#: Hugging Face's name of a projection: llama.cpp's.
PROJECTIONS = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}

#: PEFT's settings of which only some values leave a plain LoRA. The other starts (PiSSA, OLoRA ...)
#: take a part out of the base's weights, which the adapter alone then lacks.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva", "mica"),
}

#: PEFT's settings that are read here, or that do not change what the saved tensors mean.
_FREE = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
}

_NAME = re.compile(r"\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight$")


def export_adapter(adapter: Path, base: Path, target: Path) -> None:
    """Write the PEFT adapter in folder `adapter` over the Hugging Face folder `base` as a GGUF.

    Raises RecError for what a GGUF adapter cannot express: DoRA and other changes of LoRA, a start
    that changes the base (PiSSA), modules_to_save, ranks or alphas that differ between layers,
    trained embeddings or biases; and for an adapter that is not whole.
    """
    settings = read_json(adapter / "adapter_config.json")
    model = read_json(base / "config.json")
    _refuse_inexpressible(settings, adapter)
    tensors = _load_pairs(adapter / "adapter_model.safetensors", settings["r"])
    with atomic_path(target) as temporary:
        writer = gguf.GGUFWriter(temporary, model["model_type"])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(settings))
        for name in sorted(tensors):
            gguf_name, values = _convert(name, tensors[name], model, adapter)
            writer.add_tensor(gguf_name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _refuse_inexpressible(settings: dict[str, Any], adapter: Path) -> None:
    """Raise RecError unless the settings are those of a plain LoRA.

    A setting that is not known here must be unset, so that what a later PEFT adds is refused too.
    """
    for key, allowed in _ALLOWED.items():
        value = settings.get(key, allowed[0])
        if value not in allowed:
            remedy = f"use {' or '.join(map(str, allowed))}"
            raise _inexpressible(adapter, key, value, remedy)
    for key, value in settings.items():
        if value and key not in _FREE | _ALLOWED.keys():
            raise _inexpressible(adapter, key, value, "unset it")
    for key in ("r", "lora_alpha"):  # llama.cpp takes an alpha of 0 for a scale of 1
        value = settings.get(key)
        if not isinstance(value, int | float) or not value > 0:
            raise _inexpressible(adapter, key, value, "use a number above 0")


def _inexpressible(adapter: Path, key: str, value: Any, remedy: str) -> RecError:
    return RecError(f"{adapter}: {key} = {value!r} has no form in a GGUF adapter; {remedy}")


def _load_pairs(path: Path, rank: int) -> dict[str, NDArray[np.float32]]:
    """The tensors of an adapter of one rank, whose two halves are both there."""
    from safetensors.torch import load_file

    try:
        tensors = {name: value.float().numpy() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise RecError(f"{path}: not a readable adapter ({reason}); train it again") from error
    if not tensors:
        raise RecError(f"{path}: holds no tensors; train it again")
    for name, values in tensors.items():
        half, other = ("A", "B") if ".lora_A." in name else ("B", "A")
        other = name.replace(f".lora_{half}.", f".lora_{other}.")
        if other not in tensors:
            raise RecError(f"{path}: {name} is there, but its other half is missing")
        if other != name and values.shape[0 if half == "A" else -1] != rank:
            raise RecError(f"{path}: {name} has shape {values.shape}, which is not of rank {rank}")
    return tensors


def _alpha(settings: dict[str, Any]) -> float:
    """The alpha whose division by the rank is PEFT's scale, with or without rank stabilisation."""
    alpha = float(settings["lora_alpha"])
    return alpha * math.sqrt(settings["r"]) if settings.get("use_rslora") else alpha


def _convert(
    name: str, values: NDArray[np.float32], model: dict[str, Any], adapter: Path
) -> tuple[str, NDArray[np.float32]]:
    match = _NAME.search(name)
    projection = PROJECTIONS.get(match[2]) if match else None
    if match is None or projection is None:
        raise RecError(f"{adapter}: tensor {name} has no form in a GGUF adapter")
    half = match[3].lower()
    if half == "b" and model["model_type"] == "llama":
        heads = {
            "q_proj": model["num_attention_heads"],
            "k_proj": model.get("num_key_value_heads") or model["num_attention_heads"],
        }.get(match[2])
        if heads:
            values = interleave_rotary(values, heads)
    return f"blk.{match[1]}.{projection}.weight.lora_{half}", np.ascontiguousarray(values)


def interleave_rotary(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder rows [heads * size, r]: in each head, row i of the halves becomes 2i and 2i + 1."""
    size = rows.shape[0] // heads
    split = rows.reshape(heads, 2, size // 2, rows.shape[1])
    return split.swapaxes(1, 2).reshape(rows.shape)
