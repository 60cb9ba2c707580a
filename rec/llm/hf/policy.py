"""A policy as a transformers model: the Hugging Face folder, and the LoRA beside it by PEFT.

Files only, and safetensors only. The weights are bf16 on a device that is fast in it, else fp32.
The LoRA stays fp32 and unmerged, as it was trained: merged into bf16 weights, most of it would be
lost to rounding.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from rec.errors import RecError
from rec.files import read_json
from rec.machine import device, fast_bf16


def load_policy(folder: Path, adapter: Path | None) -> Any:
    """The model of `folder` on this machine's device, adapted by the PEFT adapter in `adapter`.

    Its logits are fp32 in either case. Raises RecError where a folder is missing or damaged, where
    the adapter is of another shape than the model, and where the device has no memory for them.
    """
    try:
        model = _base(folder)
        return model if adapter is None else _adapted(model, adapter)
    except torch.OutOfMemoryError as error:
        raise RecError(f"{folder}: {device()} has no memory for this model") from error


def _base(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    read_json(folder / "config.json")
    logging.disable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16 if fast_bf16() else torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, JSON and configuration errors share no base
        raise RecError(f"{folder}: not a readable model ({_reason(error)})") from error
    differing = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if differing:
        raise RecError(f"{folder}: {differing[0]} is in one of weights and config.json only")
    _full_precision_logits(model)
    return model.to(device()).eval().requires_grad_(False)


def _full_precision_logits(model: Any) -> None:
    """Compute logits in fp32: in bf16 neighbouring ones above 16 are an eighth apart."""
    if model.dtype == torch.float32:
        return
    head = copy.deepcopy(model.get_output_embeddings()).float()  # may be tied to the input's
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    model.set_output_embeddings(head)


def _adapted(model: Any, adapter: Path) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    read_json(adapter / "adapter_config.json")
    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():  # else PEFT looks for a pickle, then on the network
        raise RecError(f"{weights}: no such file; run the stage that writes it")
    try:
        with safe_open(weights, "pt") as file:
            written = set(file.keys())
        policy = PeftModel.from_pretrained(model, adapter)
        needed = set(get_peft_model_state_dict(policy))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # PEFT checks little: what is damaged raises anything
        raise RecError(f"{adapter}: not an adapter of this model ({_reason(error)})") from error
    if written != needed:
        name = min(written ^ needed)
        raise RecError(f"{adapter}: not an adapter of this model ({name} is in one of them only)")
    return policy.get_base_model().eval()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
