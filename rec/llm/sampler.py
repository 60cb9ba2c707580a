"""How a token is drawn: llama.cpp's own samplers, in a chain."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import llama_cpp

from rec.llm.model import Model

#: How many of the last tokens the repeat penalty counts.
PENALTY_WINDOW = 64

Bias = ctypes.Array[llama_cpp.llama_logit_bias]


@dataclass(frozen=True)
class SamplerSettings:
    """llama.cpp's sampler chain, in this order; each setting can be off (see conf/config.yaml)."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float


def banning(tokens: Sequence[int]) -> Bias:
    """What makes a sampler never draw these tokens."""
    bias: Bias = (llama_cpp.llama_logit_bias * len(tokens))()
    for entry, token in zip(bias, tokens, strict=True):
        entry.token, entry.bias = token, float("-inf")
    return bias


def sampler_chain(
    model: Model, settings: SamplerSettings, seed: int, bias: Bias
) -> llama_cpp.llama_sampler_p:
    """A new chain of llama.cpp's samplers; to be freed."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())

    def add(sampler: llama_cpp.llama_sampler_p) -> None:
        llama_cpp.llama_sampler_chain_add(chain, sampler)

    add(llama_cpp.llama_sampler_init_logit_bias(model.size, len(bias), bias))
    if settings.repeat_penalty != 1.0:
        penalty = settings.repeat_penalty
        add(llama_cpp.llama_sampler_init_penalties(model.size, PENALTY_WINDOW, penalty, 0.0, 0.0))
    if settings.top_k > 0:
        add(llama_cpp.llama_sampler_init_top_k(settings.top_k))
    if settings.top_p < 1.0:
        add(llama_cpp.llama_sampler_init_top_p(settings.top_p, 1))
    if settings.min_p > 0.0:
        add(llama_cpp.llama_sampler_init_min_p(settings.min_p, 1))
    if settings.temperature > 0.0:
        add(llama_cpp.llama_sampler_init_temp(settings.temperature))
        add(llama_cpp.llama_sampler_init_dist(seed))
    else:
        add(llama_cpp.llama_sampler_init_greedy())
    return chain
