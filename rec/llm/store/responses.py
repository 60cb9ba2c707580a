"""Keeping responses: what was sampled once is never sampled again.

A store has a folder per *space*, which is what all responses of a sampling run share, named by the
digest of its description. A response is found by its space, prompt, seed and sample alone. Each
process adds responses to a file of its own, its segment, and all append a line per search to one
file, runs.jsonl; nothing is changed in place. So writers do not wait for each other. To open a
store and to begin a segment they wait while `rec store prune` runs. `rec.llm.store.files` has the
layout and the locks, `rec.llm.store.upkeep` shows and prunes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rec.errors import RecError
from rec.llm.request import Request, Response
from rec.llm.store import files

#: Where responses are kept in a clone of the project.
PLACE = Path(".cache/responses")

_START = b'{"key":"'
_KEY = slice(len(_START), len(_START) + 64)
_canonical = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode
_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class ResponseStore:
    """The responses of one space: those that were there when it was opened, and those added since.

    `space` is a mapping of JSON values; equal mappings are the same space, whatever their order.
    Opening makes the folder and reads it; a compact line per response stays in memory, about 1 kB.
    `damaged` counts the lines that were left out because they do not match their checksum. Not for
    several threads at once. Raises RecError where the folder cannot be made or read.
    """

    def __init__(self, root: Path, space: Mapping[str, Any]) -> None:
        self.root = root.absolute()
        self.digest = space_digest(space)
        self.folder = self.root / self.digest
        self.damaged = 0
        self._lines: dict[bytes, bytes] = {}
        self._tokens: dict[int, int] = {}  # one object per token id instead of one per occurrence
        self._segment: int | None = None
        with files.storage(self.root), ExitStack() as stack:
            files.make_root(self.root)
            with files.locked(self.root):
                self.folder.mkdir(exist_ok=True)
                self._runs = files.open_to_append(self.folder / files.RUNS)
                stack.callback(os.close, self._runs)
                _describe(self.folder, space)
                self._read()
            self._held: ExitStack | None = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder. What was added is with the operating system already."""
        held, self._held, self._segment = self._held, None, None
        if held:
            with files.storage(self.root):
                held.close()

    def find(self, requests: Iterable[Request]) -> tuple[list[Response], list[Request]]:
        """The responses that are there, and requests for the missing samples alone.

        A request with nothing missing is left out. Records how many samples were wanted and found.
        Raises RecError where that cannot be written.
        """
        self._require_open()
        responses, missing, wanted = list[Response](), list[Request](), 0
        for request in requests:
            absent = {}
            for sample, key in response_keys(self.digest, request.prompt, request.seeds).items():
                found = self._response(key, request, sample)
                if found:
                    responses.append(found)
                else:
                    absent[sample] = request.seeds[sample]
            wanted += len(request.seeds)
            if absent:
                missing.append(replace(request, seeds=absent))
        self._record(wanted, len(responses))
        return responses, missing

    def add(self, response: Response, prompt: Sequence[int]) -> None:
        """Keep a response to `prompt`. Once this returns, no kill of the process can lose it.

        Where the store has a response to the same prompt, seed and sample, that one stays. Raises
        RecError where the response cannot be written.
        """
        self._require_open()
        seeds = {response.sample: response.seed}
        key = response_keys(self.digest, prompt, seeds)[response.sample]
        if key in self._lines:
            return
        payload = _payload(key, response)
        with files.storage(self.folder):
            self._write(files.seal(payload))
        self._lines[key] = payload

    def _require_open(self) -> None:
        if self._held is None:
            raise RuntimeError("the store is closed")

    def _read(self) -> None:
        for path in files.segments(self.folder):
            for payload in files.payloads(path):
                if payload is None:
                    self.damaged += 1
                else:
                    self._lines.setdefault(payload_key(payload), payload)

    def _response(self, key: bytes, request: Request, sample: int) -> Response | None:
        payload = self._lines.get(key)
        if payload is None:
            return None
        try:
            entry = json.loads(payload)
            ids = entry["token_ids"]
            return Response(
                key=request.key,
                sample=sample,
                seed=request.seeds[sample],
                prompt_tokens=entry["prompt_tokens"],
                token_ids=tuple(map(self._tokens.setdefault, ids, ids)),
                cut_slots=entry["cut_slots"],
                seconds=entry["seconds"],
                empty_slots=entry["empty_slots"],
            )
        except (KeyError, TypeError, ValueError):  # undamaged, but of another version of rec
            self.damaged += 1
            del self._lines[key]
            return None

    def _write(self, line: bytes) -> None:
        segment, self._segment = self._segment, None  # an error may leave half a line in it
        if segment is None:
            segment = self._new_segment()
        files.write(segment, line)
        self._segment = segment

    def _new_segment(self) -> int:
        assert self._held
        with files.locked(self.root):
            segment = files.open_to_append(self.folder / files.segment_name(), new=True)
        self._held.callback(os.close, segment)
        return segment

    def _record(self, wanted: int, found: int) -> None:
        when = datetime.now(UTC).isoformat()
        line = files.seal(_compact({"when": when, "wanted": wanted, "found": found}).encode())
        with files.storage(self.folder):
            files.write(self._runs, line)


