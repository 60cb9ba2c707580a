"""conf/ and the params.yaml that it composes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump

from rec.errors import RecError
from rec.params import load_params
from stages import compose as stage

ROOT = Path(__file__).parents[1]


def names(group: str) -> list[str]:
    found = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
    assert len(found) > 1
    return found


def compose(target: Path, overrides: list[str]) -> Path:
    compose_and_dump(str(target), str(ROOT / "conf"), None, "config", "", overrides)
    return target


def test_committed_params_are_the_default_composition(tmp_path: Path) -> None:
    composed = compose(tmp_path / "params.yaml", [])
    assert composed.read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_stage_composes_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(stage, "compose_and_dump", lambda *arguments: calls.append(arguments))
    stage.main(["profile=tiny"])
    ((target, folder, *rest),) = calls
    assert Path(target) == ROOT / "params.yaml" and Path(folder) == ROOT / "conf"
    assert rest == [None, "config", "", ["profile=tiny"]]


CHOICES = [
    *itertools.product(names("profile"), ["data"], names("data")),
    *itertools.product(names("profile"), ["llm"], names("llm")),
    *itertools.product(names("profile"), ["rounds"], names("rounds")),
]


@pytest.mark.parametrize(("profile", "group", "choice"), CHOICES)
def test_every_choice_of_a_group_is_valid(
    tmp_path: Path, profile: str, group: str, choice: str
) -> None:
    composed = compose(tmp_path / "params.yaml", [f"profile={profile}", f"{group}={choice}"])
    params = load_params(composed)
    found = {
        "data": params.data.name,
        "llm": params.llm.name,
        "rounds": f"t{len(params.rounds)}",
    }
    assert found[group] == choice


def test_shown_lists_and_their_baseline_can_be_composed(tmp_path: Path) -> None:
    shown = ["data=tabular", "data.tabular.impressions.file=log.csv"]
    baselines = "baselines=[shown,popularity,none,items,history]"
    params = load_params(compose(tmp_path / "params.yaml", [*shown, baselines]))
    assert params.baselines[0] == "shown"
    with pytest.raises(RecError, match="add shown"):
        load_params(compose(tmp_path / "params.yaml", shown))


@pytest.mark.parametrize("profile", names("profile"))
def test_profiles_change_only_known_keys(profile: str) -> None:
    """A profile that misspells a key would add it beside the right one."""
    known = yaml.safe_load((ROOT / "params.yaml").read_text())
    content = yaml.safe_load((ROOT / "conf" / "profile" / f"{profile}.yaml").read_text())
    for block, values in content.items():
        if block != "defaults":
            assert set(values) <= set(known[block])
