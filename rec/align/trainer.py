"""TRL's DPOTrainer over packed batches of token ids: losses, metrics and loop are TRL's.

What differs: pairs arrive as token ids, a pair's prompt is computed once, the LM head sees only
tokens that count, and the reference's log-probabilities come with the pairs. Logged besides TRL's
metrics, per token that the policy chose: the log-ratios to the reference of both sides, and the
divergence from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from rec.align.policy import use_bf16
from rec.align.scoring import Packed
from rec.config import Align
from rec.errors import RecError
from rec.machine import device


class PackedDPOTrainer(DPOTrainer):
    """TRL's trainer for pairs whose examples are token ids with the reference's scores."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        reference = inputs.pop("reference_log_probs")
        packed = _Watched(model)
        loss = super()._compute_loss(packed, inputs, return_outputs)
        self._log_drift(packed.log_probs, reference, inputs["completion_mask"][:, 1:])
        return loss

    def _log_drift(self, log_probs: Tensor, reference: Tensor, mask: Tensor) -> None:
        """Log what `drift` says of a batch, over all processes."""
        found = torch.stack(drift(log_probs, reference, mask))
        sums = self.accelerator.gather(found).view(-1, len(DRIFT), 2).sum(0)
        for name, (total, tokens) in zip(DRIFT, sums.tolist(), strict=True):
            self._metrics["train"][name].append(total / max(tokens, 1))


class _Watched(Packed):
    """A packed model that keeps the log-probabilities which it last gave."""

    log_probs: Tensor

    def __call__(self, **inputs: Any) -> Any:
        outputs = super().__call__(**inputs)
        self.log_probs = outputs.log_probs.detach()
        return outputs


#: Names of what `drift` gives.
DRIFT = ("log_ratio/chosen", "log_ratio/rejected", "kl")


def drift(log_probs: Tensor, reference: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far a policy has gone from its reference on tokens [2B, L - 1]: (sum, tokens) of each.

    The log-ratio of the chosen and of the rejected side, and of both the estimate r - 1 - log r of
    the divergence KL(reference || policy), r being the ratio of probabilities of a token that the
    reference drew (Schulman, "Approximating KL divergence", 2020; its k3). Nats.
    """
    ratio = (log_probs - reference) * mask
    chosen, rejected = ratio.chunk(2)
    chosen_mask, rejected_mask = mask.chunk(2)
    divergence = (ratio.exp() - 1 - ratio) * mask
    return (
        torch.stack([chosen.sum(), chosen_mask.sum()]),
        torch.stack([rejected.sum(), rejected_mask.sum()]),
        torch.stack([divergence.sum(), mask.sum()]),
    )


def arguments(settings: Align, seed: int, work: Path, checkpointing: bool) -> DPOConfig:
    """The trainer's configuration.

    Raises RecError where the processes of this run do not divide the batches of a step.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation, rest = divmod(settings.gradient_accumulation, processes)
    if rest:
        raise RecError(
            f"align.gradient_accumulation: {settings.gradient_accumulation} batches of a step do "
            f"not divide over {processes} processes; set machine.processes or the accumulation so "
            "that they do"
        )
    bf16 = use_bf16(settings)
    return DPOConfig(
        output_dir=str(work),
        loss_type=settings.loss,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=accumulation,
        warmup_steps=settings.warmup_share,
        lr_scheduler_type="cosine",
        max_length=settings.max_length,
        train_sampling_strategy="group_by_length" if settings.group_by_length else "random",
        precompute_ref_log_probs=True,
        gradient_checkpointing=checkpointing,
        bf16=bf16,
        use_cpu=device() == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a loss that is no number is logged as another
        save_strategy="no",  # rec.align.watch saves by the clock
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        disable_dropout=settings.dropout == 0.0,
        ddp_find_unused_parameters=False,
    )
