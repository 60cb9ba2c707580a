"""rec.align.attention: the blocks of a CPU and the fused calls of a GPU are attention by rows."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rec.align import attention
from rec.align.attention import Layout, pair_attention
from rec.align.packing import Segment

HEADS, KEY_HEADS, SIZE = 6, 2, 8
#: Longer than a block; with an empty rest; with a shared part of one token.
SEGMENTS = (Segment(0, 500, 9, 4), Segment(513, 7, 0, 3), Segment(523, 1, 2, 0))
TOTAL = 526


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, n, TOTAL, SIZE) for n in (HEADS, KEY_HEADS, KEY_HEADS))
    return [torch.randn(*s, generator=generator, requires_grad=True) for s in shapes]


def by_rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of each response's row by itself, laid out as the packed sequence."""
    found = torch.zeros(1, TOTAL, HEADS, SIZE)
    for segment in SEGMENTS:
        for rejected in (False, True):
            length = segment.shared + (segment.rejected if rejected else segment.chosen)
            places = [segment.place(column, rejected) for column in range(length)]
            own = scaled_dot_product_attention(
                *(t[:, :, places] for t in (query, key, value)), is_causal=True, enable_gqa=True
            ).transpose(1, 2)
            fresh = segment.shared if rejected else 0
            found[:, places[fresh:]] = own[:, fresh:]
    return found


@pytest.mark.parametrize("way", ["_in_blocks", "_fused"])
def test_equals_attention_by_rows(way: str) -> None:
    ours, theirs = tensors(), tensors()
    layout, scaling = Layout(SEGMENTS), SIZE**-0.5
    if way == "_fused":
        found = attention._fused(*ours, layout, scaling, 0.0)
    else:
        found, _ = pair_attention(torch.nn.Identity(), *ours, None, scaling=scaling, layout=layout)
    expected = by_rows(*theirs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_window_that_is_too_short_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="509 tokens is longer than the model's window"):
        pair_attention(
            torch.nn.Identity(),
            *tensors(),
            None,
            scaling=1.0,
            layout=Layout(SEGMENTS),
            sliding_window=508,
        )
