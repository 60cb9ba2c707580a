"""rec.download: nothing appears under its final name unless it is the expected file."""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
import zipfile
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.response import addinfourl

import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from rec import download
from rec.config import File
from rec.download import fetch_files
from rec.errors import RecError
from rec.layout import RAW_ENCODER
from stages.fetch import main

CONTENT = b"user_id:token\titem_id:token\n" * 1000


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def published(folder: Path, content: bytes = CONTENT) -> str:
    path = folder / "published"
    path.write_bytes(content)
    return path.as_uri()


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def only_error(files: list[File], folder: Path) -> str:
    with pytest.raises(RecError) as caught:
        fetch_files(files, folder)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
    return str(caught.value)


def test_url_is_fetched_whole(tmp_path: Path) -> None:
    file = File("ratings", digest(CONTENT), url=published(tmp_path))
    fetch_files([file], tmp_path / "out")
    assert (tmp_path / "out" / "ratings").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ratings"]


@pytest.mark.parametrize("found", [CONTENT[:-1], CONTENT.replace(b"u", b"v", 1), b""])
def test_truncated_or_corrupted_url_is_refused(tmp_path: Path, found: bytes) -> None:
    file = File("ratings", digest(CONTENT), url=published(tmp_path, found))
    message = only_error([file], tmp_path / "out")
    assert message.startswith("ratings: ")
    assert digest(found) in message and digest(CONTENT) in message
    assert "run again" in message


def test_unknown_digest_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_files([File("ratings", "", url=published(tmp_path))], tmp_path / "out")
    assert f"ratings: no sha256 is set for it; found {digest(CONTENT)}" in capsys.readouterr().err


def test_missing_url_is_one_line(tmp_path: Path) -> None:
    file = File("ratings", "", url=(tmp_path / "absent").as_uri())
    assert "could not be fetched" in only_error([file], tmp_path / "out")


@pytest.mark.parametrize("url", ["http://example.org/ratings", "ftp://example.org/ratings"])
def test_only_https_is_fetched(tmp_path: Path, url: str) -> None:
    assert "must be an https address" in only_error([File("ratings", "", url)], tmp_path / "out")


def test_redirect_cannot_leave_https() -> None:
    assert not {"http", "ftp"} & set(download._opener().handle_open)  # type: ignore[attr-defined]


def test_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    file = File("../ratings", "", url=published(tmp_path))
    assert "may not hold a folder" in only_error([file], tmp_path / "out")
    assert not (tmp_path / "ratings").exists()


class FlakyOpener:
    """Raises each of `faults` in turn, then answers with `body`."""

    def __init__(self, faults: list[Exception], body: bytes = CONTENT, length: int = 0) -> None:
        self.faults, self.body, self.length = faults, body, length or len(body)
        self.calls = 0

    def open(self, url: str, timeout: float) -> addinfourl:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        headers = Message()
        headers["Content-Length"] = str(self.length)
        return addinfourl(BytesIO(self.body), headers, url)


def install(monkeypatch: pytest.MonkeyPatch, opener: FlakyOpener) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(download, "_opener", lambda: opener)
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def http_error(code: int) -> HTTPError:
    return HTTPError("https://example.org", code, "said so", Message(), None)


def test_transient_faults_are_retried_with_longer_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[Exception] = [TimeoutError(), http_error(503), URLError(ConnectionResetError())]
    waits = install(monkeypatch, FlakyOpener(faults))
    file = File("ratings", digest(CONTENT), url="https://example.org/ratings")
    fetch_files([file], tmp_path / "out")
    assert (tmp_path / "out" / "ratings").read_bytes() == CONTENT
    assert waits == [2, 4, 8]


@pytest.mark.parametrize("fault", [http_error(404), URLError(FileNotFoundError("absent"))])
def test_lasting_faults_are_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    opener = FlakyOpener([fault])
    install(monkeypatch, opener)
    only_error([File("ratings", "", url="https://example.org/ratings")], tmp_path / "out")
    assert opener.calls == 1


def test_retries_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = FlakyOpener([TimeoutError("timed out") for _ in range(100)])
    install(monkeypatch, opener)
    file = File("ratings", "", url="https://example.org/ratings")
    assert "timed out" in only_error([file], tmp_path / "out")
    assert opener.calls == download.ATTEMPTS


def test_cut_connection_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FlakyOpener([], CONTENT[:10], length=len(CONTENT)))
    file = File("ratings", "", url="https://example.org/ratings")
    message = only_error([file], tmp_path / "out")
    assert f"ended after 10 of {len(CONTENT)} bytes" in message


