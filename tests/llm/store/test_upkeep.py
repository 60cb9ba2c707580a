"""rec.llm.store.upkeep: what is shown, what is removed, and that nothing else is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rec.errors import RecError
from rec.llm.request import Response
from rec.llm.store import files, upkeep
from rec.llm.store.responses import ResponseStore, space_digest
from rec.llm.store.upkeep import prune, spaces
from tests.llm.store.storing import (
    SAMPLES,
    SPACE,
    check_whole,
    draw,
    draw_all,
    fill,
    requests,
    start_writer,
)

DAY = timedelta(days=1)


def other(number: int) -> dict[str, Any]:
    return {**SPACE, "adapter": f"{number:064x}"}


def age(folder: Path, days: float) -> None:
    """Make a space one that was used last so many days ago."""
    then = datetime.now(UTC) - days * DAY
    run = {"when": then.isoformat(), "wanted": 0, "found": 0}
    (folder / files.RUNS).write_bytes(files.seal(json.dumps(run).encode()))
    for path in files.own_files(folder):
        os.utime(path, (then.timestamp(), then.timestamp()))


def aged_spaces(root: Path) -> list[Path]:
    """Spaces of the same size that were used 0, 10, 20 and 30 days ago."""
    folders = [fill(root, requests(4), other(number)) for number in range(4)]
    for number, folder in enumerate(folders):
        age(folder, 10 * number)
    return folders


def tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files.own_files(folder))


def test_a_summary(tmp_path: Path) -> None:
    with ResponseStore(tmp_path, SPACE) as store:
        for _ in range(3):
            _, missing = store.find(requests(2))
            for response, request in list(draw_all(missing))[:4]:
                store.add(response, request.prompt)
    segment = store.folder / files.segment_name()
    segment.write_bytes(b"damaged\n" + files.segments(store.folder)[0].read_bytes())
    (found,) = spaces(tmp_path)
    assert (found.digest, found.what) == (store.digest, SPACE)
    assert (found.responses, found.damaged) == (6, 1)
    assert (found.wanted, found.found) == (18, 0 + 4 + 6)
    assert (found.tokens, found.seconds) == (6 * 5, 6 * 0.5)
    assert found.bytes == size(store.folder)
    assert timedelta(0) <= datetime.now(UTC) - found.last_used < DAY


def test_the_last_use_is_a_run_or_a_response(tmp_path: Path) -> None:
    folders = [fill(tmp_path, requests(1), other(number)) for number in range(3)]
    for number, folder in enumerate(folders):
        age(folder, 10 * (number + 1))
    with ResponseStore(tmp_path, other(1)) as store:
        store.find(requests(1))
    assert [space.digest for space in spaces(tmp_path)] == [
        folders[number].name for number in (1, 0, 2)
    ]
    age(folders[1], 5)
    fill(tmp_path, requests(2, 1), other(2))
    assert spaces(tmp_path)[0].digest == folders[2].name


def test_damaged_spaces_are_shown(tmp_path: Path) -> None:
    folder = fill(tmp_path, requests(1))
    for content in (b"\xff", b"[1]", b"{}", b"[" * 100_000):
        for path in files.own_files(folder):
            path.write_bytes(content)
        (folder / files.segment_name()).write_bytes(files.seal(b'{"key":"other version"}'))
        (found,) = spaces(tmp_path)
        assert (found.what, found.tokens, found.wanted) == ({}, 0, 0)
        assert found.damaged


def test_no_store_and_an_empty_one(tmp_path: Path) -> None:
    assert spaces(tmp_path / "none") == spaces(tmp_path) == []
    assert prune(tmp_path / "none", keep_bytes=0).removed == ()
    ResponseStore(tmp_path, SPACE).close()
    assert spaces(tmp_path)[0].responses == 0


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path, requests(1))
    (tmp_path / files.MARKER).unlink()
    before = tree(tmp_path)
    for root in (tmp_path, folder, folder / files.DESCRIPTION):
        with pytest.raises(RecError, match="not a response store"):
            prune(root, keep_bytes=0)
        with pytest.raises(RecError, match="not a response store"):
            spaces(root)
    assert tree(tmp_path) == before


def test_prune_by_age(tmp_path: Path) -> None:
    folders = aged_spaces(tmp_path)
    done = prune(tmp_path, older_than=15 * DAY)
    assert [space.digest for space in done.removed] == [folders[3].name, folders[2].name]
    assert [folder.exists() for folder in folders] == [True, True, False, False]
    assert done.compacted == ()
    assert done.freed == sum(space.bytes for space in done.removed)
    check_whole(tmp_path, requests(4), other(1))


def test_prune_by_size(tmp_path: Path) -> None:
    folders = aged_spaces(tmp_path)
    left = size(folders[0]) + size(folders[1])
    done = prune(tmp_path, keep_bytes=left)
    assert [space.digest for space in done.removed] == [folders[3].name, folders[2].name]
    assert done.left == left == size(folders[0]) + size(folders[1])
    assert prune(tmp_path, keep_bytes=left).removed == ()
    assert len(prune(tmp_path, keep_bytes=left - 1).removed) == 1
    assert len(prune(tmp_path, keep_bytes=0).removed) == 1
    assert [path.name for path in tmp_path.iterdir()] == [files.MARKER]


def full_disk(path: Path, *_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_full_disk_can_be_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = aged_spaces(tmp_path)
    fill(tmp_path, requests(8, 4), other(0))
    (folders[1] / f".{files.segment_name()}.partial").write_bytes(b"left by a kill")
    keep = size(folders[0]) + size(folders[1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        done = prune(tmp_path, keep_bytes=keep)
    assert [folder.exists() for folder in folders] == [True, True, False, False]
    assert [space.digest for space in done.compacted] == [folders[1].name]
    assert done.left == size(folders[0]) + size(folders[1])
    assert len(files.segments(folders[0])) == 2
    check_whole(tmp_path, requests(8), other(0))
    assert len(prune(tmp_path).compacted) == 1
    assert len(files.segments(folders[0])) == 1


def test_removing_by_size_comes_before_compacting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = aged_spaces(tmp_path)[:2]
    fill(tmp_path, requests(8, 4), other(1))
    age(folders[1], 10)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)  # so that an attempt would be seen
        patched.setattr(upkeep, "_FULL", set())
        done = prune(tmp_path, keep_bytes=size(folders[0]))
    assert [space.digest for space in done.removed][-1] == folders[1].name
    assert done.compacted == ()


def test_other_errors_of_compacting_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fill(tmp_path, requests(1))
    fill(tmp_path, requests(2, 1))
    with monkeypatch.context() as patched, pytest.raises(RecError, match="Input/output"):
        patched.setattr(os, "fsync", broken)
        prune(tmp_path)
    check_whole(tmp_path, requests(2))


def test_a_dry_run_changes_nothing_and_says_the_same(tmp_path: Path) -> None:
    folders = aged_spaces(tmp_path)
    fill(tmp_path, requests(8, 4), other(0))
    (folders[1] / files.segment_name()).write_bytes(b"damaged")
    (folders[1] / f".{files.segment_name()}.partial").write_bytes(b"left by a kill")
    before, total = tree(tmp_path), sum(map(size, folders))
    planned = prune(tmp_path, older_than=25 * DAY, keep_bytes=total // 2, dry_run=True)
    assert tree(tmp_path) == before
    done = prune(tmp_path, older_than=25 * DAY, keep_bytes=total // 2)
    assert planned == done
    assert len(done.removed) >= 2
    assert done.compacted
    assert done.left == sum(size(folder) for folder in folders if folder.exists())
    assert done.freed == total - done.left


def test_foreign_files_stay(tmp_path: Path) -> None:
    folder = fill(tmp_path, requests(2))
    mine = [
        tmp_path / "notes.txt",
        tmp_path / ("b" * 63) / files.segment_name(),
        folder / "notes.jsonl",
        folder / "folder" / files.segment_name(),
        folder / f".{files.segment_name()}",
        folder / ".notes.partial",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (folder / files.segment_name()).symlink_to(mine[0])
    (tmp_path / ("c" * 64)).symlink_to(mine[1].parent)
    (tmp_path / ("d" * 64)).write_text("mine")
    assert len(prune(tmp_path, keep_bytes=0).removed) == 1
    assert all(path.read_text() == "mine" for path in mine)
    assert files.own_files(folder) == []
    assert (tmp_path / ("c" * 64)).is_symlink() and (tmp_path / ("d" * 64)).exists()
    assert spaces(tmp_path) == []
    fill(tmp_path, requests(2))
    check_whole(tmp_path, requests(2))


def test_compacting_keeps_each_response_once(tmp_path: Path) -> None:
    for user in range(5):
        folder = fill(tmp_path, requests(user + 1, user))
    copy = files.segments(folder)[1].read_bytes()
    (folder / files.segment_name()).write_bytes(copy + b"damaged\n" + copy[:-20])
    (folder / files.segment_name()).touch()
    newest = max(path.stat().st_mtime_ns for path in files.segments(folder))
    done = prune(tmp_path)
    assert [space.digest for space in done.compacted] == [folder.name]
    (segment,) = files.segments(folder)
    assert segment.stat().st_mtime_ns == newest
    assert len(segment.read_bytes().splitlines()) == 5 * SAMPLES
    check_whole(tmp_path, requests(5))
    assert prune(tmp_path).compacted == ()


def test_compacting_what_is_empty_leaves_no_segment(tmp_path: Path) -> None:
    folder = fill(tmp_path, requests(0))
    for content in (b"", b"damaged"):
        (folder / files.segment_name()).write_bytes(content)
    prune(tmp_path)
    assert files.segments(folder) == []


def test_compacting_keeps_the_response_that_won(tmp_path: Path) -> None:
    (request,) = requests(1)
    with ResponseStore(tmp_path, SPACE) as first, ResponseStore(tmp_path, SPACE) as second:
        first.add(draw(request, 0), request.prompt)
        second.add(Response("k", 0, request.seeds[0], 3, (9,), 0, 1.0), request.prompt)
        second.add(draw(request, 1), request.prompt)
    prune(tmp_path)
    with ResponseStore(tmp_path, SPACE) as store:
        assert store.find([request])[0] == [draw(request, 0), draw(request, 1)]


def test_a_crash_while_compacting_leaves_duplicates_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in range(3):
        folder = fill(tmp_path, requests(user + 1, user))

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if not path.name.startswith("."):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patched, pytest.raises(RecError, match="Input/output error"):
        patched.setattr(Path, "unlink", unlink)
        prune(tmp_path)
    assert len(files.segments(folder)) == 3
    assert spaces(tmp_path)[0].responses == 3 * SAMPLES
    check_whole(tmp_path, requests(3))
    prune(tmp_path)
    assert len(files.segments(folder)) == 1
    check_whole(tmp_path, requests(3))


def test_a_live_writer_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, requests(1))
    fill(tmp_path, requests(2, 1))
    with start_writer(tmp_path, 2, 4) as writer:
        assert writer.stdin and writer.stdout
        assert writer.stdout.readline() == "open\n"
        writer.stdin.write("next\n")
        writer.stdin.flush()
        for _ in range(SAMPLES):
            writer.stdout.readline()
        fill(tmp_path, requests(5, 4))
        folder = fill(tmp_path, requests(6, 5))
        live = files.segments(folder)[2]
        done = prune(tmp_path, older_than=timedelta(0), keep_bytes=0)
        assert (done.removed, len(done.compacted)) == ((), 1)
        assert len(files.segments(folder)) == 3
        assert files.segments(folder)[1] == live
        writer.stdin.write("next\n")
        writer.stdin.close()
        assert len(writer.stdout.readlines()) == SAMPLES
    assert writer.returncode == 0
    check_whole(tmp_path, requests(6))
    prune(tmp_path)
    assert len(files.segments(folder)) == 1
    check_whole(tmp_path, requests(6))


def test_an_open_store_outlives_pruning(tmp_path: Path) -> None:
    fill(tmp_path, requests(1))
    fill(tmp_path, requests(2, 1))
    with ResponseStore(tmp_path, SPACE) as store:
        assert prune(tmp_path, keep_bytes=0).removed == ()
        found, (missing,) = store.find(requests(3))
        assert len(found) == 2 * SAMPLES
        for response, request in draw_all([missing]):
            store.add(response, request.prompt)
    check_whole(tmp_path, requests(3))


def test_pruning_needs_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    folder = fill(tmp_path, requests(1))
    monkeypatch.setattr(fcntl, "flock", flock)
    assert len(spaces(tmp_path)) == 1
    with pytest.raises(RecError, match="No locks available"):
        prune(tmp_path, keep_bytes=0)
    assert folder.name == space_digest(SPACE) and files.segments(folder)
