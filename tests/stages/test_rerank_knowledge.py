"""stages.rerank.knowledge_of: what each variant is told, from the files of the stages before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rec.errors import RecError
from rec.rerank.features import Features
from stages import inputs
from stages.rerank import knowledge_of
from tests.rerank.builders import DIMENSION, World, world
from tests.stages.small import params, write_inputs


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=20, lists=3, samples=2)


@pytest.fixture(autouse=True)
def built(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Features:
    monkeypatch.chdir(tmp_path)
    write_inputs(made)
    return inputs.features(params())


@pytest.mark.parametrize(
    ("variant", "text", "texts", "rows"),
    [
        ("items", "both", 0, 0),
        ("noise", "response", 1, 20),
        ("history", "response", 1, 20),
        ("swapped", "response", 1, 20),
        ("history", "both", 1, 20),
        ("0", "response", 1, 40),
        ("0", "joint", 1, 40),
        ("0", "both", 2, 40),
        ("1", "response", 1, 20),
    ],
)
def test_texts(built: Features, variant: str, text: str, texts: int, rows: int) -> None:
    found = knowledge_of(built, variant, params(text), 1)
    assert found is not None and found.dimension == DIMENSION
    assert found.texts == texts
    assert (0 if found.users is None else len(found.users)) == rows


def test_noise_is_another_for_each_seed(built: Features) -> None:
    first, again, other = (knowledge_of(built, "noise", params(), seed) for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    assert torch.equal(first.items, again.items)
    assert not torch.equal(first.items, other.items)


def test_none_is_told_nothing(built: Features) -> None:
    assert knowledge_of(built, "none", params(), 1) is None


def test_items_are_the_same_for_all_but_noise(built: Features) -> None:
    tables = {}
    for variant in ("items", "history", "swapped", "0", "1", "noise"):
        found = knowledge_of(built, variant, params(), 1)
        assert found is not None
        tables[variant] = found.items
    for variant in ("history", "swapped", "0", "1"):
        assert torch.equal(tables[variant], tables["items"])
    assert not torch.equal(tables["noise"], tables["items"])


def test_swapped_is_the_history_of_another(built: Features) -> None:
    own, first, second = (
        knowledge_of(built, variant, params(), seed)
        for variant, seed in (("history", 1), ("swapped", 1), ("swapped", 2))
    )
    assert own is not None and first is not None and second is not None
    assert own.users is not None and first.users is not None and second.users is not None
    assert (own.users != first.users).flatten(1).any(1).all()
    assert not torch.equal(first.users, second.users)


def test_each_policy_has_its_own_responses(made: World, built: Features) -> None:
    base, other = (knowledge_of(built, policy, params(), 1) for policy in ("0", "1"))
    joint = knowledge_of(built, "0", params("joint"), 1)
    for found, samples in ((base, [0, 1]), (other, [1]), (joint, [10, 11])):
        assert found is not None and found.samples is not None
        assert found.samples.tolist() == samples * 20
    assert base is not None and other is not None
    assert base.users is not None and other.users is not None
    assert torch.equal(base.users[1::2], other.users)


def test_a_history_stands_beside_each_response(built: Features) -> None:
    both = knowledge_of(built, "0", params("both"), 1)
    history = knowledge_of(built, "history", params(), 1)
    assert both is not None and both.users is not None
    assert history is not None and history.users is not None
    assert torch.equal(both.users[:, 1], history.users[:, 0].repeat_interleave(2, 0))


def test_noise_is_told_by_the_seed(built: Features) -> None:
    first, again, other = (knowledge_of(built, "noise", params(seed=seed), 1) for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    assert torch.equal(first.items, again.items)
    assert not torch.equal(first.items, other.items)


def test_a_policy_that_is_not_there(built: Features) -> None:
    with pytest.raises(RecError, match="variant 'sft' does not exist"):
        knowledge_of(built, "sft", params(), 1)
