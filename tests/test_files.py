"""rec.files: a file under its final name is whole."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rec.errors import RecError
from rec.files import atomic_path, read_json, sha256, write_json

ROOT = Path(__file__).parents[1]

KILLED = """
import os, signal, sys
from pathlib import Path
from rec.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    if sys.argv[2] == "folder":
        temporary.mkdir()
        temporary = temporary / "part"
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_folder_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "target"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
            temporary = temporary / "part"
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_writer_leaves_no_final_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "target"
    done = subprocess.run([sys.executable, "-c", KILLED, path, kind], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".target.")


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "target"):
        pass


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a" / "value.json"
    value = {"b": [1, 2.5, None], "a": "\u00e9"}
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_text().startswith('{\n  "b"')


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(RecError, match=r"value\.json: not valid JSON"):
        read_json(path)


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(RecError, match=r"value\.json: no such file; run the stage"):
        read_json(tmp_path / "value.json")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"rec" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"rec" * 100_000).hexdigest()
