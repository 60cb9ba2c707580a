import torch
from torch.nn import functional

from rec.rerank.adaptor import Adaptor


def adaptor() -> Adaptor:
    torch.manual_seed(0)
    made = Adaptor(dimension=6, width=5, hidden=7, shared=2, specific=3)
    made.calibrate(0, torch.randn(50, 6))
    made.calibrate(1, torch.randn(50, 6) * 3 + 1)
    return made


def test_equals_the_mixture_written_out() -> None:
    made = adaptor()
    x = torch.randn(4, 6)
    for source, experts in ((0, [0, 1, 2, 3, 4]), (1, [0, 1, 5, 6, 7])):
        scaled = (x - made.mean[source]) * made.scale[source]
        gate = made.gates[source](scaled).softmax(-1)
        outputs = [made.second[e](functional.gelu(made.first[e](scaled))) for e in experts]
        mixed = (torch.stack(outputs, dim=1) * gate.unsqueeze(-1)).sum(1)
        torch.testing.assert_close(made(x, source), mixed)


def test_outputs_are_not_cut_at_zero() -> None:
    out = adaptor()(torch.randn(200, 6), 0)
    assert (out < 0).any(0).all()
    assert (out > 0).any(0).all()


def test_every_expert_of_a_source_learns_and_no_other() -> None:
    made = adaptor()
    made(torch.randn(8, 6), 1).pow(3).sum().backward()
    learned = [layer.weight.grad is not None for layer in made.first]
    assert learned == [True, True, False, False, False, True, True, True]


def test_what_all_vectors_share_does_not_count() -> None:
    made, x = adaptor(), torch.randn(30, 6)
    made.calibrate(0, x)
    plain = made(x, 0)
    made.calibrate(0, x * 0.01 + 5.0)
    torch.testing.assert_close(made(x * 0.01 + 5.0, 0), plain, atol=1e-3, rtol=1e-3)