def store_root(default: Path = PLACE) -> Path:
    """Where responses are kept: REC_STORE where it is set, else `default` in the clone.

    The clone is the nearest folder with a `.dvc` folder, from the current one upwards, else the
    current one. A relative REC_STORE counts from the current folder. DVC runs queued and temporary
    experiments in copies below CLONE/.dvc/tmp/exps: there both count from CLONE, so that all
    experiments of a clone share one store. Raises RecError for a REC_STORE of an unknown user.
    """
    here = Path.cwd()
    clone, experiment, _ = f"{here}/".partition("/.dvc/tmp/exps/")
    if experiment:
        here = Path(clone or "/")
    if chosen := os.environ.get("REC_STORE"):
        try:
            return here / Path(chosen).expanduser()
        except RuntimeError as error:
            raise RecError(f"REC_STORE ({chosen}): no home folder of that user") from error
    holders = (folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir())
    return next(holders, here) / default


def space_digest(space: Mapping[str, Any]) -> str:
    """SHA-256 of a space's description in canonical JSON, in hexadecimal."""
    return hashlib.sha256(_canonical(dict(space)).encode()).hexdigest()


def response_keys(space: str, prompt: Sequence[int], seeds: Mapping[int, int]) -> dict[int, bytes]:
    """For each sample of `seeds`, the SHA-256 of the JSON `[space,prompt,seed,sample]`."""
    start = hashlib.sha256(f'["{space}",{_compact(list(prompt))},'.encode())
    keys = {}
    for sample, seed in seeds.items():
        digest = start.copy()
        digest.update(f"{seed},{sample}]".encode())
        keys[sample] = digest.hexdigest().encode()
    return keys


def payload_key(payload: bytes) -> bytes:
    """The key of a stored response, without reading the rest of it."""
    return payload[_KEY]


def _payload(key: bytes, response: Response) -> bytes:
    entry = {
        "key": key.decode(),
        "sample": response.sample,
        "seed": response.seed,
        "prompt_tokens": response.prompt_tokens,
        "cut_slots": response.cut_slots,
        "empty_slots": response.empty_slots,
        "seconds": response.seconds,
        "token_ids": response.token_ids,
    }
    return _compact(entry).encode()


def _describe(folder: Path, space: Mapping[str, Any]) -> None:
    if not read_description(folder):
        text = json.dumps(dict(space), indent=2, allow_nan=False) + "\n"
        files.replace_file(folder / files.DESCRIPTION, text.encode())


def read_description(folder: Path) -> Mapping[str, Any]:
    """What a space's folder says that it holds; empty where that is missing or damaged."""
    try:
        found = json.loads((folder / files.DESCRIPTION).read_bytes())
        return found if space_digest(found) == folder.name else {}
    except (OSError, TypeError, ValueError, RecursionError):
        return {}
