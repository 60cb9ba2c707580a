"""The files of a response store: names, lines with checksums, locks, errors.

    ROOT/rec-store.txt           marks the folder as a store
    ROOT/DIGEST/space.json       the description of a space, for people
    ROOT/DIGEST/TIME-ID.jsonl    a segment: the responses that one process added, a line each
    ROOT/DIGEST/runs.jsonl       a line per `find` of any process: when, how many wanted and found

A line is a checksum (16 hexadecimal digits), a blank and JSON. The marker's lock is the store's: it
is held while a store is opened, a segment is begun or the store is shown, and by a prune alone. The
lock of a segment or of runs.jsonl is held by those that have it open.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rec.errors import RecError

MARKER = "rec-store.txt"
DESCRIPTION = "space.json"
RUNS = "runs.jsonl"
SPACE = re.compile(r"[0-9a-f]{64}")
SEGMENT = re.compile(r"\d{8}T\d{12}-[0-9a-f]{16}\.jsonl")

_NOTE = b"Responses kept by rec: see `rec store show`. The folder can be deleted as a whole.\n"
_HEAD = 17  # bytes before the JSON of a line
_MARKER_PARTIAL = re.compile(rf"\.{re.escape(MARKER)}\.[0-9a-f]{{16}}\.partial")
_PARTIAL = re.compile(r"\.(?P<final>.+?)(\.[0-9a-f]{16})?\.partial")
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def make_root(root: Path) -> None:
    """Make a missing or empty folder a store; several processes may do so at once.

    Raises RecError for a folder that holds something else.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not is_store(root):
        _create_file(root / MARKER, _NOTE)


def is_store(root: Path) -> bool:
    """Whether a folder is a store; False where it is missing or empty, so can become one.

    Raises RecError for anything else. The marker is looked for last, since another process may be
    making the store: whatever else it makes, it makes after the marker.
    """
    foreign = root.is_file() or (root.is_dir() and any(map(_is_foreign, root.iterdir())))
    if (root / MARKER).is_file():
        return True
    if foreign:
        raise RecError(f"{root}: not a response store")
    return False


def _is_foreign(path: Path) -> bool:
    return not _MARKER_PARTIAL.fullmatch(path.name)


def seal(payload: bytes) -> bytes:
    """The line of a payload."""
    return b"%s%s\n" % (_head(payload), payload)


def payloads(path: Path) -> Iterator[bytes | None]:
    """The payload of each line of a file; None for a line that does not match its checksum."""
    with path.open("rb") as file:
        for line in file:
            payload = line[_HEAD:].removesuffix(b"\n")
            yield payload if line[:_HEAD] == _head(payload) else None


def _head(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=8).hexdigest().encode() + b" "


def segment_name() -> str:
    """A new name; segments are read in the order of their names, which is that of their making."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(8)}.jsonl"


def segments(folder: Path) -> list[Path]:
    """The segments of a space, in the order in which they are read."""
    return [path for path in own_files(folder) if SEGMENT.fullmatch(path.name)]


def partials(folder: Path) -> list[Path]:
    """What killed processes left under a temporary name."""
    return [path for path in own_files(folder) if path.name.endswith(".partial")]


def own_files(folder: Path) -> list[Path]:
    """The files of a space that the store wrote, by name; links and foreign files are left out."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if _is_own(e.name) and e.is_file(follow_symlinks=False)]
    return [folder / name for name in sorted(names)]


def _is_own(name: str) -> bool:
    partial = _PARTIAL.fullmatch(name)
    final = partial["final"] if partial else name
    return final in (DESCRIPTION, RUNS) or SEGMENT.fullmatch(final) is not None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name of this process alone, and rename it."""
    partial = _partial(path)
    partial.write_bytes(content)
    partial.replace(path)


def _create_file(path: Path, content: bytes) -> None:
    """Write a file as a whole unless it is there; one that is there stays, and so do its locks."""
    partial = _partial(path)
    try:
        partial.write_bytes(content)
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def open_to_append(path: Path, *, new: bool = False) -> int:
    """Open a file to append to, and take its shared lock, both until the handle is closed."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    handle = os.open(path, flags | os.O_EXCL if new else flags, 0o666)
    try:
        _lock(handle)
    except OSError:
        os.close(handle)
        raise
    return handle


def write(handle: int, line: bytes) -> None:
    """Hand all of a line to the operating system."""
    while line:
        line = line[os.write(handle, line) :]


@contextmanager
def locked(root: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Hold the lock of a store, once the others let it go: shared to read, exclusive to prune."""
    handle = os.open(root / MARKER, os.O_RDWR if exclusive else os.O_RDONLY)
    try:
        _lock(handle, exclusive=exclusive)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, *, exclusive: bool = False) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    except OSError as error:  # without locks nothing can be pruned, but all the rest works
        if exclusive or error.errno not in _NO_LOCKS:
            raise


def in_use(path: Path) -> bool:
    """Whether a process holds the lock of a file, or whether that cannot be known."""
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a RecError that names the path."""
    try:
        yield
    except OSError as error:
        where, why = error.filename or path, error.strerror or error
        raise RecError(
            f"{where}: {why}; REC_STORE can name another folder for responses"
        ) from error
