"""rec.align.attention: the blocks of a CPU and the fused calls of a GPU are attention by rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rec.align import attention
from rec.align.attention import Layout, pair_attention
from rec.align.packing import Segment
from rec.errors import RecError

HEADS, KEY_HEADS, SIZE = 6, 2, 8
#: Longer than a block; with an empty rest; with a shared part of one token.
SEGMENTS = (Segment(0, 500, 9, 4), Segment(513, 7, 0, 3), Segment(523, 1, 2, 0))
TOTAL = 526


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, TOTAL, SIZE, generator=generator, requires_grad=True)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )
    return query, key, value


def by_rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of each response's row by itself, laid out as the packed sequence."""
    found = torch.zeros(1, TOTAL, HEADS, SIZE)
    for segment in SEGMENTS:
        for rejected in (False, True):
            length = segment.shared + (segment.rejected if rejected else segment.chosen)
            places = [segment.place(column, rejected) for column in range(length)]
            q, k, v = (t[:, :, places] for t in (query, key, value))
            own = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            own = own.transpose(1, 2)
            fresh = segment.shared if rejected else 0
            found[:, places[fresh:]] = own[:, fresh:]
    return found


@pytest.mark.parametrize(
    ("way", "together"), [("_in_blocks", 0), ("_fused", 8192), ("_fused", 513), ("_fused", 12)]
)
def test_equals_attention_by_rows(way: str, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "TOGETHER", together)
    ours, theirs = tensors(), tensors()
    layout, scaling = Layout(SEGMENTS), SIZE**-0.5
    if way == "_fused":
        found = attention._fused(*ours, layout=layout, scaling=scaling, dropout=0.0)
    else:
        query, key, value = ours
        module = torch.nn.Identity()
        found, _ = pair_attention(module, query, key, value, None, scaling=scaling, layout=layout)
    expected = by_rows(*theirs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward((found * weights).sum())
    torch.autograd.backward((expected * weights).sum())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_gpu_leaves_cudnn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: Any = torch.backends.cuda
    allowed = []

    def attend(*given: Any, **options: Any) -> torch.Tensor:
        allowed.append(kernels.cudnn_sdp_enabled())
        return scaled_dot_product_attention(*given, **options)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", attend)
    before = kernels.cudnn_sdp_enabled()
    attention._fused(*tensors(), layout=Layout(SEGMENTS), scaling=1.0, dropout=0.0)
    assert allowed == [False]
    assert kernels.cudnn_sdp_enabled() == before


def test_a_window_that_is_too_short_is_refused() -> None:
    with pytest.raises(RecError, match="509 tokens, the model's window is 508"):
        query, key, value = tensors()
        pair_attention(
            torch.nn.Identity(),
            query,
            key,
            value,
            None,
            scaling=1.0,
            layout=Layout(SEGMENTS),
            sliding_window=508,
        )


@pytest.mark.parametrize(
    ("together", "slices"), [(8192, [(0, 526)]), (12, [(0, 513), (513, 523), (523, 526)])]
)
def test_pairs_are_attended_together_up_to_so_many_tokens(
    together: int, slices: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "TOGETHER", together)
    groups = Layout(SEGMENTS).groups(torch.float32, torch.device("cpu"))
    assert [(own.start, own.stop) for own, _ in groups] == slices
    for own, bias in groups:
        assert bias.shape == (own.stop - own.start,) * 2
        assert bias.stride(0) % 16 == 0
