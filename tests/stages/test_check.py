"""stages.check: the first stage of all, which must make nothing stale."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from omegaconf import OmegaConf

from rec.files import sha256
from stages.check import main

ROOT = Path(__file__).parents[2]
CHECKED = Path("data/checked.json")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())


def run() -> Result:
    return CliRunner().invoke(main, [])


def change(key: str, value: object) -> None:
    params = OmegaConf.load("params.yaml")
    OmegaConf.update(params, key, value, merge=False)
    OmegaConf.save(params, "params.yaml")


def test_output_does_not_depend_on_the_values() -> None:
    assert run().exit_code == 0
    before = sha256(CHECKED)
    change("seed", 1)
    assert run().exit_code == 0
    assert sha256(CHECKED) == before


def test_invalid_params() -> None:
    change("align.beta", "high")
    result = run()
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: params.yaml: align.beta: Value 'high'")
    assert len(result.stderr.splitlines()) == 1
    assert not CHECKED.exists()
