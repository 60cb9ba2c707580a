"""Attention of a packed batch on a GPU, where a model's scores are far below zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rec.align.attention import Layout, pair_attention
from rec.align.packing import Segment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZE = 64


def gradients(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Of each tensor, for one weighted sum of what is attended."""
    length = query.shape[2]
    layout = Layout((Segment(0, length - 20, 10, 10),))
    module = torch.nn.Identity()
    found, _ = pair_attention(module, query, key, value, None, scaling=SIZE**-0.5, layout=layout)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward((found.float().cpu() * weights).sum())
    grads = [tensor.grad for tensor in (query, key, value)]
    return [grad.float().cpu() for grad in grads if grad is not None]


@pytest.mark.parametrize("length", [640, 704])  # 704 leaves 64 when divided by 128
def test_gradients_are_finite(length: int) -> None:
    """As one head of Qwen2.5-0.5B has them: every score is about -120."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        (torch.randn(1, 1, length, SIZE, generator=generator) * scale).bfloat16()
        for scale in (0.1, 0.1, 1.0)
    )
    query[..., 0], key[..., 0] = 1.0, -120.0 * SIZE**0.5
    tensors = (query, key, value)
    on_gpu, plain = (
        gradients(*(tensor.detach().to(device, dtype).requires_grad_() for tensor in tensors))
        for device, dtype in (("cuda", torch.bfloat16), ("cpu", torch.float32))
    )
    assert len(on_gpu) == 3 and all(torch.isfinite(grad).all() for grad in on_gpu)
    scale = float(plain[2].abs().max())
    torch.testing.assert_close(on_gpu[2], plain[2], rtol=0.0, atol=0.03 * scale)
