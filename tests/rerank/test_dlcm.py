from __future__ import annotations

import torch

from rec.rerank.dlcm import DLCM
from rec.rerank.losses import attention_rank
from tests.rerank.builders import ranker

LENGTHS = [5, 3, 1]


def test_equals_the_paper_written_out() -> None:
    """Sections 4.2 and 4.3, list by list: the last item is read first, padding never."""
    torch.manual_seed(0)
    model = DLCM(ranker(hidden=8)).eval()
    states = torch.randn(3, 5, 8)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    found = model(states, mask)
    weights, bias = model.context.weight, model.context.bias
    for row, length in enumerate(LENGTHS):
        read, last = model.reader(states[row, :length].flip(0).unsqueeze(0))
        outputs, context = read[0].flip(0), last[0, 0]
        torch.testing.assert_close(outputs[0], context)
        for place in range(length):
            score = torch.zeros(())
            for unit in range(2):
                own = slice(8 * unit, 8 * unit + 8)
                gate = torch.tanh(weights[own] @ context + bias[own])
                score = score + model.weigh.weight[0, unit] * (outputs[place] @ gate)
            torch.testing.assert_close(found[row, place], score, atol=1e-6, rtol=1e-5)


def test_it_is_trained_with_the_attention_rank_loss() -> None:
    assert DLCM.loss is attention_rank
