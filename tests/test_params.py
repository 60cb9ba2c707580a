"""conf/ and the params.yaml that it composes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from rec.errors import RecError
from rec.params import load_params
from stages import compose as stage
from tests.composed import ROOT, compose


def names(group: str) -> list[str]:
    found = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
    assert len(found) > 1
    return found


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
    *itertools.product(names("profile"), ["encoder"], names("encoder")),
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
        "encoder": params.encoder.name.lower(),
        "rounds": "-".join([f"t{len(params.rounds)}", *params.fine_tuned]),
    }
    assert found[group] == choice


@pytest.mark.parametrize("choice", names("rounds"))
def test_dvc_reads_policies_as_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    """Strings in the file, and in the names of dvc.yaml's stages; no control, no such stage."""
    composed = compose(tmp_path / "params.yaml", [f"rounds={choice}"])
    values = yaml.safe_load(composed.read_text())
    rounds = [str(number) for number in range(1, int(choice[1]) + 1)]
    controls = choice.split("-")[1:]
    policies = ["0", *rounds, *controls]
    assert (values["policies"], values["fine_tuned"]) == (policies, controls)
    assert values["rounds"] == dict(zip(rounds, policies, strict=False))
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    with Repo.init(no_scm=True) as repo:
        outs = {stage.name: [str(out) for out in stage.outs] for stage in repo.index.stages}
    for group, members in {"sample": policies, "align": rounds, "align-sft": controls}.items():
        names = [name for name in outs if name.startswith(f"{group}@")]
        assert names == [f"{group}@{member}" for member in members]
    for member in controls:
        assert outs[f"align-sft@{member}"] == [f"data/policy/{member}", f"data/alignment/{member}"]


def test_shown_lists_and_their_order_can_be_composed(tmp_path: Path) -> None:
    shown = ["data=tabular", "data.tabular.impressions.file=log.csv"]
    orders = "orders=[shown,popularity,random]"
    params = load_params(compose(tmp_path / "params.yaml", [*shown, orders]))
    assert params.orders[0] == "shown"
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
