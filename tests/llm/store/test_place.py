"""Where a response store lies, how a folder becomes one, and that a bench's clone has its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from bench import clone
from rec.errors import RecError
from rec.llm.store import files
from rec.llm.store.responses import ResponseStore, store_root
from tests.llm.store.storing import SPACE, check_whole, fill, requests

HALF = f".{files.MARKER}.{'0' * 16}.partial"


def test_the_folder_is_below_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REC_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert store_root(Path(".cache/responses")) == tmp_path / ".cache/responses"
    assert store_root(tmp_path / "x") == tmp_path / "x"


@pytest.mark.parametrize("copy", ["tmp1", "standalone/tmp2/deeper", "tmp3/.dvc/tmp/exps/tmp4", ""])
def test_experiments_share_the_folder_of_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str
) -> None:
    monkeypatch.delenv("REC_STORE", raising=False)
    folder = tmp_path / ".dvc/tmp/exps" / copy
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert store_root(Path(".cache/responses")) == tmp_path / ".cache/responses"


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REC_STORE", "there")
    assert store_root(Path("default")) == tmp_path / "there"
    monkeypatch.setenv("REC_STORE", "")
    assert store_root(Path("default")) == tmp_path / "default"


@pytest.mark.parametrize("folder", ["docs", "docs/deep", ".dvc/tmp/exps/tmp1/docs", ""])
def test_a_subfolder_has_the_store_of_its_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.delenv("REC_STORE", raising=False)
    for root in (tmp_path / "clone", tmp_path / "clone/.dvc/tmp/exps/tmp1"):
        (root / ".dvc").mkdir(parents=True, exist_ok=True)
    here = tmp_path / "clone" / folder
    here.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here)
    assert store_root() == tmp_path / "clone/.cache/responses"


def test_a_relative_folder_in_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".dvc/tmp/exps/tmp1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REC_STORE", "there")
    assert store_root() == tmp_path / "there"
    monkeypatch.setenv("REC_STORE", str(tmp_path / "x"))
    assert store_root() == tmp_path / "x"


def test_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REC_STORE", "~nosuchuser/x")
    with pytest.raises(RecError, match="REC_STORE"):
        store_root()


# How a folder becomes a store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_something_else_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(RecError, match="not a response store"):
        ResponseStore(tmp_path, SPACE)
    assert names(tmp_path) == ["mine"]


def test_the_marker_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:9])
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched, pytest.raises(RecError, match="No space left"):
        patched.setattr(Path, "write_bytes", half)
        ResponseStore(tmp_path, SPACE)
    assert names(tmp_path) == []


def test_what_a_kill_left_of_the_marker_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / HALF).touch()
    fill(tmp_path, requests(2))
    check_whole(tmp_path, requests(2))


@pytest.mark.parametrize(("owner", "function"), [(Path, "iterdir"), (os, "link")])
def test_another_process_makes_the_store_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, function: str
) -> None:
    real: Callable[..., object] = getattr(owner, function)
    markers = []

    def late(*arguments: Path) -> object:
        monkeypatch.setattr(owner, function, real)
        fill(tmp_path, requests(1))
        markers.append((tmp_path / files.MARKER).stat().st_ino)
        return real(*arguments)

    monkeypatch.setattr(owner, function, late)
    fill(tmp_path, requests(2, 1))
    assert markers == [(tmp_path / files.MARKER).stat().st_ino]  # a lock on it still counts
    check_whole(tmp_path, requests(2))


def test_many_make_a_store_at_once(tmp_path: Path) -> None:
    barrier = Barrier(8)

    def make(root: Path) -> None:
        barrier.wait()
        ResponseStore(root, SPACE).close()

    with ThreadPoolExecutor(8) as pool:
        for number in range(30):
            list(pool.map(make, [tmp_path / str(number)] * 8))
            assert len(names(tmp_path / str(number))) == 2


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    fill(tmp_path, requests(1))
    check_whole(tmp_path, requests(1))


# Benches


def test_a_bench_does_not_inherit_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REC_STORE", str(tmp_path))
    script = "import os; open('seen', 'w').write(os.environ.get('REC_STORE', 'nothing'))"
    clone.run(sys.executable, "-c", script, cwd=tmp_path)
    assert (tmp_path / "seen").read_text() == "nothing"
