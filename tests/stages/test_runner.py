"""stages.runner: errors of the user are one line, those of the code keep their traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from rec.config import Params
from rec.errors import RecError
from rec.files import read_json, write_json
from stages import runner

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import click
from rec.errors import RecError
from stages.runner import stage

@stage
@click.argument("round_", type=click.IntRange(min=1))
def main(params, round_):
    "Do nothing for a ROUND."
    if round_ == 2:
        raise RecError(f"round 2 has no pairs (seed {params.seed})")

main()
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    Path("toy_stage.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "toy_stage.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_success_writes_figures() -> None:
    done = run_script("1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (path,) = runner.FIGURES.iterdir()
    figures = read_json(path)
    assert path.name == "toy_stage@1.json"
    assert set(figures) == {"seconds", "peak_rss_mb", "finished"}
    assert figures["seconds"] > 0 and 10 < figures["peak_rss_mb"] < 100_000


def test_error_of_the_user_is_one_line() -> None:
    done = run_script("2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: round 2 has no pairs (seed 2026)\n"
    assert not runner.FIGURES.exists()


def test_wrong_argument_is_refused_by_name() -> None:
    done = run_script("0")
    assert done.returncode == 2
    assert "0 is not in the range x>=1" in done.stderr


def test_params_are_checked_first() -> None:
    Path("params.yaml").write_text("seed: [\n")
    done = run_script("2")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: params.yaml: not valid YAML")
    assert len(done.stderr.splitlines()) == 1


def test_params_from_another_file() -> None:
    params = OmegaConf.load("params.yaml")
    params.seed = 7
    OmegaConf.save(params, "other.yaml")
    assert "(seed 7)" in run_script("--params", "other.yaml", "2").stderr


def fails(params: Params) -> None:
    """Fail as a bug does."""
    raise ZeroDivisionError


def refuses(params: Params, policy: int) -> None:
    """Refuse."""
    raise RecError(f"policy {policy}: none")


def test_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(runner.stage(fails), [])
    assert isinstance(result.exception, ZeroDivisionError)
    assert not runner.FIGURES.exists()


def test_arguments_and_help() -> None:
    command = runner.stage(click.argument("policy", type=int)(refuses))
    result = CliRunner().invoke(command, ["3"])
    assert result.exit_code == 1
    assert result.stderr == "Error: policy 3: none\n"
    text = CliRunner().invoke(command, ["--help"]).output
    assert "Refuse." in text and "--params" in text and "POLICY" in text


def test_figures_are_read_in_order_of_their_ends() -> None:
    for name, finished in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        write_json(runner.FIGURES / f"{name}.json", {"seconds": 1.0, "finished": finished})
    assert list(runner.read_figures()) == ["b", "c", "a"]
    assert runner.read_figures()["b"] == {"seconds": 1.0, "finished": 1.0}


def test_no_figures() -> None:
    assert runner.read_figures() == {}
