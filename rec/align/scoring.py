"""Log-probabilities of the responses of a packed batch, in the form in which TRL's losses ask.

`DPOTrainer` calls its model with two padded rows per pair and reads a FusedCausalLMOutput of
[2B, L - 1] from it. `Packed` stands for that model: it packs the rows, asks the model for the
labelled tokens alone, and lays the answers out as TRL expects them. Losses and metrics are TRL's.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from rec.align.attention import Layout
from rec.align.packing import Packing, pack


def accept_packing(model: PreTrainedModel) -> None:
    """Let `model(packing=Packing(...))` return a FusedCausalLMOutput [n] of the labelled tokens.

    The LM head sees only the tokens before a label. Calls without a packing go to the model as it
    was, whose attention `rec.align.attention` does not serve without a `layout`.
    """
    stock = model.forward

    def forward(
        self: PreTrainedModel, *args: Any, packing: Packing | None = None, **kwargs: Any
    ) -> Any:
        if packing is None:
            return stock(*args, **kwargs)
        hidden = self.base_model(
            input_ids=packing.input_ids,
            position_ids=packing.position_ids,
            use_cache=False,
            layout=Layout(packing.segments),
        ).last_hidden_state
        return _score(hidden[0, packing.scored], self.get_output_embeddings(), packing.labels)

    model.forward = types.MethodType(forward, model)


def _score(hidden: Tensor, head: Any, labels: Tensor) -> FusedCausalLMOutput:
    """What TRL's fused LM head returns, for hidden states [n, size] and the labels after them."""
    logits = head(hidden)
    log_p = log_softmax(logits.float(), -1)
    log_probs = -nll_loss(log_p, labels, reduction="none")
    with torch.no_grad():
        log_normaliser = logits.gather(1, labels[:, None])[:, 0].float() - log_probs
        return FusedCausalLMOutput(
            log_probs=log_probs,
            entropy=-(log_p.exp() * log_p).sum(-1),
            mean_logits=log_p.mean(-1) + log_normaliser,
            is_top1=log_probs >= log_p.amax(-1),
        )


class Packed:
    """A model that answers TRL's padded batch by way of a packed one."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(
        self, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **_: Any
    ) -> FusedCausalLMOutput:
        """Score TRL's batch [2B, L]; answers are [2B, L - 1]."""
        packing = pack(input_ids, attention_mask, labels)
        scores = self.model(packing=packing)
        return FusedCausalLMOutput(**{name: packing.unpack(v) for name, v in scores.items()})
