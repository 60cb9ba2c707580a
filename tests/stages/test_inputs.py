"""What several stages share."""

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
from tests.rerank.builders import World, world
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
