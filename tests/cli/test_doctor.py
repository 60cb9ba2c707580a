"""rec doctor: what it prints, and its exit status."""

from __future__ import annotations

import json

import pytest

from rec.doctor import examination
from rec.doctor.findings import Finding
from tests.cli.running import python, rec

WELL = Finding("Python", "ok", "3.11.7")
WARNED = Finding("DVC", "warning", "2 stages are new or changed: a, b", "`dvc repro`")
ILL = Finding("torch", "problem", "it cannot be imported (\x1b[2Jx)", "run `make setup`")


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("findings", "status"), [([WELL], 0), ([WELL, WARNED], 0), ([ILL, WELL, WARNED], 1)]
)
def test_the_exit_status_tells(
    findings: list[Finding], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "examine", lambda root: findings)
    assert rec("doctor").exit_code == status
    for form in ("json", "jsonl"):
        result = rec("doctor", "--format", form)
        assert result.exit_code == status
        lines = result.stdout.splitlines()
        shown = json.loads(result.stdout) if form == "json" else list(map(json.loads, lines))
        assert [Finding(**record) for record in shown] == findings


@pytest.mark.usefixtures("example")
def test_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "examine", lambda root: [WELL, WARNED, ILL])
    assert [line.split("  ")[0] for line in rec("doctor").stdout.splitlines()] == [
        "check",
        "Python",
        "DVC",
        "torch",
        "problems: 1, warnings: 1",
    ]
    assert "\x1b" not in rec("doctor").stdout


def test_without_most_packages() -> None:
    """Only click is there: everything is said, nothing breaks off."""
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'llama_cpp', 'polars', 'omegaconf', 'rich',"
        " 'psutil', 'packaging', 'numpy', 'yaml'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from rec.cli import main\n"
        "main(['doctor', '--format', 'jsonl'], 'rec')\n"
    )
    done = python("-c", code)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    found = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
    for check in ("packages", "memory", "params.yaml"):
        assert found[check]["state"] == "problem" and found[check]["mend"]
    assert found["Python"]["state"] == "ok"
