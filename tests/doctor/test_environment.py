"""Checks of the machine, in whole and in broken environments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from rec.doctor import environment
from rec.doctor.findings import Finding, run

Break = Callable[..., None]


def found(name: str) -> list[Finding]:
    return run(name, environment.CHECKS[name])


def one(name: str) -> Finding:
    (finding,) = found(name)
    return finding


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a module in place of a library, for processes that are started."""

    def put(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


def test_this_machine() -> None:
    for name in ("Python", "packages"):
        assert one(name).state == "ok", one(name)


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (sys.version_info[0], 99))
    assert one("Python").state == "problem"
    assert one("Python").mend == f"`make clean setup PYTHON=python{sys.version_info[0]}.99`"


def test_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "mycc"
    compiler.write_text("#!/bin/sh\necho mycc 1.0\necho more\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "mycc -m64")
    monkeypatch.delenv("CXX", raising=False)
    by_name = {finding.check: finding for finding in found("tools")}
    assert by_name["C compiler"] == Finding("C compiler", "ok", "mycc 1.0")
    missing = by_name["C++ compiler"]
    assert (missing.state, missing.mend) == (
        "warning",
        "install it (Debian: apt install build-essential)",
    )
    assert {"make", "cmake", "git"} <= set(by_name)
    monkeypatch.setattr(environment, "_version", lambda package: None)
    assert {finding.state for finding in found("tools")} == {"ok", "problem"}


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["click", "nosuchpackage>=2", "polars>=99", 'pytest<1; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda package: required)
    finding = one("packages")
    assert finding.state == "problem"
    said = finding.found.split("; ")
    assert said[0] == "nosuchpackage is missing"
    assert said[1].startswith("polars is ") and said[1].endswith("must be >=99")
    assert len(said) == 2


def test_rec_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(package: str) -> list[str]:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "requires", requires)
    assert one("packages").found == "rec itself is not installed"


def test_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert found("requirements.lock") == []
    click = metadata.version("click")
    Path("requirements.lock").write_text(f"# all\nclick=={click}\ntorch=={_public('torch')}\n")
    assert one("requirements.lock").found == "all 2 packages as locked"
    Path("requirements.lock").write_text(f"click==0.0\nnosuchpackage==1\npolars=={click}x\n")
    finding = one("requirements.lock")
    assert finding.state == "warning"
    assert finding.found.startswith(f"3 of 3 differ: click {click} (locked 0.0), nosuchpackage mis")


def _public(package: str) -> str:
    return metadata.version(package).partition("+")[0]


def test_llama_cpp_and_torch_of_this_machine() -> None:
    llama, torch = one("llama.cpp"), one("torch")
    assert llama.found.startswith(metadata.version("llama-cpp-python"))
    assert torch.found.startswith(metadata.version("torch"))
    assert {llama.state, torch.state} <= {"ok", "warning"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libgomp.so.1: no such file')", "libgomp.so.1: no such file"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "(SIGILL)"),
    ],
)
def test_a_broken_llama_cpp(fake: Break, code: str, said: str) -> None:
    fake("llama_cpp", code)
    finding = one("llama.cpp")
    assert finding.state == "problem"
    assert said in finding.found
    assert "-DGGML_NATIVE=ON" in finding.mend


def test_a_build_for_a_lesser_processor(fake: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "CPU : SSE3 = 1 | AVX2 = 0 | FMA = 1 | "
    fake(
        "llama_cpp",
        f"__version__ = '9.9'\ndef llama_print_system_info(): return {said.encode()!r}\n"
        "def llama_supports_gpu_offload(): return False\n",
    )
    monkeypatch.setattr(environment, "_processor_flags", lambda: {"avx2", "fma", "sse4_1"})
    finding = one("llama.cpp")
    assert finding.state == "warning"
    assert finding.found == "9.9, CPU: SSE3 FMA; built without the processor's AVX2"
    monkeypatch.setattr(environment, "_processor_flags", lambda: {"fma"})
    assert one("llama.cpp") == Finding("llama.cpp", "ok", "9.9, CPU: SSE3 FMA")
    monkeypatch.setattr(environment, "_has_nvidia", lambda: True)
    assert "-DGGML_CUDA=ON" in one("llama.cpp").mend


def test_a_broken_torch(fake: Break) -> None:
    fake("torch", "raise ImportError('no libtorch')")
    assert one("torch").state == "problem"
    assert "no libtorch" in one("torch").found


def test_a_library_that_hangs(fake: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("torch", "import time; time.sleep(600)")
    monkeypatch.setattr(environment, "LIMIT_SECONDS", 0.5)
    assert one("torch").found == "it could not be imported within 0.5 s"


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec.machine.available_memory", lambda: int(1.5e9))
    assert one("memory").state == "warning"
    assert one("memory").found.startswith("1.5 GB free")
