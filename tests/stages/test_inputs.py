"""What each variant is told, from the files that the stages before have left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from rec import layout
from rec.config import Machine
from rec.errors import RecError
from rec.files import write_json
from rec.rerank.features import Features
from stages import inputs
from tests.rerank.builders import DIMENSION, World, world
from tests.stages.small import PROTOCOLS, judged_lists, params, write_inputs


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=20, lists=3, samples=2)


@pytest.fixture(autouse=True)
def built(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Features:
    monkeypatch.chdir(tmp_path)
    write_inputs(made)
    return inputs.features(params())


class TestFeatures:
    def test_the_main_protocol_is_the_first(self, made: World, built: Features) -> None:
        assert inputs.protocols() == PROTOCOLS
        named = inputs.features(params(), PROTOCOLS[0])
        assert torch.equal(built.items, named.items) and torch.equal(built.items, made_items(made))

    def test_another_protocol_has_other_items_for_the_same_users(self, built: Features) -> None:
        other = inputs.features(params(), PROTOCOLS[1])
        assert (other.lists, other.users, other.splits) == (built.lists, built.users, built.splits)
        assert (built.items.shape[1], other.items.shape[1]) == (6, 7)
        assert torch.equal(other.history, built.history)
        assert torch.equal(other.labels.sum(1), built.labels.sum(1))

    def test_ratings_lie_in_the_range_of_the_data_set(self, built: Features) -> None:
        assert built.ratings.min() == -1.0 and built.ratings.max() == 1.0

    @pytest.mark.parametrize("value", [None, [], {"protocols": []}, {"protocols": "popularity"}])
    def test_protocols_that_are_not_named(self, value: object) -> None:
        write_json(layout.PREPARED, value)
        with pytest.raises(RecError, match=r"prepare\.json: protocols"):
            inputs.protocols()

    def test_judged_are_lists_of_validation_and_test_users(
        self, made: World, built: Features
    ) -> None:
        names = [built.lists[row] for row in inputs.judged_rows(built).tolist()]
        assert sorted(names) == sorted(judged_lists(made))


def made_items(made: World) -> torch.Tensor:
    return made.features().items


class TestKnowledge:
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
    def test_texts(self, built: Features, variant: str, text: str, texts: int, rows: int) -> None:
        found = inputs.knowledge(built, variant, params(text), 1)
        assert found is not None and found.dimension == DIMENSION
        assert found.texts == texts
        assert (0 if found.users is None else len(found.users)) == rows

    def test_noise_is_another_for_each_seed(self, built: Features) -> None:
        first, again, other = (
            inputs.knowledge(built, "noise", params(), seed) for seed in (1, 1, 2)
        )
        assert first is not None and again is not None and other is not None
        assert torch.equal(first.items, again.items)
        assert not torch.equal(first.items, other.items)

    def test_none_is_told_nothing(self, built: Features) -> None:
        assert inputs.knowledge(built, "none", params(), 1) is None

    def test_items_are_the_same_for_all_but_noise(self, built: Features) -> None:
        tables = {}
        for variant in ("items", "history", "swapped", "0", "1", "noise"):
            found = inputs.knowledge(built, variant, params(), 1)
            assert found is not None
            tables[variant] = found.items
        for variant in ("history", "swapped", "0", "1"):
            assert torch.equal(tables[variant], tables["items"])
        assert not torch.equal(tables["noise"], tables["items"])

    def test_swapped_is_the_history_of_another(self, built: Features) -> None:
        own, first, second = (
            inputs.knowledge(built, variant, params(), seed)
            for variant, seed in (("history", 1), ("swapped", 1), ("swapped", 2))
        )
        assert own is not None and first is not None and second is not None
        assert own.users is not None and first.users is not None and second.users is not None
        assert (own.users != first.users).flatten(1).any(1).all()
        assert not torch.equal(first.users, second.users)

    def test_each_policy_has_its_own_responses(self, made: World, built: Features) -> None:
        base, other = (inputs.knowledge(built, policy, params(), 1) for policy in ("0", "1"))
        joint = inputs.knowledge(built, "0", params("joint"), 1)
        for found, samples in ((base, [0, 1]), (other, [1]), (joint, [10, 11])):
            assert found is not None and found.samples is not None
            assert found.samples.tolist() == samples * 20
        assert base is not None and other is not None
        assert base.users is not None and other.users is not None
        assert torch.equal(base.users[1::2], other.users)

    def test_a_history_stands_beside_each_response(self, built: Features) -> None:
        both = inputs.knowledge(built, "0", params("both"), 1)
        history = inputs.knowledge(built, "history", params(), 1)
        assert both is not None and both.users is not None
        assert history is not None and history.users is not None
        assert torch.equal(both.users[:, 1], history.users[:, 0].repeat_interleave(2, 0))

    def test_noise_is_told_by_the_seed(self, built: Features) -> None:
        first, again, other = (
            inputs.knowledge(built, "noise", params(seed=seed), 1) for seed in (1, 1, 2)
        )
        assert first is not None and again is not None and other is not None
        assert torch.equal(first.items, again.items)
        assert not torch.equal(first.items, other.items)

    def test_a_policy_that_is_not_there(self, built: Features) -> None:
        with pytest.raises(RecError, match="variant 'sft' does not exist"):
            inputs.knowledge(built, "sft", params(), 1)


def who(number: int) -> tuple[int, int, int]:
    """A call's number, its process and that one's threads."""
    return number, os.getpid(), torch.get_num_threads()


def broken(number: int) -> int:
    raise RecError(f"call {number} is broken")


class TestSideBySide:
    def test_in_this_process_where_there_is_one(self) -> None:
        found = inputs.side_by_side(params(), who, [(n,) for n in range(3)])
        assert found == [(n, os.getpid(), 1) for n in range(3)]

    def test_in_others_where_there_are_more(self) -> None:
        two = params(machine=Machine(threads=2))
        found = inputs.side_by_side(two, who, [(n,) for n in range(3)])
        assert [number for number, _, _ in found] == [0, 1, 2]
        assert os.getpid() not in {process for _, process, _ in found}
        assert {threads for _, _, threads in found} == {1}
        with pytest.raises(RecError, match="call 0 is broken"):
            inputs.side_by_side(two, broken, [(0,), (1,)])
