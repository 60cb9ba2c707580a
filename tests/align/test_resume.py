"""A run that was killed continues, and ends as one that was not."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from rec.align.policy import WEIGHTS
from rec.align.training import Alignment
from rec.align.watch import WHOLE, last_checkpoint
from rec.align.work import locked
from rec.config import Guards
from rec.errors import RecError
from tests.align.rounds import run
from tests.llm.tiny import Tiny

STEPS = 8


@pytest.fixture(scope="module")
def whole(tiny_llama: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Alignment:
    return run(tmp_path_factory.mktemp("whole"), tiny_llama.hf)


def kill_at(step: int, base: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "tests.align.killed", str(folder), str(base), str(step)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def assert_same(found: Alignment, whole: Alignment) -> None:
    assert found.curve == whole.curve
    assert found.summary == whole.summary
    mine, theirs = load_file(found.adapter / WEIGHTS), load_file(whole.adapter / WEIGHTS)
    assert mine.keys() == theirs.keys()
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


@pytest.mark.parametrize("step", [1, 6])
def test_killed_run_ends_with_the_same_bits(
    tiny_llama: Tiny, tmp_path: Path, whole: Alignment, step: int
) -> None:
    kill_at(step, tiny_llama.hf, tmp_path)
    left = last_checkpoint(tmp_path / "work")
    assert left is not None
    assert left.name == f"checkpoint-{step}"
    assert_same(run(tmp_path, tiny_llama.hf), whole)


def test_killed_before_the_first_checkpoint(
    tiny_llama: Tiny, tmp_path: Path, whole: Alignment
) -> None:
    kill_at(0, tiny_llama.hf, tmp_path)
    assert last_checkpoint(tmp_path / "work") is None
    assert (tmp_path / "work/reference-0.jsonl").read_text().count("\n") == len(whole.curve)
    assert_same(run(tmp_path, tiny_llama.hf), whole)


def test_cut_off_checkpoint_and_line_are_not_used(
    tiny_llama: Tiny, tmp_path: Path, whole: Alignment
) -> None:
    kill_at(5, tiny_llama.hf, tmp_path)
    (tmp_path / "work/checkpoint-5" / WHOLE).unlink()
    kept = tmp_path / "work/reference-0.jsonl"
    kept.write_text(kept.read_text()[:-20])
    assert_same(run(tmp_path, tiny_llama.hf), whole)


def test_other_inputs_start_anew(tiny_llama: Tiny, tmp_path: Path, whole: Alignment) -> None:
    kill_at(3, tiny_llama.hf, tmp_path)
    other = run(tmp_path, tiny_llama.hf, beta=0.2)
    assert other.curve[0]["step"] == 1
    assert [row["loss"] for row in other.curve[1:]] != [row["loss"] for row in whole.curve[1:]]
    assert_same(run(tmp_path, tiny_llama.hf), whole)


def test_curve_of_dvclive_is_whole_and_counts_optimiser_steps(
    tiny_llama: Tiny, tmp_path: Path, whole: Alignment
) -> None:
    kill_at(5, tiny_llama.hf, tmp_path)
    shutil.rmtree(tmp_path / "live")  # as DVC does with an output before it runs a stage
    run(tmp_path, tiny_llama.hf)
    lines = (tmp_path / "live/plots/metrics/margin.tsv").read_text().splitlines()
    assert [int(line.split("\t")[0]) for line in lines[1:]] == list(range(1, STEPS + 1))
    assert json.loads((tmp_path / "live/metrics.json").read_text())["step"] == STEPS


def test_order_by_length_continues_too(tiny_llama: Tiny, tmp_path: Path) -> None:
    """The second epoch has an order of its own, whoever computed the first."""
    once = run(tmp_path / "once", tiny_llama.hf, group_by_length=True, seconds=3600.0)
    run(tmp_path / "again", tiny_llama.hf, group_by_length=True)
    shutil.rmtree(tmp_path / "again/work/adapter")
    shutil.rmtree(tmp_path / f"again/work/checkpoint-{STEPS - 1}")
    left = last_checkpoint(tmp_path / "again/work")
    assert left is not None and left.name == f"checkpoint-{STEPS - 2}"
    assert_same(run(tmp_path / "again", tiny_llama.hf, group_by_length=True), once)


def test_guard_and_a_second_try(tiny_llama: Tiny, tmp_path: Path) -> None:
    """A policy that is refused is there again, trained, when the guard is off."""
    with pytest.raises(RecError, match=r"the margin grew by .* not above align.guards.margin"):
        run(tmp_path, tiny_llama.hf, guards=Guards(margin=1e6))
    left = last_checkpoint(tmp_path / "work")
    assert not (tmp_path / "work/adapter").exists()
    assert left is not None and left.name == f"checkpoint-{STEPS - 1}"
    marker = left / "seen"
    marker.touch()
    run(tmp_path, tiny_llama.hf, guards=Guards())
    assert marker.exists()


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "work"),
        pytest.raises(RecError, match="another run works here"),
        locked(tmp_path / "work"),
    ):
        raise AssertionError
    with locked(tmp_path / "work"):
        pass


def test_second_round_continues_too(tiny_llama: Tiny, tmp_path: Path, whole: Alignment) -> None:
    """From a policy that has an adapter, which is its reference."""
    once = run(tmp_path / "once", tiny_llama.hf, previous=whole.adapter)
    shutil.copytree(tmp_path / "once", tmp_path / "again")
    shutil.rmtree(tmp_path / "again/work/adapter")
    assert last_checkpoint(tmp_path / "again/work") is not None
    assert_same(run(tmp_path / "again", tiny_llama.hf, previous=whole.adapter), once)
