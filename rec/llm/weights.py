"""One model, two runtimes: the GGUF that is sampled from and the same weights for training.

The given GGUF may be quantised, which is small but slow where many responses are drawn at once. It
is rewritten in 16 bits (or kept), and the Hugging Face folder is read back from the rewritten file,
so that sampling and training see the same values. docs/performance.md has the speeds.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from rec.errors import RecError
from rec.files import sha256, write_json
from rec.llm.model import Model
from rec.machine import processor_has_bf16

#: Architectures whose LoRA can be given to llama.cpp (`rec.llm.adapter`).
ARCHITECTURES = ("llama", "qwen2")

#: llama.cpp's types of a file and of its matrices.
TYPES = {
    "bf16": (llama_cpp.LLAMA_FTYPE_MOSTLY_BF16, 30),
    "f16": (llama_cpp.LLAMA_FTYPE_MOSTLY_F16, 1),
}


def import_weights(source: Path, folder: Path, weights: str, threads: int) -> None:
    """Write `folder`/model.gguf and `folder`/hf from a GGUF.

    `weights` is "bf16", "f16", "original" (the type of `source` is kept), or "auto": bf16 where the
    processor computes in it, else f16. What was chosen is in `folder`/import.json. Raises RecError
    where the file is truncated, no GGUF, or of an architecture that cannot be aligned.
    """
    architecture = check_gguf(source)
    folder.mkdir(parents=True, exist_ok=True)
    working = folder / "model.gguf"
    chosen = weights
    if weights == "auto":
        chosen = "bf16" if processor_has_bf16() else "f16"
    if chosen == "original":
        shutil.copyfile(source, working)
    else:
        rewrite(source, working, *TYPES[chosen], threads)
    with Model(working, vocabulary_only=True):
        pass
    rounding = export_hugging_face(working, folder / "hf", "f16" if chosen == "f16" else "bf16")
    write_json(
        folder / "import.json",
        {
            "source_sha256": sha256(source),
            "architecture": architecture,
            "weights": chosen,
            "chosen_by": "processor" if weights == "auto" else "params",
            "largest_rounding": rounding,
        },
    )


def check_gguf(path: Path) -> str:
    """The architecture of a GGUF whose tensors are all there and can be aligned; else RecError."""
    if not path.is_file():
        raise RecError(f"{path}: no such file; run the stage fetch@llm")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise RecError(f"{path}: not a whole GGUF file ({reason}); fetch it again") from error
    end = max((tensor.data_offset + tensor.n_bytes for tensor in reader.tensors), default=0)
    if not reader.tensors or end > path.stat().st_size:
        raise RecError(f"{path}: truncated, {path.stat().st_size} of {end} bytes; fetch it again")
    field = reader.get_field("general.architecture")
    architecture = str(field.contents()) if field else "none"
    if architecture not in ARCHITECTURES:
        allowed = " or ".join(ARCHITECTURES)
        raise RecError(f"{path}: architecture {architecture!r} cannot be aligned; use {allowed}")
    return architecture


def rewrite(source: Path, target: Path, file_type: int, matrix_type: int, threads: int) -> None:
    """Rewrite a GGUF of any tensor types with matrices of one type (vectors stay F32)."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = file_type
    options.output_tensor_type = matrix_type
    options.token_embedding_type = matrix_type
    options.allow_requantize = True
    options.nthread = threads
    with Model(source, vocabulary_only=True):
        pass
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(options)
    )
    if status != 0:
        raise RecError(f"{source}: llama.cpp cannot rewrite this file (status {status})")


def export_hugging_face(working: Path, folder: Path, weights: str) -> float:
    """Write a GGUF as a Hugging Face folder in "bf16" or "f16".

    Returns the largest change of a value by that: 0 for a working file of that type whose vectors
    were of it to begin with.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    kind = torch.float16 if weights == "f16" else torch.bfloat16
    location: dict[str, Any] = {"gguf_file": working.name, "local_files_only": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, loading = AutoModelForCausalLM.from_pretrained(
            working.parent,
            **location,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(working.parent, **location)
    if loading["missing_keys"]:
        missing = min(loading["missing_keys"])
        raise RecError(f"{working}: the tensor of {missing} is missing; use a whole model")
    rope = rope_parameters(working)
    if rope:
        model.config.rope_parameters = rope
    for attribute in ("quantization_method", "hf_quantizer", "is_quantized"):
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    rounding = max(
        float((value - value.to(kind).float()).abs().max()) for value in model.state_dict().values()
    )
    model.to(kind).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return rounding


def rope_parameters(path: Path) -> dict[str, Any] | None:
    """The rotary scaling of Llama 3, which transformers leaves out when it reads a GGUF.

    The file holds a factor per frequency; all Llama 3 models derive them in the same way from one
    number. None where nothing is scaled; RecError for a scaling of another kind.
    """
    reader = gguf.GGUFReader(path)
    fields = {name.partition(".")[2]: field for name, field in reader.fields.items()}
    kind = fields["rope.scaling.type"].contents() if "rope.scaling.type" in fields else "none"
    factors = next((t.data for t in reader.tensors if t.name == "rope_freqs.weight"), None)
    if kind == "none" and factors is None:
        return None
    if kind != "none" or factors is None:
        raise RecError(f"{path}: a model with rotary scaling {kind!r} cannot be aligned")
    parameters = {
        "rope_type": "llama3",
        "rope_theta": float(fields["rope.freq_base"].contents()),
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    if not np.allclose(factors, _llama3_factors(parameters, len(factors)), rtol=1e-3):
        raise RecError(f"{path}: a model with rotary factors {list(factors)} cannot be aligned")
    return parameters


def _llama3_factors(parameters: dict[str, Any], count: int) -> NDArray[np.float64]:
    turns = parameters["rope_theta"] ** (np.arange(count) / -count) / (2 * math.pi)
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    smooth = (parameters["original_max_position_embeddings"] * turns - low) / (high - low)
    smooth = smooth.clip(0.0, 1.0)
    factors: NDArray[np.float64] = 1 / ((1 - smooth) / parameters["factor"] + smooth)
    return factors
