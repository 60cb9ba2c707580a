"""All checks together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rec.config import Params
from rec.doctor.examination import examine
from tests.cli.running import ROOT


def test_a_project(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    findings = {finding.check: finding for finding in examine(tmp_path)}
    assert findings["params.yaml"].found == str(tmp_path)
    assert findings["DVC"].found == "not a DVC repository"
    assert {"Python", "torch", "files: llm", "disk", "response store"} <= set(findings)
    assert Path.cwd() != tmp_path


def test_faulty_parameters(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("sampling: {temprature: 1}\n")
    findings = {finding.check: finding for finding in examine(tmp_path)}
    assert findings["params.yaml"].state == "problem"
    assert "temprature" in findings["params.yaml"].found
    assert findings["Python"].state == "ok" and "DVC" not in findings


def test_parameters_that_break_their_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Params:
        raise RuntimeError("what no one\n" + 1000 * "foresaw\n")

    monkeypatch.setattr("rec.params.load_params", broken)
    findings = {finding.check: finding for finding in examine(tmp_path)}
    assert findings["params.yaml"].state == "problem"
    assert findings["params.yaml"].found == "it cannot be read (RuntimeError: what no one)"
    assert "torch" in findings


def test_no_project() -> None:
    findings = {finding.check: finding for finding in examine(None)}
    assert findings["project"].state == "problem"
    assert "torch" in findings
