from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.rerank.dropout import dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_entries_are_dropped_by_a_draw_of_their_own(share: float) -> None:
    """Of every row and column that share, in no pattern; those that stay are scaled up."""
    torch.manual_seed(0)
    values = torch.randn(4000, 30).abs() + 0.1
    found = dropout(values, share, training=True)
    kept = found > 0
    torch.testing.assert_close(found[kept], values[kept] / (1 - share), rtol=1e-4, atol=0)
    assert (found[~kept] == 0).all()
    dropped = 1.0 - kept.float()
    assert float(dropped.mean()) == pytest.approx(share, abs=0.005)
    assert (dropped.mean(0) - share).abs().max() < 0.04
    assert (torch.corrcoef(dropped.T) - torch.eye(30)).abs().max() < 0.09


def test_the_mean_is_kept() -> None:
    torch.manual_seed(0)
    vector = torch.randn(13)
    found = dropout(vector.expand(20000, 13), 0.1, training=True).mean(0)
    torch.testing.assert_close(found, vector, atol=0.01, rtol=0.02)


def test_what_was_dropped_has_no_gradient() -> None:
    torch.manual_seed(0)
    values = torch.ones(50, 7, requires_grad=True)
    found = dropout(values, 0.3, training=True)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(gradient, found.detach())


def test_the_seed_decides() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(torch.ones(20, 5), 0.5, training=True))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("share", "training"), [(0.4, False), (0.0, True)])
def test_nothing_is_dropped(share: float, training: bool) -> None:
    values = torch.randn(40, 5)
    assert torch.equal(dropout(values, share, training), values)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.floats(0.0, 0.9),
    st.sampled_from(["float32", "bfloat16"]),
)
@settings(max_examples=40)
def test_any_shape_share_and_type(shape: list[int], share: float, kind: str) -> None:
    values = torch.ones(shape, dtype=getattr(torch, kind))
    found = dropout(values, share, training=True)
    assert found.shape == values.shape and found.dtype == values.dtype
    scale = 1 / (1 - share)
    assert all(v == 0 or v == pytest.approx(scale, rel=0.01) for v in found.flatten().tolist())
