"""rec.align.launch: two processes under `accelerate launch` train what one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from rec.align import launch
from rec.align.policy import WEIGHTS
from rec.align.training import Alignment
from rec.config import Machine
from rec.errors import RecError
from tests.align.rounds import run
from tests.llm.tiny import Tiny


def machine(processes: int | None, threads: int | None = None, config: str = "") -> Machine:
    return Machine(processes=processes, threads=threads, accelerate=config)


def launched(module: str, base: Path, folder: Path, config: str = "") -> tuple[Any, Any]:
    """Curve and summary of the round in two processes."""
    folder.mkdir()
    command = ["-m", module, str(folder), str(base), json.dumps({"dropout": 0.0})]
    launch.relaunch(command, machine(2, config=config))
    curve, summary = json.loads((folder / "found.json").read_text())
    return curve, summary


def test_two_processes_equal_one(
    tiny_llama: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Up to rounding: gradients are added in another order."""
    single = run(tmp_path / "one", tiny_llama.hf, dropout=0.0)
    curve, summary = launched("tests.align.rounds", tiny_llama.hf, tmp_path / "two")
    for rank in (0, 1):  # each scored its share of the reference
        kept = tmp_path / f"two/work/reference-{rank}.jsonl"
        assert kept.read_text().count("\n") == 4
    assert_close(curve, summary, tmp_path / "two/work/adapter", single)


def test_shares_of_the_weights_equal_whole_ones(
    tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """FSDP2, with one held-out pair for two processes, with and without tied embeddings."""
    single = run(tmp_path / "one", tiny.hf, dropout=0.0)
    config = "conf/accelerate/fsdp.yaml"
    curve, summary = launched("tests.align.sharded", tiny.hf, tmp_path / "two", config)
    assert_close(curve, summary, tmp_path / "two/work/adapter", single)


def assert_close(curve: Any, summary: Any, adapter: Path, single: Alignment) -> None:
    assert len(curve) == len(single.curve)
    for row, other in zip(curve, single.curve, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert summary["heldout"]["pairs"] == 1
    mine, theirs = load_file(adapter / WEIGHTS), load_file(single.adapter / WEIGHTS)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        assert np.abs(mine[name] - value).max() <= 1e-3 * np.abs(value).max() + 1e-5, name


def test_accumulation_that_does_not_divide(
    tiny_llama: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = json.dumps({"gradient_accumulation": 3})
    command = ["-m", "tests.align.rounds", str(tmp_path), str(tiny_llama.hf), changes]
    with pytest.raises(RecError, match="one of 2 processes failed"):
        launch.relaunch(command, machine(2))
    assert "align.gradient_accumulation: 3 batches of a step do not divide over 2" in (
        capfd.readouterr().err
    )


def test_configuration_that_is_not_there() -> None:
    with pytest.raises(RecError, match=r"machine\.accelerate: no\.yaml: no such file"):
        launch.relaunch(["-c", "pass"], machine(2, config="no.yaml"))


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(RecError, match=r"machine\.processes: 3 are more than the 2 GPUs"):
        launch.relaunch(["-c", "pass"], machine(3))


def test_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.process_count(machine(3)) == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert launch.process_count(machine(None)) == 4
    assert launch.is_needed(machine(None))
    assert launch.is_needed(machine(1))  # TRL refuses to see more GPUs than it uses
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert launch.process_count(machine(None)) == 1
    assert launch.is_needed(machine(2))
    assert not launch.is_needed(machine(None))


def test_one_process_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    show = ["-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    launch.relaunch(show, machine(1))
    assert capfd.readouterr().out == "0\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    launch.relaunch(show, machine(1))
    assert capfd.readouterr().out == "3\n"


def test_processes_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.threads(machine(None, threads=8)) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert launch.threads(machine(None, threads=8)) == 2
    assert launch.threads(machine(None, threads=2)) == 1


def test_only_the_first_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.is_first()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not launch.is_first()
    assert not launch.is_needed(machine(2))
