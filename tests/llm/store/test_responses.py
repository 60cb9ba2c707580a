"""rec.llm.store: nothing is drawn twice, nothing wrong is found, nothing added is lost."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.errors import RecError
from rec.llm.request import Request, Response
from rec.llm.store import files
from rec.llm.store.responses import ResponseStore, response_keys, space_digest
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

USERS = 4
TOTAL = USERS * SAMPLES


def test_what_was_added_is_found_with_the_key_of_the_request(tmp_path: Path) -> None:
    first, second = requests(2)
    fill(tmp_path, [first])
    same = Request("another user", first.prompt, first.seeds)
    with ResponseStore(tmp_path, SPACE) as store:
        found, missing = store.find([same, second])
        assert [(response.key, response.sample) for response in found] == [
            ("another user", sample) for sample in range(SAMPLES)
        ]
        assert missing == [second]
        store.add(draw(second, 1), second.prompt)
        found, missing = store.find([second])
    assert found == [draw(second, 1)]
    assert missing == [Request(second.key, second.prompt, {s: second.seeds[s] for s in (0, 2)})]


def test_spaces_are_apart(tmp_path: Path) -> None:
    fill(tmp_path, requests(USERS))
    with ResponseStore(tmp_path, {**SPACE, "adapter": "b" * 64}) as store:
        assert store.find(requests(USERS)) == ([], requests(USERS))


def test_the_first_response_of_a_key_stays(tmp_path: Path) -> None:
    (request,) = requests(1)
    other = Response("k", 0, request.seeds[0], 3, (9, 9), 0, 1.0)
    fill(tmp_path, [request])
    with ResponseStore(tmp_path, SPACE) as store:
        store.add(other, request.prompt)
    check_whole(tmp_path, [request])


def test_a_folder_says_what_it_holds(tmp_path: Path) -> None:
    folder = fill(tmp_path, requests(1))
    assert folder == tmp_path / space_digest(SPACE)
    assert json.loads((folder / "space.json").read_text()) == SPACE
    (segment,) = files.segments(folder)
    checksum, payload = segment.read_bytes().splitlines()[0].split(b" ", 1)
    assert checksum.decode() == hashlib.blake2b(payload, digest_size=8).hexdigest()
    assert json.loads(payload)["token_ids"] == list(draw(requests(1)[0], 0).token_ids)


def test_each_search_is_counted(tmp_path: Path) -> None:
    with ResponseStore(tmp_path, SPACE) as store:
        store.find(requests(USERS))
        store.add(draw(requests(USERS)[0], 0), requests(USERS)[0].prompt)
        store.find(requests(USERS))
        runs = [json.loads(line or b"") for line in files.payloads(store.folder / "runs.jsonl")]
    assert [(run["wanted"], run["found"]) for run in runs] == [(TOTAL, 0), (TOTAL, 1)]


def test_a_closed_store_is_refused(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path, SPACE)
    store.close()
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.find([])
    with pytest.raises(RuntimeError, match="closed"):
        store.add(draw(requests(USERS)[0], 0), (1,))


# Keys

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
spaces = st.dictionaries(st.text(), json_values, max_size=4)
small = st.integers(0, 3)
parts = st.tuples(st.lists(small, max_size=4), small, small)


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: backwards(value[name]) for name in reversed(value)}
    return [backwards(inner) for inner in value] if isinstance(value, list) else value


@given(spaces, spaces)
def test_a_space_is_its_content_whatever_the_order(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert space_digest(one) == space_digest(backwards(one))
    assert space_digest(one) == space_digest(json.loads(json.dumps(one)))
    assert (space_digest(one) == space_digest(two)) == (
        json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    )


@given(parts, parts, st.sampled_from("ab"), st.sampled_from("ab"))
def test_keys_differ_where_anything_differs(
    one: tuple[list[int], int, int], two: tuple[list[int], int, int], space: str, other: str
) -> None:
    def key(space: str, prompt: list[int], seed: int, sample: int) -> bytes:
        return response_keys(space * 64, prompt, {sample: seed})[sample]

    assert (key(space, *one) == key(other, *two)) == ((space, one) == (other, two))


def test_a_key_is_the_digest_of_canonical_json() -> None:
    expected = hashlib.sha256(f'["{"0" * 64}",[1,2,3],7,5]'.encode()).hexdigest().encode()
    assert response_keys("0" * 64, (1, 2, 3), {4: 9, 5: 7})[5] == expected


# Any part of the work, in any order, any number of times


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, TOTAL - 1), max_size=TOTAL), max_size=5), st.randoms())
def test_any_order_gives_the_same_and_draws_nothing_twice(
    work: list[list[int]], shuffled: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for asked in [
            *work,
            list(range(TOTAL)),
        ]:  # each in a run of its own, which may be cut short
            with ResponseStore(Path(folder), SPACE) as store:
                _, missing = store.find(requests(USERS))
                todo = list(draw_all(missing))
                shuffled.shuffle(todo)
                for response, request in todo:
                    if int(request.key[1:]) * SAMPLES + response.sample in asked:
                        drawn.append((request.prompt, response.sample))
                        store.add(response, request.prompt)
        assert len(drawn) == len(set(drawn)) == TOTAL
        check_whole(Path(folder), requests(USERS))


# Damage

damages = st.tuples(
    st.sampled_from(["flip", "delete", "insert", "truncate"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)


def damage(content: bytes, kind: str, place: int, byte: int) -> bytes:
    before, at, after = content[:place], content[place : place + 1], content[place + 1 :]
    return {
        "flip": before + bytes([at[0] ^ byte]) + after,
        "delete": before + after,
        "insert": before + bytes([byte]) + at + after,
        "truncate": before,
    }[kind]


@settings(max_examples=200)
@given(st.integers(0, 4), damages)
def test_damage_is_found_and_drawn_again(number: int, how: tuple[str, float, int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for user in range(3):
            folder = fill(root, requests(user + 1, user))
        check_whole(root, requests(3))
        path = files.own_files(folder)[number]
        content = path.read_bytes()
        kind, share, byte = how
        path.write_bytes(damage(content, kind, int(share * len(content)), byte))
        right = {(r.key, r.sample): r for r, _ in draw_all(requests(3))}
        with ResponseStore(root, SPACE) as store:
            found, missing = store.find(requests(3))
            assert all(response == right[response.key, response.sample] for response in found)
            lost = sum(len(request.seeds) for request in missing)
            assert lost <= (SAMPLES if kind == "truncate" else 2)
            assert lost == 0 or store.damaged or kind == "truncate"
            for response, request in draw_all(missing):
                store.add(response, request.prompt)
        check_whole(root, requests(3))
        assert json.loads((folder / "space.json").read_text()) == SPACE


def test_any_byte_of_a_segment_matters(tmp_path: Path) -> None:
    (segment,) = files.segments(fill(tmp_path, requests(1)))
    content, whole = segment.read_bytes(), list(files.payloads(segment))
    for place in range(len(content)):
        for kind, byte in (("flip", 1), ("flip", 32), ("delete", 1), ("insert", 10)):
            segment.write_bytes(damage(content, kind, place, byte))
            read = list(files.payloads(segment))
            kept = [payload for payload in read if payload is not None]
            assert set(kept) <= set(whole)
            assert len(kept) >= len(whole) - 2
            last = (kind, place) == ("delete", len(content) - 1)
            assert last or None in read or kind == "insert"


def test_foreign_content_is_passed_over(tmp_path: Path) -> None:
    folder = fill(tmp_path, requests(USERS))
    for content in (
        b"",
        b"\n",
        b"\xff\xfe\x00" * 50,
        b"{}\n",
        files.seal(b"{}"),
        files.seal(b"\xff"),
    ):
        (folder / files.segment_name()).write_bytes(content)
    (folder / files.segment_name()).mkdir()
    (folder / files.segment_name()).symlink_to("nowhere")
    (folder / "notes.jsonl").write_text("mine")
    (folder / "folder").mkdir()
    (tmp_path / "x").mkdir()
    check_whole(tmp_path, requests(USERS))


def test_a_response_of_another_version_is_drawn_again(tmp_path: Path) -> None:
    request = Request("k", (1, 2), {0: 7})
    folder = fill(tmp_path, [])
    key = response_keys(folder.name, request.prompt, request.seeds)[0]
    (folder / files.segment_name()).write_bytes(files.seal(b'{"key":"%s"}' % key))
    with ResponseStore(tmp_path, SPACE) as store:
        assert store.find([request]) == ([], [request])
        assert store.damaged == 1
        store.add(draw(request, 0), request.prompt)
        assert store.find([request]) == ([draw(request, 0)], [])


def test_a_response_without_empty_slots_is_of_another_version(tmp_path: Path) -> None:
    (request,) = requests(1)
    (segment,) = files.segments(fill(tmp_path, [request]))
    entries = [json.loads(payload or b"") for payload in files.payloads(segment)]
    assert [entry.pop("empty_slots") for entry in entries] == [1, 2, 3]
    lines = (json.dumps(entry, separators=(",", ":")).encode() for entry in entries)
    segment.write_bytes(b"".join(map(files.seal, lines)))
    with ResponseStore(tmp_path, SPACE) as store:
        assert store.find([request]) == ([], [request])
        assert store.damaged == SAMPLES


# Several processes


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, 0, 200), start_writer(tmp_path, 100, 300)]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "open\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("next\n" * 200)
        writer.stdin.flush()
    for writer in writers:
        output, _ = writer.communicate()
        assert writer.returncode == 0
        assert len(output.splitlines()) == 200 * SAMPLES
    assert len(files.segments(tmp_path / space_digest(SPACE))) == 2
    check_whole(tmp_path, requests(300))


def test_a_killed_process_loses_nothing_that_it_added(tmp_path: Path) -> None:
    chance = random.Random(1)
    wanted = requests(4000)
    added = set[tuple[str, int]]()
    for number in range(20):
        with start_writer(tmp_path, 0, len(wanted), tokens=3000) as writer:
            assert writer.stdin and writer.stdout
            writer.stdin.write("next\n" * len(wanted))
            writer.stdin.flush()
            if number % 4:  # else it may not have opened the store yet
                writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
            writer.kill()
            lines = writer.stdout.read().splitlines()
        assert writer.returncode == -signal.SIGKILL
        for line in lines:
            if line != "open":
                key, sample = line.split()
                added.add((key, int(sample)))
    assert added
    with ResponseStore(tmp_path, SPACE) as store:
        found, _ = store.find(wanted)
    assert added <= {(response.key, response.sample) for response in found}
    users = {request.key: request for request in wanted}
    assert all(one == draw(users[one.key], one.sample, 3000) for one in found)


# Errors


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(RecError) as caught:
            ResponseStore(root, SPACE)
        assert str(tmp_path / "file") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, write = requests(1)[0], os.write

    def half(handle: int, line: bytes) -> int:
        if len(line) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, line[:-50])

    with ResponseStore(tmp_path, SPACE) as store:
        store.add(draw(request, 0), request.prompt)
        with monkeypatch.context() as patched, pytest.raises(RecError, match="No space left"):
            patched.setattr(os, "write", half)
            store.add(draw(request, 1), request.prompt)
        store.add(draw(request, 2), request.prompt)
    with ResponseStore(tmp_path, SPACE) as store:
        found, (missing,) = store.find([request])
        assert found == [draw(request, 0), draw(request, 2)]
        assert list(missing.seeds) == [1]
        assert store.damaged == 1


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    fill(tmp_path, requests(USERS))
    check_whole(tmp_path, requests(USERS))
