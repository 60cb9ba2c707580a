"""How tokens are drawn for many rows at once, on the device: llama.cpp's chain in tensors.

The order is that of `rec.llm.sampler`: repeat penalty, top-k, top-p, min-p, temperature, draw;
banned tokens come with a logit of -inf. A row's random numbers are made of its own seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rec.llm.sampler import SamplerSettings


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1) for the draws of each seed, fp32 [seeds, count]."""
    rows = [np.random.Generator(np.random.Philox(seed)).random(count, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def penalise(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """Logits [rows, tokens], those of the tokens in `recent` [rows, any] moved down by `penalty`.

    A token counts once, however often it is there. An entry that is the number of tokens is none.
    """
    seen = torch.zeros(len(logits), logits.shape[1] + 1, dtype=torch.bool, device=logits.device)
    seen = seen.scatter_(1, recent, True)[:, :-1]
    lower = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lower, logits)


def draw(logits: Tensor, uniform: Tensor, settings: SamplerSettings) -> Tensor:
    """A token for each row of `logits` [rows, tokens], by the row's number of `uniform` [rows].

    Each row needs a finite logit. The shares are summed in fp64: a parallel sum in fp32 is not
    monotone enough to never meet a token of no share.
    """
    if settings.temperature <= 0.0:
        return logits.argmax(-1)
    tokens = None
    if settings.top_k > 0:
        logits, tokens = logits.topk(min(settings.top_k, logits.shape[1]))
    elif settings.top_p < 1.0:
        logits, tokens = logits.sort(descending=True)
    if settings.top_p < 1.0:
        logits = _likeliest(logits, settings.top_p)
    if settings.min_p > 0.0:
        least = logits.amax(-1, keepdim=True) + math.log(settings.min_p)
        logits = logits.masked_fill(logits < least, -torch.inf)
    shares = (logits.double() / settings.temperature).softmax(-1).cumsum(-1)
    target = uniform.double()[:, None] * shares[:, -1:]
    place = torch.searchsorted(shares, target, right=True)
    return (place if tokens is None else tokens.gather(1, place))[:, 0]


def _likeliest(logits: Tensor, share: float) -> Tensor:
    """Sorted logits, of which only the first that reach `share` together are left."""
    shares = logits.double().softmax(-1)
    before = shares.cumsum(-1) - shares
    beyond = before >= share
    beyond[:, 0] = False
    return logits.masked_fill(beyond, -torch.inf)
