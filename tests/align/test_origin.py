"""rec.align.origin: what each policy is trained from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rec.align.origin import origin
from rec.config import Params
from rec.errors import RecError
from rec.params import load_params
from tests.composed import compose


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """Two rounds and the control, with robust DPO."""
    place: Path = tmp_path_factory.mktemp("params") / "params.yaml"
    loss = ["align.loss=robust", "align.label_smoothing=0.1"]
    return load_params(compose(place, ["rounds=t2-sft", *loss]))


def test_a_round_starts_from_the_policy_that_it_judged(params: Params) -> None:
    for policy, start in (("1", "0"), ("2", "1")):
        found = origin(params, policy)
        assert (found.round_, found.start, found.settings) == (int(policy), start, params.align)


def test_the_control_is_the_base_by_the_pairs_of_round_1(params: Params) -> None:
    found = origin(params, "sft")
    assert (found.round_, found.start) == (1, "0")
    assert found.settings == replace(params.align, loss="sft", label_smoothing=0.0)
    assert params.align.loss == "robust"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("0", "policy '0' is the base LLM; those that are trained are 1, 2, sft"),
        ("3", "policy '3' does not exist; params.yaml has policies 0, 1, 2, sft"),
        ("base", "policy 'base' does not exist; params.yaml has policies 0, 1, 2, sft"),
    ],
)
def test_what_is_not_trained(params: Params, policy: str, message: str) -> None:
    with pytest.raises(RecError) as caught:
        origin(params, policy)
    assert str(caught.value) == message


def test_without_controls_there_is_none(params: Params) -> None:
    with pytest.raises(RecError, match=r"policies 0, 1, 2$"):
        origin(replace(params, policies=["0", "1", "2"], fine_tuned=[]), "sft")
