"""Many users at once: JSON lines in, rankings in the same order out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl

from rec.config import Params
from rec.errors import RecError
from rec.inference.catalogue import Catalogue, Match
from rec.inference.entries import Entry, json_lines, user_name, value_entries
from rec.inference.histories import History, Scale, prompts, resolve, resolve_candidates
from rec.inference.profiles import Profile, write_profiles
from rec.inference.rankings import Place, Ranker, Task
from rec.llm.backends import Policy
from rec.progress import bar

#: Users who are encoded and ranked together, as soon as their profiles are written.
_TOGETHER = 16


@dataclass(frozen=True)
class Job:
    """A line of a batch: a user's history, and what is to be ranked."""

    key: str  # the line, each job's own
    user: str
    history: History
    candidates: tuple[str, ...]
    matches: tuple[Match, ...]  # of all texts of the line


@dataclass(frozen=True)
class Done:
    """A job's profiles, and its candidates from the first place to the last."""

    job: Job
    profiles: tuple[Profile, ...]
    places: tuple[Place, ...]


def read_jobs(text: str, name: str, catalogue: Catalogue, scale: Scale) -> list[Job]:
    """The jobs of JSON lines {"user": ..., "history": [...], "candidates": [...]}.

    Raises RecError for the first line that is no such job, with its number.
    """
    lines = [_line(row, where, scale) for where, row in json_lines(text, name)]
    if not lines:
        raise RecError(f"{name}: there is no line in it")
    catalogue.expect(entry.text for line in lines for entry in (*line.history, *line.candidates))
    return [_job(line, catalogue, scale) for line in lines]


def rank_jobs(
    jobs: Sequence[Job], policy: Policy, params: Params, count: int, ranker: Ranker
) -> Iterator[Done]:
    """Yield the jobs, done, in their order: `count` profiles each by one LLM, then a ranking.

    Profiles of many users are drawn together. As soon as the next users' are whole they are ranked,
    so that what is done is out before the rest is begun.
    """
    asked = prompts({job.key: job.history for job in jobs}, ranker.items, params)
    order = pl.DataFrame({"user": [job.key for job in jobs]})
    asked = order.join(asked, on="user", how="left", maintain_order="left")
    texts = dict(asked.select("user", "history").iter_rows())
    profiles = write_profiles(asked, policy, params, count)
    with bar("users", len(jobs), "user") as moved:
        for start in range(0, len(jobs), _TOGETHER):
            ready = []
            for job in jobs[start : start + _TOGETHER]:
                ready.append((job, tuple(islice(profiles, count))))
                moved.update()
            yield from _ranked(ready, texts, ranker)


def _ranked(
    ready: Sequence[tuple[Job, tuple[Profile, ...]]], texts: Mapping[str, str], ranker: Ranker
) -> Iterator[Done]:
    tasks = [
        Task(job.key, job.history, texts[job.key], tuple(p.text for p in own), job.candidates)
        for job, own in ready
    ]
    for (job, own), places in zip(ready, ranker.rank(tasks), strict=True):
        yield Done(job, own, tuple(places))


@dataclass(frozen=True)
class _Line:
    where: str
    user: str
    history: list[Entry]
    candidates: list[Entry]


def _line(row: dict[str, Any], where: str, scale: Scale) -> _Line:
    named = {}
    for name, rated in (("history", scale.rated), ("candidates", False)):
        if name not in row:
            raise RecError(f"{where}: {name} is missing")
        named[name] = value_entries(row[name], f"{where}: {name}", rated=rated)
        if not named[name]:
            raise RecError(f"{where}: {name}: there is no item in it")
    return _Line(where, user_name(row.get("user"), where), **named)


def _job(line: _Line, catalogue: Catalogue, scale: Scale) -> Job:
    history = resolve(line.history, catalogue, scale)
    candidates = resolve_candidates(line.candidates, catalogue)
    items = tuple(match.item for match in candidates)
    return Job(line.where, line.user, history, items, (*history.matches, *candidates))
