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
from safetensors.numpy import load_file

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

_NAME = re.compile(r"\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight$")


def export_adapter(adapter: Path, base: Path, target: Path) -> None:
    """Write the PEFT adapter in folder `adapter` over the Hugging Face folder `base` as a GGUF.

    Raises RecError for what a GGUF adapter cannot express: DoRA, modules_to_save, ranks or alphas
    that differ between layers, trained embeddings or biases; and for an adapter that is not whole.
    """
    settings = read_json(adapter / "adapter_config.json")
    model = read_json(base / "config.json")
    _refuse_inexpressible(settings, adapter)
    tensors = _load_pairs(adapter / "adapter_model.safetensors")
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
    unset = {"peft_type": "LORA", "bias": "none"}
    for key, only in unset.items():
        value = settings.get(key, only)
        if value != only:
            raise RecError(
                f"{adapter}: {key} = {value!r} has no form in a GGUF adapter; use {only}"
            )
    for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"):
        if settings.get(key):
            value = settings[key]
            raise RecError(f"{adapter}: {key} = {value!r} has no form in a GGUF adapter; unset it")


def _load_pairs(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of an adapter, whose two halves are both there."""
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise RecError(f"{path}: not a readable adapter ({reason}); train it again") from error
    for name in tensors:
        half, other = ("A", "B") if ".lora_A." in name else ("B", "A")
        other = name.replace(f".lora_{half}.", f".lora_{other}.")
        if other not in tensors:
            raise RecError(f"{path}: {name} is there, but its other half is missing")
    return tensors


def _alpha(settings: dict[str, Any]) -> float:
    """The alpha whose division by the rank is PEFT's scale, with or without rank stabilisation."""
    alpha = float(settings["lora_alpha"])
    return alpha * math.sqrt(settings["r"]) if settings.get("use_rslora") else alpha


def _convert(
    name: str, values: NDArray[Any], model: dict[str, Any], adapter: Path
) -> tuple[str, NDArray[np.float32]]:
    match = _NAME.search(name)
    projection = PROJECTIONS.get(match[2]) if match else None
    if match is None or projection is None:
        raise RecError(f"{adapter}: tensor {name} has no form in a GGUF adapter")
    half = match[3].lower()
    result = values.astype(np.float32)
    if half == "b" and model["model_type"] == "llama":
        heads = {
            "q_proj": model["num_attention_heads"],
            "k_proj": model.get("num_key_value_heads") or model["num_attention_heads"],
        }.get(match[2])
        if heads:
            result = interleave_rotary(result, heads)
    return f"blk.{match[1]}.{projection}.weight.lora_{half}", np.ascontiguousarray(result)


def interleave_rotary(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder rows [heads * size, r]: in each head, row i of the halves becomes 2i and 2i + 1."""
    size = rows.shape[0] // heads
    split = rows.reshape(heads, 2, size // 2, rows.shape[1])
    return split.swapaxes(1, 2).reshape(rows.shape)