def test_pieces_are_joined_in_order_and_a_package_is_downloaded_once(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(registry, "parts", {"parts/a.bin": b"one", "parts/b.bin": b"two"})
    run, commands = subprocess.run, []

    def counted(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    pieces = ["parts==1.0:parts/b.bin", "parts==1.0:parts/a.bin"]
    files = [
        File("joined", digest(b"twoone"), pieces=pieces),
        File("single", digest(b"one"), pieces=pieces[1:]),
    ]
    fetch_files(files, tmp_path / "out")
    assert (tmp_path / "out" / "joined").read_bytes() == b"twoone"
    assert (tmp_path / "out" / "single").read_bytes() == b"one"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["joined", "single"]
    assert len(commands) == 1


def test_missing_member_is_named(registry: Path, tmp_path: Path) -> None:
    write_wheel(registry, "parts", {"parts/a.bin": b"one"})
    file = File("joined", "", pieces=["parts==1.0:parts/absent.bin"])
    message = only_error([file], tmp_path / "out")
    assert "parts-1.0-py3-none-any.whl" in message and "parts/absent.bin" in message


def test_corrupted_member_is_refused(registry: Path, tmp_path: Path) -> None:
    wheel = write_wheel(registry, "parts", {"parts/a.bin": b"recognisable"})
    wheel.write_bytes(wheel.read_bytes().replace(b"recognisable", b"recognizable"))
    file = File("joined", "", pieces=["parts==1.0:parts/a.bin"])
    assert "not a whole zip archive" in only_error([file], tmp_path / "out")


def zipped(members: dict[str, bytes]) -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in members.items():
            target.writestr(name, content)
    return archive.getvalue()


def packed(registry: Path, members: dict[str, bytes]) -> list[str]:
    """A zip archive of `members` in two pieces, each in a package."""
    whole = zipped(members)
    half = len(whole) // 2
    write_wheel(registry, "first", {"a.zip.001": whole[:half]})
    write_wheel(registry, "second", {"a.zip.002": whole[half:]})
    return ["first==1.0:a.zip.001", "second==1.0:a.zip.002"]


def test_member_of_an_archive_in_pieces(registry: Path, tmp_path: Path) -> None:
    pieces = packed(registry, {"model/config.json": b"{}", "model/weights": CONTENT})
    files = [
        File("config.json", digest(b"{}"), pieces=pieces, member="model/config.json"),
        File("weights", digest(CONTENT), pieces=pieces, member="model/weights"),
    ]
    fetch_files(files, tmp_path / "out")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {"config.json": b"{}", "weights": CONTENT}


def test_faults_of_an_archive_in_pieces_are_told(registry: Path, tmp_path: Path) -> None:
    pieces = packed(registry, {"model/config.json": b"{}"})
    absent = File("weights", "", pieces=pieces, member="model/weights")
    message = only_error([absent], tmp_path / "out")
    assert message == "weights: the archive of its pieces holds no 'model/weights'"
    cut = File("config.json", "", pieces=pieces[:1], member="model/config.json")
    assert "the archive of its pieces is not a whole zip" in only_error([cut], tmp_path / "out")
    other = File("config.json", "0" * 64, pieces=pieces, member="model/config.json")
    assert "sha256" in only_error([other], tmp_path / "out")


@pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 97)], ids=["encrypted", "method 97"])
def test_archive_that_cannot_be_unpacked_is_one_line(
    registry: Path, tmp_path: Path, place: int, value: int
) -> None:
    """Flags and method of the local header and of the directory's entry, two bytes further on."""
    whole = bytearray(zipped({"model/weights": CONTENT}))
    whole[place] = value
    whole[whole.index(b"PK\x01\x02") + place + 2] = value
    write_wheel(registry, "whole", {"a.zip": bytes(whole)})
    file = File("weights", "", pieces=["whole==1.0:a.zip"], member="model/weights")
    assert "weights: the archive of its pieces cannot be unpacked" in only_error(
        [file], tmp_path / "out"
    )


def test_absent_package_is_named(registry: Path, tmp_path: Path) -> None:
    file = File("joined", "", pieces=["parts==1.0:parts/a.bin"])
    message = only_error([file], tmp_path / "out")
    assert re.match(r"parts==1\.0: pip could not download it \(.+\)", message)


@pytest.mark.parametrize("piece", ["--help==1.0:a", "parts:a", "parts==1.0", "a b==1.0:a"])
def test_piece_must_be_a_package_and_a_path(tmp_path: Path, piece: str) -> None:
    assert "name==version:path" in only_error([File("f", "", pieces=[piece])], tmp_path / "out")


def test_stage_writes_the_whole_folder_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = published(tmp_path)
    params = OmegaConf.load(Path(__file__).parents[1] / "params.yaml")
    good = {"name": "good", "sha256": digest(CONTENT), "url": address}
    params.encoder = {**params.encoder, "source": "public", "sources": {"public": [good]}}
    monkeypatch.chdir(tmp_path)
    OmegaConf.save(params, "params.yaml")
    assert CliRunner().invoke(main, ["encoder"]).exit_code == 0
    assert [path.name for path in RAW_ENCODER.iterdir()] == ["good"]
    bad = {"name": "bad", "sha256": digest(b""), "url": address}
    params.encoder.sources.public = [{**good, "name": "better"}, bad]
    OmegaConf.save(params, "params.yaml")
    result = CliRunner().invoke(main, ["encoder"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: bad: sha256 is ")
    assert [path.name for path in RAW_ENCODER.parent.iterdir()] == ["encoder"]
    assert [path.name for path in RAW_ENCODER.iterdir()] == ["good"]
