from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rec.rerank.attention import Block, SelfAttention, attend, reordered, sinusoids


def states(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MASK = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attend_is_scaled_dot_product_attention(heads: int) -> None:
    query, keys, values = states(3, 7, 8), states(3, 5, 8, seed=1), states(3, 5, 8, seed=2)

    def split(part: Tensor) -> Tensor:
        return torch.unflatten(part, -1, (heads, -1)).transpose(1, 2)

    expected = functional.scaled_dot_product_attention(
        split(query), split(keys), split(values), attn_mask=MASK[:, None, None]
    )
    found = attend(query, keys, values, MASK, heads)
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(2))


def test_rows_of_lists_are_reordered() -> None:
    """And so are their gradients; a place may stand there twice."""
    given = states(3, 5, 8).requires_grad_()
    places = torch.tensor([[4, 3, 2, 1, 0], [0, 1, 2, 3, 4], [2, 2, 0, 1, 4]])
    found, weights = reordered(given, places), states(3, 5, 8, seed=1)
    expected = torch.stack([given[row, places[row]] for row in range(3)])
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad((made * weights).sum(), given) for made in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_self_attention_is_that_of_torch() -> None:
    ours, theirs = SelfAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.projections.weight)
        theirs.in_proj_bias.copy_(ours.projections.bias)
    theirs.out_proj = ours.output  # type: ignore[assignment]
    given = states(3, 5, 8)
    expected, _ = theirs(given, given, given, key_padding_mask=~MASK)
    torch.testing.assert_close(ours(given, MASK), expected)


def test_block_is_the_encoder_layer_of_the_transformer() -> None:
    """Norms behind the sums, ReLU, a network of twice the width."""
    torch.manual_seed(0)
    ours = Block(8, 2, dropout=0.3).eval()
    theirs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True).eval()
    weights = ours.state_dict()
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": weights["attention.projections.weight"],
            "self_attn.in_proj_bias": weights["attention.projections.bias"],
            "self_attn.out_proj.weight": weights["attention.output.weight"],
            "self_attn.out_proj.bias": weights["attention.output.bias"],
            "linear1.weight": weights["network.0.weight"],
            "linear1.bias": weights["network.0.bias"],
            "linear2.weight": weights["network.2.weight"],
            "linear2.bias": weights["network.2.bias"],
            "norm1.weight": weights["after_attention.weight"] + 0.1,
            "norm1.bias": weights["after_attention.bias"] + 0.2,
            "norm2.weight": weights["after_network.weight"] + 0.3,
            "norm2.bias": weights["after_network.bias"] + 0.4,
        }
    )
    with torch.no_grad():
        for norm, weight, bias in (
            (ours.after_attention, 0.1, 0.2),
            (ours.after_network, 0.3, 0.4),
        ):
            norm.weight.add_(weight)
            norm.bias.add_(bias)
        given = states(3, 5, 8)
        expected = theirs(given, src_key_padding_mask=~MASK)
        torch.testing.assert_close(ours(given, MASK)[MASK], expected[MASK], atol=1e-5, rtol=1e-5)


def test_dropout_is_of_training_alone() -> None:
    block = Block(8, 2, dropout=0.5)
    given = states(3, 5, 8)
    block.eval()
    torch.testing.assert_close(block(given, MASK), block(given, MASK))
    block.train()
    assert not torch.allclose(block(given, MASK), block(given, MASK))


class TestSinusoids:
    @pytest.mark.parametrize("width", [4, 7, 8])
    def test_values(self, width: int) -> None:
        table = sinusoids(50, width, torch.device("cpu"))
        assert table.shape == (50, width)
        assert table[0].tolist() == [float(column % 2) for column in range(width)]
        for column in range(width):
            angle = torch.arange(50) / 10000 ** (column // 2 * 2 / width)
            expected = angle.cos() if column % 2 else angle.sin()
            torch.testing.assert_close(table[:, column], expected, atol=1e-5, rtol=1e-5)

    def test_every_place_is_another(self) -> None:
        table = sinusoids(500, 16, torch.device("cpu"))
        apart = torch.cdist(table, table) + torch.eye(500) * 9
        assert apart.min() > 1e-2
