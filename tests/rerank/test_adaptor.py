from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from rec.rerank.adaptor import Adaptor, Experts, HybridExperts, Perceptrons

KINDS = ("hea", "mlp")


def adaptor(kind: str, dropout: float = 0.0) -> Adaptor:
    """Of three sources, 6 to 5, calibrated."""
    torch.manual_seed(0)
    if kind == "hea":
        made: Adaptor = HybridExperts(6, 5, 7, 2, 3, sources=3, dropout=dropout)
    else:
        made = Perceptrons(6, 5, 7, sources=3, dropout=dropout)
    for source in range(3):
        made.calibrate(source, torch.randn(50, 6) * (source + 1) + source)
    return made


def test_hybrid_experts_equal_the_mixture_written_out() -> None:
    """KAR, equations 5 and 6: shared and own experts, weighted by the softmax of the gate."""
    made = adaptor("hea")
    assert isinstance(made, HybridExperts)
    x = torch.randn(4, 6)
    for source in range(3):
        gate = made.gates[source](x).softmax(-1)
        outputs = []
        for experts in (made.shared, made.own[source]):
            assert isinstance(experts, Experts)
            first = torch.unflatten(experts.first(x), -1, (experts.count, 7))
            second = torch.unflatten(experts.second, 1, (experts.count, 7))
            for expert in range(experts.count):
                hidden = functional.relu(first[:, expert])
                outputs.append(hidden @ second[:, expert].T + experts.bias[expert])
        mixed = (torch.stack(outputs, dim=1) * gate.unsqueeze(-1)).sum(1)
        assert len(outputs) == 5
        torch.testing.assert_close(made(x, source), mixed)


def test_perceptrons_equal_two_layers_written_out() -> None:
    made, x = adaptor("mlp"), torch.randn(4, 6)
    weights = made.state_dict()
    for source in range(3):
        first, second = (f"networks.{source}.{layer}" for layer in (0, 3))
        hidden = functional.relu(x @ weights[f"{first}.weight"].T + weights[f"{first}.bias"])
        expected = hidden @ weights[f"{second}.weight"].T + weights[f"{second}.bias"]
        torch.testing.assert_close(made(x, source), expected)


@pytest.mark.parametrize("kind", KINDS)
class TestEvery:
    def test_outputs_are_not_cut_at_zero(self, kind: str) -> None:
        out = adaptor(kind)(torch.randn(500, 6), 0)
        assert (out < 0).any(0).all() and (out > 0).any(0).all()

    def test_sources_are_adapted_apart(self, kind: str) -> None:
        made, x = adaptor(kind), torch.randn(4, 6)
        assert not torch.allclose(made(x, 1), made(x, 2))

    def test_a_source_trains_its_own_part(self, kind: str) -> None:
        made = adaptor(kind)
        made(torch.randn(8, 6), 1).pow(3).sum().backward()
        learned = {name for name, weight in made.named_parameters() if weight.grad is not None}
        own = ("shared.", "own.1.", "gates.1.", "networks.1.")
        assert learned == {name for name, _ in made.named_parameters() if name.startswith(own)}
        for name, weight in made.named_parameters():
            assert weight.grad is None or weight.grad.abs().sum() > 0, name

    def test_dropout_is_of_training_alone(self, kind: str) -> None:
        made, x = adaptor(kind, dropout=0.5), torch.randn(4, 6)
        made.eval()
        torch.testing.assert_close(made(x, 0), adaptor(kind)(x, 0))
        made.train()
        assert not torch.allclose(made(x, 0), made(x, 0))


class TestParameters:
    def test_kar_has_as_many(self) -> None:
        """Vectors of 384 and the sizes of KAR's own runs: counted in its code."""
        made = HybridExperts(384, 32, 128, 2, 6)
        assert sum(weight.numel() for weight in made.parameters()) == 753_872

    @pytest.mark.parametrize(("d", "k", "h", "shared", "own", "sources"), [(6, 5, 7, 2, 3, 3)])
    def test_docstrings(self, d: int, k: int, h: int, shared: int, own: int, sources: int) -> None:
        expert, gate = d * h + h + h * k + k, (d + 1) * (shared + own)
        expected = (shared + sources * own) * expert + sources * gate
        counts = [sum(w.numel() for w in adaptor(kind).parameters()) for kind in KINDS]
        assert counts == [expected, sources * ((d + 1) * h + (h + 1) * k)]


class TestCentred:
    @pytest.mark.parametrize("shape", [(40, 6), (3, 5, 6)])
    def test_mean_removed_and_length_the_root_of_the_dimension(self, shape: tuple[int]) -> None:
        made = adaptor("hea")
        vectors = torch.randn(shape).half()
        found = made.centred(vectors, 2)
        assert found.dtype == torch.float16 and found.shape == vectors.shape
        rest = vectors.float().numpy() - made.mean[2].numpy()
        expected = rest / np.linalg.norm(rest, axis=-1, keepdims=True) * math.sqrt(6)
        np.testing.assert_allclose(found.float(), expected, atol=2e-3)
        np.testing.assert_allclose(found.float().norm(dim=-1), math.sqrt(6), rtol=2e-3)

    @pytest.mark.parametrize("count", [1, 2, 3, 37, 1000])
    def test_a_vector_that_equals_the_mean_stays_0(self, count: int) -> None:
        """Also where the mean of equal vectors is a little off: all of them say the same."""
        made, vector = adaptor("mlp"), torch.randn(1, 6).half()
        made.calibrate(1, vector.expand(count, 6))
        assert (made.centred(vector, 1) == 0).all()

    def test_what_all_vectors_share_does_not_count(self) -> None:
        made, x = adaptor("hea"), torch.randn(30, 6)
        made.calibrate(0, x)
        plain = made.centred(x, 0)
        made.calibrate(0, x * 0.01 + 5.0)
        torch.testing.assert_close(made.centred(x * 0.01 + 5.0, 0), plain, atol=1e-2, rtol=1e-2)

    def test_the_mean_is_kept_with_the_weights(self) -> None:
        made, other = adaptor("hea"), HybridExperts(6, 5, 7, 2, 3, sources=3)
        assert "mean" in made.state_dict() and not made.mean.requires_grad
        other.load_state_dict(made.state_dict())
        vectors = torch.randn(4, 6)
        assert torch.equal(other.centred(vectors, 1), made.centred(vectors, 1))
