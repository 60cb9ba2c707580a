from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rec.rerank.losses import pointwise
from rec.rerank.mir import FIELDS, MIR
from tests.rerank.builders import ranker

HIDDEN, LISTS, HISTORIES = 8, [4, 2, 3, 4], [5, 3, 1, 0]


def model() -> MIR:
    torch.manual_seed(0)
    made = MIR(ranker(hidden=HIDDEN)).eval().requires_grad_(False)
    for weight in made.parameters():
        weight.add_(torch.randn_like(weight), alpha=0.2)
    return made


def states() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Items and histories with their masks: lists are padded right, histories left."""
    items, history = torch.randn(4, 4, HIDDEN), torch.randn(4, 5, HIDDEN)
    mask = torch.arange(4) < torch.tensor(LISTS)[:, None]
    past = torch.arange(5) >= 5 - torch.tensor(HISTORIES)[:, None]
    return items, mask, history, past


def by_hand(made: MIR, items: Tensor, history: Tensor) -> Tensor:
    """Scores of one list [n, hidden] with one history [H, hidden], pair by pair."""
    attended = made.attention(items.unsqueeze(0), torch.ones(1, len(items), dtype=torch.bool))[0]
    candidates = torch.cat([items, attended], dim=1)
    if len(history) == 0:
        nothing = torch.zeros(2 * HIDDEN)
        return torch.stack([made.score(torch.cat([v, nothing, nothing]))[0] for v in candidates])
    forwards = made.forwards(history.unsqueeze(0))[0][0]
    backwards = made.backwards(history.flip(0).unsqueeze(0))[0][0].flip(0)
    interactions = torch.cat([history, forwards, backwards], dim=1)
    rate = functional.softplus(made.fading(history.mean(0)) - 2.0)
    affinity = torch.zeros(len(items), len(history))
    for i, candidate in enumerate(candidates):
        for j, interaction in enumerate(interactions):
            total = (made.items.weight @ candidate) @ interaction
            ours, theirs = candidate.view(FIELDS, -1), interaction.view(FIELDS, -1)
            for f in range(FIELDS):
                for g in range(FIELDS):
                    pair = (made.features.weight @ ours[f]) @ theirs[g]
                    total = total + made.fields[f, g] * pair
            affinity[i, j] = torch.tanh(total / (2 * HIDDEN) ** 0.5)
    age = torch.arange(len(history) - 1, -1, -1)
    seen = (affinity - rate * age).softmax(1) @ interactions
    whole = (affinity.softmax(0).T @ candidates).mean(0)
    parts = zip(candidates, seen, strict=True)
    return torch.stack([made.score(torch.cat([v, s, whole]))[0] for v, s in parts])


def test_equals_the_docstring_written_out() -> None:
    made = model()
    items, mask, history, past = states()
    found = made(items, mask, history, past)
    for row, (length, count) in enumerate(zip(LISTS, HISTORIES, strict=True)):
        expected = by_hand(made, items[row, :length], history[row, 5 - count :])
        torch.testing.assert_close(found[row, :length], expected, atol=1e-5, rtol=1e-4)


def test_what_is_long_ago_fades() -> None:
    """A high rate leaves the last interaction alone: another weighing of the same history."""
    made = model()
    items, mask, history, past = states()
    plain = made(items, mask, history, past)
    made.fading.bias.add_(50.0)
    faded = made(items, mask, history, past)
    assert faded.isfinite().all()
    rate = made._fading(history, past)
    assert (rate > 40).all()
    assert not torch.allclose(plain[mask], faded[mask])


def test_it_is_trained_item_by_item() -> None:
    assert MIR.loss is pointwise
