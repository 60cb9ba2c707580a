"""A batch of pairs as TRL's trainer takes it: a row per response, the chosen ones first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference


class PairCollator(DataCollatorForPreference):
    """TRL's collator; of a response, only the tokens that the policy chose are learned from.

    Examples with `ref_chosen` and `ref_rejected`, the reference's log-probabilities of those
    tokens, give a batch that has them by token (`reference_log_probs` [2B, L - 1]) and by response.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate B examples into tensors [2B, L]."""
        batch: dict[str, Any] = super().torch_call(examples)
        masks = _both(examples, "chosen_mask", "rejected_mask")
        for row, (own, prompt) in enumerate(zip(masks, _prompts(examples), strict=True)):
            batch["completion_mask"][row, prompt : prompt + len(own)] = torch.tensor(own)
        if "ref_chosen" in examples[0]:
            tokens = _both(examples, "ref_chosen", "ref_rejected")
            placed = _in_place(tokens, batch["completion_mask"][:, 1:])
            batch["reference_log_probs"] = placed
            batch["ref_chosen_logps"], batch["ref_rejected_logps"] = placed.sum(1).chunk(2)
        return batch


def _both(examples: list[dict[str, Any]], chosen: str, rejected: str) -> list[Any]:
    return [example[side] for side in (chosen, rejected) for example in examples]


def _prompts(examples: list[dict[str, Any]]) -> list[int]:
    return [len(example["prompt_ids"]) for example in examples] * 2


def _in_place(values: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    """Values of the places where `mask` is 1, row by row; 0 elsewhere."""
    found = torch.zeros(mask.shape)
    flat = torch.tensor([value for row in values for value in row], dtype=torch.float32)
    return found.masked_scatter_(mask.bool(), flat)


def collate(examples: list[dict[str, Any]], padding: int) -> dict[str, Any]:
    """A batch of examples, padded with a token that no one reads."""
    return PairCollator(pad_token_id=padding).torch_call(examples)
