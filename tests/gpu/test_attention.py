"""Attention of a packed batch on a GPU, where models have scores far below zero."""

from __future__ import annotations

import pytest
import torch

from rec.align.attention import Layout, pair_attention
from rec.align.packing import Segment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZE = 64


@pytest.mark.parametrize("length", [640, 704])  # 704 leaves 64 when divided by 128
def test_gradients_are_finite(length: int) -> None:
    """As one head of Qwen2.5-0.5B has them: every score is about -120."""
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (1, 1, length, SIZE)
    query, key, value = (
        torch.randn(shape, generator=generator, device="cuda", dtype=torch.bfloat16) * scale
        for scale in (0.1, 0.1, 1.0)
    )
    query[..., 0], key[..., 0] = 1.0, -120.0 * SIZE**0.5
    for tensor in (query, key, value):
        tensor.requires_grad_()
    layout = Layout((Segment(0, length - 20, 10, 10),))
    module = torch.nn.Identity()
    found, _ = pair_attention(module, query, key, value, None, scaling=SIZE**-0.5, layout=layout)
    torch.autograd.backward(found.float().sum())
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
