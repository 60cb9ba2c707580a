"""TRL's DPOTrainer over packed batches of token ids: losses, metrics and loop are TRL's.

What differs: pairs arrive as token ids, a pair's prompt is computed once, the LM head sees only
tokens that count, and the reference's log-probabilities come with the pairs. Logged besides TRL's
metrics, per token that the policy chose: the log-ratios to the reference of both sides, and the
divergence from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import DPOConfig, DPOTrainer

from rec.align.policy import use_bf16
from rec.align.scoring import Packed
from rec.config import Align
from rec.errors import RecError
from rec.machine import device
from rec.seeds import derive_seed


class ByLength(Sampler[int]):
    """Random order in which the pairs of a step have like lengths; by seed and epoch alone."""

    def __init__(self, lengths: Sequence[int], step: int, seed: int) -> None:
        self.lengths, self.step, self.seed, self.epoch = list(lengths), step, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle anew for an epoch; the trainer calls this, and again for a run that continues."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        yield from get_length_grouped_indices(self.lengths, self.step, generator=generator)


class PackedDPOTrainer(DPOTrainer):
    """TRL's trainer for pairs whose examples are token ids with the reference's scores."""

    by_length = False  # whether the pairs of a step have like lengths

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """Pairs in random order, or in one in which those of a step have like lengths."""
        if not self.by_length:
            stock: Sampler[int] = super()._get_train_sampler(train_dataset)
            return stock
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        step *= self.args.world_size
        return ByLength(self.train_dataset["length"], step, self.args.seed)

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
    the divergence KL(reference || policy), r being the ratio of probabilities of a token
    (Schulman, "Approximating KL divergence", 2020; its k3). Nats. The tokens are those of the
    pairs, which are trained on and were drawn at the sampling temperature by the policy that the
    round judges: the estimate is above the divergence, and one token that became much likelier
    counts by its ratio.
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


def accumulation(settings: Align) -> int:
    """Batches of a step that each process computes.

    Raises RecError where the processes of this run do not divide them.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    own, rest = divmod(settings.gradient_accumulation, processes)
    if rest:
        raise RecError(
            f"align.gradient_accumulation: {settings.gradient_accumulation} batches of a step do "
            f"not divide over {processes} processes; set machine.processes or the accumulation so "
            "that they do"
        )
    return own


def arguments(settings: Align, seed: int, work: Path, checkpointing: bool) -> DPOConfig:
    """The trainer's configuration."""
    bf16 = use_bf16(settings)
    return DPOConfig(
        output_dir=str(work),
        loss_type=settings.loss,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=accumulation(settings),
        warmup_steps=settings.warmup_share,
        lr_scheduler_type="cosine",
        max_length=settings.max_length,
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
