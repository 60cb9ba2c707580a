"""Checks of a project."""

from __future__ import annotations

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from dvc.repo import Repo

from rec import layout
from rec.config import LLM, Data, Encoder, File, Params, Sources
from rec.doctor import project
from rec.doctor.findings import Finding


def source(*names: str) -> Sources:
    """Files whose content is their name."""
    return Sources(
        registry=[File(name, sha256(name.encode()).hexdigest(), "https://x") for name in names]
    )


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Parameters of the current folder, in which all files have been fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REC_STORE", raising=False)
    made = Params(
        data=Data(source="registry", sources=source("a.csv", "b.csv")),
        llm=LLM(source="registry", sources=source("model.gguf")),
        encoder=Encoder(source="registry", sources=source("config.json")),
        policies=["0", "1"],
    )
    for artifact in ("data", "llm", "encoder"):
        folder = layout.DATA / "raw" / artifact
        folder.mkdir(parents=True)
        for file in getattr(made, artifact).sources.registry:
            (folder / file.name).write_text(file.name)
    return made


def files(params: Params) -> dict[str, Finding]:
    return {finding.check: finding for finding in project.files(params)}


def test_files_as_published(params: Params) -> None:
    assert [(name, finding.state) for name, finding in files(params).items()] == [
        ("files: data", "ok"),
        ("files: llm", "ok"),
        ("files: encoder", "ok"),
    ]
    assert files(params)["files: data"].found == "a.csv, b.csv: as published"


def test_a_file_that_is_another(params: Params) -> None:
    (layout.RAW_LLM / "model.gguf").write_text("cut")
    finding = files(params)["files: llm"]
    assert finding.state == "problem"
    expected = sha256(b"model.gguf").hexdigest()[:8]
    actual = sha256(b"cut").hexdigest()[:8]
    assert finding.found == (
        f"model.gguf: its sha256 begins with {actual} and must with {expected}"
    )
    assert finding.mend == "remove data/raw/llm, then `dvc repro fetch@llm`"


def test_a_file_whose_digest_is_not_known(params: Params) -> None:
    params.llm.sources.registry[0].sha256 = ""
    (layout.RAW_LLM / "model.gguf").write_text("another")
    assert files(params)["files: llm"].state == "ok"


def test_files_that_are_missing(params: Params) -> None:
    (layout.RAW_DATA / "b.csv").unlink()
    assert files(params)["files: data"].found == "b.csv is missing"
    shutil.rmtree(layout.RAW_DATA)
    finding = files(params)["files: data"]
    assert (finding.state, finding.mend) == ("warning", "`dvc repro fetch@data`")


def test_data_of_this_machine(params: Params) -> None:
    local = replace(params, data=Data(source="local", path="mine.csv"))
    assert files(local)["files: data"].state == "problem"
    Path("mine.csv").touch()
    assert files(local)["files: data"].found == "mine.csv, read where it lies"


def test_policies(params: Params) -> None:
    layout.policy("0").mkdir(parents=True)
    (finding,) = project.policies(params)
    assert (finding.state, finding.found) == ("warning", "1 of 0, 1 not there yet")
    layout.policy("1").mkdir()
    assert list(project.policies(params)) == [Finding("policies", "ok", "0, 1")]


def test_dvc(params: Params) -> None:
    (finding,) = project.dvc()
    assert (finding.state, finding.found) == ("problem", "not a DVC repository")
    Repo.init(no_scm=True).close()
    assert list(project.dvc()) == [Finding("DVC", "ok", "all stages are as they ran")]
    Path("dvc.yaml").write_text("stages:\n  a:\n    cmd: 'true'\n    outs: [x]\n")
    (finding,) = project.dvc()
    assert finding.state == "warning"
    assert finding.found == "1 stages are new or changed: a"
    Path("dvc.yaml").write_text("stages: [")
    (finding,) = project.dvc()
    assert finding.state == "warning" and "`dvc status`: " in finding.found


def test_disk(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((0.5e9, "problem"), (3e9, "warning"), (60e9, "ok")):
        usage = shutil._ntuple_diskusage(10**12, 0, int(free))
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        assert [finding.state for finding in project.disk()] == [state]


def test_the_store(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [f.found for f in project.store()] == [f"{tmp_path}/.cache/responses, empty"]
    monkeypatch.setenv("REC_STORE", str(layout.RAW_DATA))
    (finding,) = project.store()
    assert finding.state == "problem" and "not a response store" in finding.found
