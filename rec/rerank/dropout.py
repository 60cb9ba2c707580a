"""Dropout for a CPU, where drawing random numbers is most of what torch's own costs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHOICES = 2**16  # what one draw chooses from: shares are rounded to 1 / 65,536


def dropout(values: Tensor, share: float, training: bool) -> Tensor:
    """Values with a `share` of them set to 0, each by a draw of its own, and the others scaled up.

    The mean is kept. Outside of training, and for a share of 0, the values as they are.
    """
    if not training or not share or values.device.type != "cpu":
        return functional.dropout(values, share, training)
    dropped = round(share * CHOICES)
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: values.numel()].view(values.shape)
    kept = (drawn >= dropped - CHOICES // 2).to(values.dtype)
    return values * (kept * (CHOICES / (CHOICES - dropped)))
