"""conf/rounds: what each group says of policies, rounds and controls."""

from __future__ import annotations

from pathlib import Path

import pytest

from rec.errors import RecError
from rec.params import load_params
from tests.composed import ROOT, compose

GROUPS = sorted(path.stem for path in (ROOT / "conf/rounds").glob("*.yaml"))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("profile", ["quick", "cpu", "full"])
def test_a_group_is_as_its_name_says_in_every_profile(
    tmp_path: Path, group: str, profile: str
) -> None:
    """Also where the profile has rounds of its own."""
    params = load_params(
        compose(tmp_path / "params.yaml", [f"profile={profile}", f"rounds={group}"])
    )
    count, _, control = group.removeprefix("t").partition("-")
    controls = [control] if control else []
    assert len(params.rounds) == int(count)
    assert params.fine_tuned == controls
    assert params.policies == [*map(str, range(int(count) + 1)), *controls]


def test_there_is_a_group_without_rounds() -> None:
    assert "t0" in GROUPS and "t2-sft" in GROUPS


def test_one_response_per_user_is_enough_where_no_round_compares_them(tmp_path: Path) -> None:
    alone = ["profile=cpu", "sampling.responses=1"]
    params = load_params(compose(tmp_path / "params.yaml", [*alone, "rounds=t0"]))
    assert params.sampling.responses == 1
    with pytest.raises(RecError, match=r"sampling\.responses: 1 is not possible; a round compares"):
        load_params(compose(tmp_path / "params.yaml", [*alone, "rounds=t1"]))
