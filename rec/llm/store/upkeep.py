"""What a response store holds, and making it smaller: `rec store show` and `rec store prune`."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from rec.files import atomic_path
from rec.llm.store import files
from rec.llm.store.responses import payload_key, read_description

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class SpaceSummary:
    """What is known of a space."""

    digest: str
    what: Mapping[str, Any]  # its description; empty where space.json is damaged
    responses: int
    bytes: int  # of all its files
    wanted: int  # samples that runs asked for
    found: int  # of these, those that were there
    last_used: datetime  # when a run looked into it or added to it, in UTC
    damaged: int  # lines that do not match their checksum
    tokens: int  # of all responses
    seconds: float  # of all responses, each with the others that were drawn beside it


@dataclass(frozen=True)
class Pruned:
    """What `prune` did, or would do: each space as it was before."""

    removed: tuple[SpaceSummary, ...]
    compacted: tuple[SpaceSummary, ...]
    freed: int  # bytes
    left: int  # bytes


def spaces(root: Path) -> list[SpaceSummary]:
    """The spaces of a store, the one that was used last first; none where there is no folder.

    Raises RecError where the folder is not a response store or cannot be read.
    """
    with files.storage(root):
        if not files.is_store(root):
            return []
        with files.locked(root):
            return _summaries(root)


def prune(
    root: Path,
    *,
    older_than: timedelta | None = None,
    keep_bytes: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove the spaces that were used least recently, then compact the others.

    Removed are those whose last use is more than `older_than` ago, then as many as it takes for
    the rest to have at most `keep_bytes` as they are. What a full disk has no room to compact stays
    as it is. A space that a process has open is never removed, and a segment that a process may
    still write stays as it is. With `dry_run` nothing is changed.
    Raises RecError where the folder is not a response store or cannot be changed.
    """
    with files.storage(root):
        if not files.is_store(root):
            return Pruned((), (), 0, 0)
        with files.locked(root, exclusive=True):
            return _prune(root, older_than, keep_bytes, dry_run)


def _prune(
    root: Path, older_than: timedelta | None, keep_bytes: int | None, dry_run: bool
) -> Pruned:
    found = _summaries(root)[::-1]  # so the old ones come first
    now = datetime.now(UTC)
    total = left = sum(space.bytes for space in found)
    removed, kept = list[SpaceSummary](), list[SpaceSummary]()
    for space in found:
        old = older_than is not None and now - space.last_used > older_than
        beyond = keep_bytes is not None and left > keep_bytes
        if (old or beyond) and _remove(root / space.digest, dry_run):
            removed.append(space)
            left -= space.bytes
        else:
            kept.append(space)
    compacted = []
    for space in kept:
        saved = _merge(root / space.digest, dry_run)
        if saved is not None:
            compacted.append(space)
            left -= saved
    return Pruned(tuple(removed), tuple(compacted), total - left, left)


def _remove(folder: Path, dry_run: bool) -> bool:
    """Remove a space but for foreign files; False where a process has it open."""
    if files.in_use(folder / files.RUNS):
        return False
    if not dry_run:
        for path in files.own_files(folder):
            path.unlink()
        with suppress(OSError):  # it holds something foreign
            folder.rmdir()
    return True


def _merge(folder: Path, dry_run: bool) -> int | None:
    """Merge neighbouring segments; the bytes that it saves, or None where nothing is to do.

    Only neighbours, so that of two responses with the same key the one that won still wins.
    """
    saved = [_size(path) for path in files.partials(folder)]
    if not dry_run:
        for path in files.partials(folder):
            path.unlink()
    for busy, group in groupby(files.segments(folder), key=files.in_use):
        if busy:
            continue
        run = list(group)
        before = sum(map(_size, run))
        after = sum(len(files.seal(payload)) for payload in _distinct(run))
        if len(run) == 1 and before == after > 0:
            continue
        if dry_run or _rewrite(run, empty=not after):
            saved.append(before - after)
    return sum(saved) if saved else None


def _rewrite(run: Sequence[Path], *, empty: bool) -> bool:
    """Put all into the first segment, then remove the others; False where the disk is full.

    A crash leaves duplicates at most.
    """
    if not empty:
        try:
            _write_merged(run)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
    for path in run if empty else run[1:]:
        path.unlink()
    return True


def _write_merged(run: Sequence[Path]) -> None:
    newest = max(path.stat().st_mtime_ns for path in run)
    with atomic_path(run[0]) as partial:
        with partial.open("wb") as file:
            file.writelines(map(files.seal, _distinct(run)))
            file.flush()
            os.fsync(file.fileno())
        os.utime(partial, ns=(newest, newest))


def _distinct(segments: Iterable[Path]) -> Iterator[bytes]:
    """The undamaged responses of segments, the first one of each key."""
    seen = set[bytes]()
    for path in segments:
        for payload in files.payloads(path):
            if payload is not None and payload_key(payload) not in seen:
                seen.add(payload_key(payload))
                yield payload


def _size(path: Path) -> int:
    return path.stat().st_size


def _summaries(root: Path) -> list[SpaceSummary]:
    with os.scandir(root) as entries:
        names = [e.name for e in entries if files.SPACE.fullmatch(e.name)]
    folders = [root / name for name in names if not (root / name).is_symlink()]
    found = [_summary(folder) for folder in folders if folder.is_dir() and files.own_files(folder)]
    return sorted(found, key=lambda space: (space.last_used, space.digest), reverse=True)


def _summary(folder: Path) -> SpaceSummary:
    segments = files.segments(folder)
    figures = [_figures(payload) for payload in _distinct(segments)]
    runs = list(_runs(folder / files.RUNS))
    touched = max(path.stat().st_mtime for path in segments or files.own_files(folder))
    moments = [datetime.fromtimestamp(touched, UTC), *(when for when, _, _ in runs)]
    return SpaceSummary(
        digest=folder.name,
        what=read_description(folder),
        responses=len(figures),
        bytes=sum(map(_size, files.own_files(folder))),
        wanted=sum(wanted for _, wanted, _ in runs),
        found=sum(found for _, _, found in runs),
        last_used=max(moments),
        damaged=sum(payload is None for path in segments for payload in files.payloads(path)),
        tokens=sum(tokens for tokens, _ in figures),
        seconds=sum(seconds for _, seconds in figures),
    )


def _figures(payload: bytes) -> tuple[int, float]:
    try:
        entry = json.loads(payload)
        return len(entry["token_ids"]), float(entry["seconds"])
    except (KeyError, TypeError, ValueError):  # of another version of rec
        return 0, 0.0


def _runs(path: Path) -> Iterator[tuple[datetime, int, int]]:
    for payload in files.payloads(path) if path.is_file() else ():
        if payload is not None:
            with suppress(KeyError, TypeError, ValueError):
                run = json.loads(payload)
                when = datetime.fromisoformat(run["when"]).astimezone(UTC)
                yield when, int(run["wanted"]), int(run["found"])
