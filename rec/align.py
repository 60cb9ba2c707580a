"""Alignment: DPO (arXiv 2305.18290) of the LLM on the pairs that the reward model prefers.

Paper, section 4.3. The trainer is TRL's; what is ours is that prompts and responses reach it as the
very token ids that were sampled, so that no text is tokenised twice and no title can spell a
control token. The policy of a round starts from the one before it, which is also its reference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from rec.config import Align
from rec.errors import RecError
from rec.llm.form import Form, by_policy
from rec.llm.model import Model
from rec.machine import device, fast_bf16
from rec.progress import bar

CURVE = ("step", "loss", "margin", "accuracy", "chosen_reward", "rejected_reward")

_CALMER = "lower align.learning_rate or set align.precision to fp32"
_LOGGED = {
    "loss": "loss",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
}


@dataclass(frozen=True)
class TokenPair:
    """A preference pair in token ids, and which tokens of the responses the policy chose.

    Only those count in the log-probabilities: a label that the form gives is no choice. An empty
    mask is a response whose tokens all count.
    """

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]
    chosen_by_policy: Sequence[bool] = ()
    rejected_by_policy: Sequence[bool] = ()


def token_pairs(pairs: pl.DataFrame, model: Model, form: Form) -> list[TokenPair]:
    """The table PAIRS as token ids: the prompt in the chat template, the responses as sampled.

    Raises RecError for a response that is not of the form.
    """
    found = []
    for row in pairs.iter_rows(named=True):
        try:
            chosen, chosen_by_policy = by_policy(form, row["chosen_ids"])
            rejected, rejected_by_policy = by_policy(form, row["rejected_ids"])
        except ValueError as error:
            raise RecError(f"pairs: {row['key']}: {error}; sample again") from error
        prompt = model.chat(row["messages"])
        found.append(TokenPair(prompt, chosen, rejected, chosen_by_policy, rejected_by_policy))
    return found


def align(
    pairs: Sequence[TokenPair],
    *,
    base: Path,
    previous: Path | None,
    target: Path,
    settings: Align,
    seed: int,
    work: Path,
) -> list[dict[str, float]]:
    """Train a LoRA over the Hugging Face folder `base` and write it into the folder `target`.

    `previous` is the adapter of the round before (None: the base itself), the start and the frozen
    reference. `work` is where the trainer may write. Returns the training curve, a row of `CURVE`
    per optimiser step; rewards are beta times the log-ratio to the reference.

    Raises RecError for no pairs, for a pair that is longer than `settings.max_length`, and for a
    loss or a weight that is not finite.
    """
    if not pairs:
        raise RecError("align: there are no pairs to learn from")
    longest = max(len(p.prompt) + max(len(p.chosen), len(p.rejected)) for p in pairs)
    if longest > settings.max_length:
        raise RecError(
            f"align.max_length: {settings.max_length} is too short; the longest pair has "
            f"{longest} tokens, and cutting it would make the two sides equal"
        )
    set_seed(seed)
    model = load_policy(base, previous, settings, seed)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    callback = _Curve()
    trainer = _TokenDPOTrainer(
        model=model,
        args=_arguments(settings, seed, work),
        train_dataset=Dataset.from_list([_example(pair) for pair in pairs]),
        data_collator=_MaskedCollator(pad_token_id=_padding(tokenizer)),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    _require_finite_weights(model)
    save_adapter(model, target)
    return callback.rows


def load_policy(base: Path, previous: Path | None, settings: Align, seed: int) -> Any:
    """The base with a trainable LoRA: the adapter in `previous`, or a new one that changes nothing.

    The base is bf16 or fp32 by `settings.precision`; the LoRA is fp32, so that no update is lost
    to rounding. Raises RecError where a folder is missing or damaged.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=torch.bfloat16 if use_bf16(settings) else torch.float32,
            local_files_only=True,
        ).to(device())
        if previous is not None:
            return PeftModel.from_pretrained(model, previous, is_trainable=True)
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise RecError(f"{previous or base}: not a model that can be trained ({reason})") from error
    set_seed(seed)
    return get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=settings.target_modules,
        ),
    )


def _require_finite_weights(model: Any) -> None:
    for name, value in model.named_parameters():
        if value.requires_grad and not value.isfinite().all():
            raise RecError(f"align: {name} is no longer finite after the last step; {_CALMER}")


def use_bf16(settings: Align) -> bool:
    """Whether to compute in bf16: as told, or with "auto" where the hardware is fast in it."""
    return settings.precision == "bf16" or (settings.precision == "auto" and fast_bf16())


def save_adapter(model: Any, target: Path) -> None:
    """Write the trained adapter as safetensors and JSON, the same bytes for the same adapter."""
    model.save_pretrained(target, selected_adapters=["default"], save_embedding_layers=False)
    (target / "README.md").unlink(missing_ok=True)
    path = target / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = ""
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _arguments(settings: Align, seed: int, work: Path) -> DPOConfig:
    return DPOConfig(
        output_dir=str(work),
        beta=settings.beta,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        warmup_steps=settings.warmup_share,
        lr_scheduler_type="cosine",
        max_length=settings.max_length,
        gradient_checkpointing=device() == "cuda",
        bf16=use_bf16(settings),
        use_cpu=device() == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a loss that is no number is logged as another
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        disable_dropout=settings.dropout == 0.0,
    )


def _example(pair: TokenPair) -> dict[str, list[int]]:
    def mask(by_policy: Sequence[bool], ids: Sequence[int]) -> list[int]:
        return [int(chose) for chose in by_policy] or [1] * len(ids)

    return {
        "prompt_ids": list(pair.prompt),
        "chosen_ids": list(pair.chosen),
        "rejected_ids": list(pair.rejected),
        "chosen_mask": mask(pair.chosen_by_policy, pair.chosen),
        "rejected_mask": mask(pair.rejected_by_policy, pair.rejected),
    }


def _padding(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


class _MaskedCollator(DataCollatorForPreference):
    """TRL's collator; of a response, only the tokens that the policy chose are learned from."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        masks = [
            [0] * len(example["prompt_ids"]) + example[side]
            for side in ("chosen_mask", "rejected_mask")
            for example in examples
        ]
        for row, mask in enumerate(masks):
            batch["completion_mask"][row, : len(mask)] = torch.tensor(mask)
        return batch


class _TokenDPOTrainer(DPOTrainer):
    """TRL's trainer over pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class _Curve(TrainerCallback):
    """Collects what the trainer logs at each step; stops at a loss that is no number."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar = bar("DPO", state.max_steps, "step")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in logs:
            return
        row = {name: float(logs[key]) for name, key in _LOGGED.items()}
        if not math.isfinite(row["loss"]):
            raise RecError(
                f"align: the loss is {row['loss']} at step {state.global_step}; {_CALMER}"
            )
        self.rows.append({"step": state.global_step, **row})
        self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.close()
