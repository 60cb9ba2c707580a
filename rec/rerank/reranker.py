"""A re-ranker: what is known of the items and the user, and a backbone that scores the list."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rec.config import BACKBONES, Ranker
from rec.errors import RecError
from rec.files import atomic_path, read_json, write_json
from rec.machine import processor_has_bf16
from rec.rerank.dlcm import DLCM
from rec.rerank.features import Batch
from rec.rerank.inputs import Inputs, Shape
from rec.rerank.losses import Loss, listwise
from rec.rerank.mir import MIR
from rec.rerank.prm import PRM
from rec.rerank.setrank import SetRank

MODELS: dict[str, type[DLCM | PRM | SetRank | MIR]] = {
    "dlcm": DLCM,
    "prm": PRM,
    "setrank": SetRank,
    "mir": MIR,
}


#: What files raise that are damaged, or another version's.
UNREADABLE = (
    OSError,
    SafetensorError,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    RecError,
)


class Reranker(nn.Module):
    """A re-ranker of lists of any length: `forward(batch)` gives a score per item.

    `backbone` is one of `rec.config.BACKBONES`; RecError for another.
    """

    def __init__(self, shape: Shape, config: Ranker, backbone: str) -> None:
        super().__init__()
        if backbone not in MODELS:
            raise RecError(f"backbone {backbone!r} does not exist; use {', '.join(BACKBONES)}")
        self.shape, self.config, self.backbone = shape, config, backbone
        model = MODELS[backbone]
        self.inputs = Inputs(shape, config, attends=model is not MIR)
        self.model = model(config)

    @property
    def loss(self) -> Loss:
        """The loss that the settings choose: listwise softmax, or that of the backbone's paper."""
        own: Loss = self.model.loss
        return own if self.config.loss == "original" else listwise

    def forward(self, batch: Batch) -> Tensor:
        """Scores [B, n] of a batch, fp32; minus infinity at padding.

        While training, products are in bf16 where the settings and the processor are for it.
        """
        device = batch.items.device.type
        low = self.training and _uses_bf16(self.config.precision, device)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            states, mask = self.inputs(batch), batch.mask
            if isinstance(self.model, MIR):
                past = batch.history > 0
                scores: Tensor = self.model(states, mask, self.inputs.history(batch), past)
            else:
                scores = self.model(states, mask)
        final: Tensor = scores.float().masked_fill(~mask, -torch.inf)
        return final


@cache
def _uses_bf16(precision: str, device: str) -> bool:
    """On a GPU models this small wait for their launches, whatever they compute in."""
    return precision == "bf16" or (precision == "auto" and device == "cpu" and processor_has_bf16())


def save(model: Reranker, weights: Path) -> None:
    """Write the weights as safetensors, sizes and settings as JSON of the same name beside it."""
    state = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    with atomic_path(weights) as temporary:
        save_file(state, temporary)
    described = {
        "backbone": model.backbone,
        "shape": asdict(model.shape),
        "ranker": asdict(model.config),
    }
    write_json(weights.with_suffix(".json"), described)


def load(weights: Path, place: str) -> Reranker:
    """Read what `save` wrote. Raises RecError where a file is missing, damaged or another's."""
    described = read_json(weights.with_suffix(".json"))
    try:
        shape, settings = Shape(**described["shape"]), described["ranker"]
        missing = [field.name for field in fields(Ranker) if field.name not in settings]
        if missing:
            raise KeyError(f"no ranker.{missing[0]}")
        model = Reranker(shape, Ranker(**settings), described["backbone"])
        model.load_state_dict(load_file(weights))
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise RecError(f"{weights}: not a re-ranker that this code can read ({reason})") from error
    return model.to(place).eval()
