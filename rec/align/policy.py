"""The policy in training: the frozen base with a LoRA, from a folder and into one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from rec.align.attention import NAME
from rec.align.scoring import accept_packing
from rec.config import Align
from rec.errors import RecError
from rec.machine import device, fast_bf16

#: The files of an adapter.
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def load_policy(base: Path, previous: Path | None, settings: Align, seed: int) -> Any:
    """The base with a trainable LoRA: the adapter in `previous`, or a new one that changes nothing.

    The base is bf16 or fp32 by `settings.precision`; the LoRA is fp32, so that no update is lost
    to rounding. The model takes packed pairs (`rec.align.scoring`). Raises RecError where a folder
    is missing or damaged.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=torch.bfloat16 if use_bf16(settings) else torch.float32,
            attn_implementation=NAME,
            local_files_only=True,
        ).to(device())
        accept_packing(model)
        set_seed(seed)
        if previous is None:
            return get_peft_model(model, lora(settings))
        _require_whole(previous)
        return PeftModel.from_pretrained(model, previous, is_trainable=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise RecError(f"{previous or base}: not a model that can be trained ({reason})") from error


def _require_whole(adapter: Path) -> None:
    """Raise ValueError where an adapter holds tensors that PEFT would leave out in silence."""
    names = load_file(adapter / WEIGHTS).keys()
    pattern = re.compile(r"base_model\.model\..+\.lora_[AB]\.weight")
    strange = next((name for name in names if not pattern.fullmatch(name)), None)
    if strange is not None or not names:
        raise ValueError(f"{WEIGHTS} holds no LoRA, but {strange or 'nothing'}")


def load_tokenizer(base: Path) -> Any:
    """The tokenizer of the base, of which only the padding is used. Raises RecError without one."""
    try:
        return AutoTokenizer.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise RecError(f"{base}: no tokenizer that can be read ({reason})") from error


def lora(settings: Align) -> LoraConfig:
    """The LoRA that `settings` asks for."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )


def use_bf16(settings: Align) -> bool:
    """Whether to compute in bf16: as told, or with "auto" where the hardware is fast in it."""
    return settings.precision == "bf16" or (settings.precision == "auto" and fast_bf16())


def publish(saved: Path, target: Path) -> None:
    """Copy an adapter that PEFT saved, the same bytes for the same adapter on every machine."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(saved / WEIGHTS, target / WEIGHTS)
    config = json.loads((saved / SETTINGS).read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = ""
    config["inference_mode"] = True
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (target / SETTINGS).write_text(text, encoding="utf-8")
