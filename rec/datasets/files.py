"""The published files of a data set: in a folder, in archives, or a single one."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from rec.errors import RecError
from rec.files import atomic_path

#: Reasons why a row of a file is none.
UNPARSEABLE = "unparseable"
WRONG_ENCODING = "wrong encoding"
CHUNK_BYTES = 1 << 22  # read at once
#: What reading a damaged, encrypted or strangely packed archive raises.
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OSError),
)


@dataclass(frozen=True)
class Found:
    """One published file: a file on disk, or a member of an archive there."""

    name: str  # for messages and the column `file`: below the path given, "a.zip:folder/member"
    source: Path  # the file, or the archive that holds it
    member: str = ""
    work: Path = Path()  # where a member is unpacked
    rivals: tuple[str, ...] = ()  # names of further files with the same bare name

    @cached_property
    def path(self) -> Path:
        """The file on disk; a member of an archive is unpacked when this is first asked for."""
        if not self.member:
            return self.source
        path = work_path(self.work, self.name)
        if not path.exists():
            try:
                with (
                    zipfile.ZipFile(self.source) as archive,
                    archive.open(self.member) as packed,
                    atomic_path(path) as temporary,
                    temporary.open("wb") as unpacked,
                ):
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
            except (KeyError, *UNREADABLE) as error:
                raise unreadable(self.name, error) from error
        return path


def find(path: Path, work: Path) -> dict[str, Found]:
    """The files at `path` by their bare name: of a folder and its subfolders, or of a zip.

    A file wins over a member of the same name, as that of an archive unpacked beside it. Hidden
    files are passed over.
    """
    plain, packed = _every(path, work)
    return _by_name(packed) | _by_name(plain)


def matching(path: Path, work: Path, pattern: str) -> list[Found]:
    """The files at `path` whose bare name, or whose name below `path`, is of a pattern; sorted."""
    plain, packed = _every(path, work)
    found = {
        file.name: file
        for bare, file in (*packed, *plain)
        if not bare.startswith(".")
        and (fnmatch.fnmatch(bare, pattern) or fnmatch.fnmatch(file.name, pattern))
    }
    return [found[name] for name in sorted(found)]


def _every(path: Path, work: Path) -> tuple[list[tuple[str, Found]], list[tuple[str, Found]]]:
    """All files at `path` with their bare names: those that lie there, and those in archives."""
    if not path.exists():
        raise RecError(f"{path}: no such file or folder")
    paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    base = path if path.is_dir() else path.parent
    archives = [p for p in paths if p.suffix.lower() == ".zip" and not p.name.startswith(".")]
    plain = [(p.name, Found(one_line(str(p.relative_to(base))), p)) for p in paths]
    packed = [pair for archive in archives for pair in _members(archive, base, work)]
    return [pair for pair in plain if pair[1].source not in archives], packed


def required(found: Mapping[str, Found], name: str, path: Path) -> Found:
    """The file called `name`. Raises RecError where it is missing or there are several."""
    if name not in found:
        names = sorted(found)
        shown = ", ".join(map(one_line, names[:20])) + (", ..." if len(names) > 20 else "")
        raise RecError(f"{path}: the file {name} is missing; found {shown or 'no file'}")
    if found[name].rivals:
        several = ", ".join((found[name].name, *found[name].rivals))
        raise RecError(f"{path}: more than one file {name}: {several}")
    return found[name]


def work_path(work: Path, name: str, kind: str = "") -> Path:
    """A path in the work folder for what is made of the file `name`."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    bare = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(name).name)[-80:]
    return work / f"{digest}-{bare}{kind}"


def open_unpacked(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked if it is gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


def unreadable(name: str, error: BaseException) -> RecError:
    """The error for a file that cannot be read."""
    return RecError(f"{name}: cannot be read ({one_line(str(error)) or type(error).__name__})")


def one_line(text: str) -> str:
    """`text` in one line that can be printed, whatever bytes a file name is made of."""
    printable = text.encode("utf-8", "replace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", printable).strip()


def _members(archive: Path, base: Path, work: Path) -> Iterator[tuple[str, Found]]:
    name = one_line(str(archive.relative_to(base)))
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if not member.endswith("/")]
    except UNREADABLE as error:
        raise RecError(
            f"{name}: not a whole zip archive ({one_line(str(error))}); fetch it again"
        ) from error
    for member in members:
        bare = PurePosixPath(member).name
        yield bare, Found(f"{name}:{one_line(member)}", archive, member, work)


def _by_name(pairs: Iterable[tuple[str, Found]]) -> dict[str, Found]:
    """The first of each bare name, with the names of its rivals."""
    found: dict[str, list[Found]] = {}
    for bare, file in pairs:
        if not bare.startswith("."):
            found.setdefault(bare, []).append(file)
    return {
        bare: Found(first.name, first.source, first.member, first.work, tuple(f.name for f in rest))
        for bare, (first, *rest) in found.items()
    }
