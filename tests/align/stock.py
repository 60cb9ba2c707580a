"""TRL's own trainer on the same pairs: what the packed one must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOTrainer

from rec.align.collation import PairCollator
from rec.align.pairs import TokenPair
from rec.align.policy import load_policy, lora
from rec.align.reference import log_probabilities
from rec.align.trainer import PackedDPOTrainer, arguments
from rec.config import Align


@dataclass(frozen=True)
class Step:
    """One batch: what TRL calls its loss, its logged metrics, and the gradients of the LoRA."""

    loss: float
    metrics: dict[str, float]
    gradients: dict[str, Tensor]


class StockTrainer(DPOTrainer):
    """TRL's trainer, given token ids."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def randomise(model: Any, seed: int = 3, size: float = 0.05) -> None:
    """Give a LoRA values other than its start, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if ".default." in name:
            value.data = torch.randn(value.shape, generator=generator) * size


def stock_step(base: Path, pairs: Sequence[TokenPair], settings: Align, work: Path) -> Step:
    """A batch of all pairs in TRL's trainer, in fp32, against the base as reference."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    set_seed(1)
    policy = get_peft_model(model, lora(settings))
    options = arguments(settings, 1, work, checkpointing=False)
    options.precompute_ref_log_probs = False
    trainer = StockTrainer(
        model=policy,
        args=options,
        train_dataset=Dataset.from_list([pair.example() for pair in pairs]),
        data_collator=PairCollator(pad_token_id=0),
        processing_class=AutoTokenizer.from_pretrained(base, local_files_only=True),
    )
    randomise(policy)
    return _step(trainer, [pair.example() for pair in pairs])


def packed_step(
    base: Path,
    pairs: Sequence[TokenPair],
    settings: Align,
    work: Path,
    checkpointing: bool = False,
) -> Step:
    """The same in the packed trainer."""
    policy = load_policy(base, None, settings, 1)
    reference = log_probabilities(
        policy, pairs, len(pairs), settings.precision == "bf16", work / "reference", "reference"
    )
    examples = [
        {**pair.example(), "ref_chosen": chosen, "ref_rejected": rejected}
        for pair, (chosen, rejected) in zip(pairs, reference, strict=True)
    ]
    trainer = PackedDPOTrainer(
        model=policy,
        args=arguments(settings, 1, work, checkpointing),
        train_dataset=Dataset.from_list(examples),
        data_collator=PairCollator(pad_token_id=0),
        processing_class=AutoTokenizer.from_pretrained(base, local_files_only=True),
    )
    randomise(policy)
    return _step(trainer, examples)


def _step(trainer: DPOTrainer, examples: list[dict[str, Any]]) -> Step:
    batch = trainer.data_collator(examples)
    trainer.model.train()
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable()
    with trainer.accelerator.autocast():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {
        name: value.grad.clone()
        for name, value in trainer.model.named_parameters()
        if value.grad is not None
    }
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return Step(float(loss.detach()), metrics, gradients)
