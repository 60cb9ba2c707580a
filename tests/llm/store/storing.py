"""A store's contents in tests: requests, what a deterministic backend gives, and a writer process.

Imports little, since writer processes import it too: `python -m tests.llm.store.storing`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rec.llm.request import Request, Response
from rec.llm.store.responses import ResponseStore
from rec.seeds import derive_seed

SPACE: Mapping[str, Any] = {
    "model": "a" * 64,
    "adapter": None,
    "sampler": {"temperature": 0.7, "top_k": 40},
    "form": [[1, 2], [3]],
}
SAMPLES = 3

Drawn = tuple[Response, Request]


def requests(last: int, first: int = 0) -> list[Request]:
    """Requests of users `first` to `last`, three samples each."""
    return [
        Request(f"u{user}", (1, 2, user), {s: derive_seed(user, s) for s in range(SAMPLES)})
        for user in range(first, last)
    ]


def draw(request: Request, sample: int, tokens: int = 5) -> Response:
    """What a deterministic backend gives."""
    seed = request.seeds[sample]
    first = derive_seed(request.prompt, seed, sample) % 100_000
    ids = tuple(range(first, first + tokens))
    return Response(request.key, sample, seed, len(request.prompt), ids, sample, 0.5, sample + 1)


def draw_all(wanted: Sequence[Request], tokens: int = 5) -> Iterator[Drawn]:
    """The responses to all requests, each with its request."""
    return ((draw(r, sample, tokens), r) for r in wanted for sample in r.seeds)


def fill(root: Path, wanted: Sequence[Request], space: Mapping[str, Any] = SPACE) -> Path:
    """Draw in a store of its own, so into a segment of its own; the folder of the space."""
    with ResponseStore(root, space) as store:
        for response, request in draw_all(wanted):
            store.add(response, request.prompt)
        return store.folder


def check_whole(root: Path, wanted: Sequence[Request], space: Mapping[str, Any] = SPACE) -> None:
    """All that is wanted is there, and right."""
    with ResponseStore(root, space) as store:
        found, missing = store.find(wanted)
    assert missing == []
    assert ordered(found) == ordered([response for response, _ in draw_all(wanted)])


def ordered(responses: Sequence[Response]) -> list[Response]:
    """Sorted by key and sample."""
    return sorted(responses, key=lambda response: (response.key, response.sample))


def start_writer(root: Path, first: int, last: int, tokens: int = 5) -> subprocess.Popen[str]:
    """A process that opens the store, then adds users `first` to `last`, each at a line on stdin.

    It prints "open", and a line for each response that was added.
    """
    arguments = [str(root), str(first), str(last), str(tokens)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.llm.store.storing", *arguments],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def write(root: Path, first: int, last: int, tokens: int) -> None:
    """What the writer process does."""
    with ResponseStore(root, SPACE) as store:
        _, missing = store.find(requests(last, first))
        print("open", flush=True)
        for request in missing:
            sys.stdin.readline()
            for response, _ in draw_all([request], tokens):
                store.add(response, request.prompt)
                sys.stdout.write(f"{response.key} {response.sample}\n")  # at once, whole
                sys.stdout.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
