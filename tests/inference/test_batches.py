"""rec.inference.batches: many users, in their order, as soon as they are done."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.inference import batches
from rec.inference.batches import Job, rank_jobs, read_jobs
from rec.inference.catalogue import Catalogue
from rec.inference.histories import Scale, prompts
from rec.inference.profiles import write_profiles
from rec.inference.rankings import Task
from rec.llm.backends import Policy
from tests.inference.project import items_table
from tests.inference.test_rankings import open_ranker

SCALE = Scale(1, 5, rated=True)
BASE = Policy("0", layout.GGUF, layout.HF)
LINE = {
    "user": 7,
    "history": ["Toy Story:5", {"item": "50", "rating": 2}],
    "candidates": ["Babe", 12],
}


def read(*lines: object) -> list[Job]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return read_jobs(text, "f", Catalogue(items_table()), SCALE)


def jobs(count: int) -> list[Job]:
    return read(
        *(
            {
                "user": f"u{n % 3}",
                "history": [{"item": "50", "rating": 1 + n % 5}, "Fargo:4"],
                "candidates": "Babe, Twister, Toy Story, Alien"[: 13 + 11 * (n % 2)],
            }
            for n in range(count)
        )
    )


def test_a_line() -> None:
    (job,) = read(LINE)
    assert (job.key, job.user, job.history.items, job.candidates) == (
        "f: line 1",
        "7",
        ("1", "50"),
        ("8", "12"),
    )
    assert [match.label for match in job.matches if match.approximate] == []


def test_texts_in_place_of_lists() -> None:
    line = {"history": "Toy Story:5, Fargoo:3", "candidates": "Maybe, Maybe Not, Babe\nTwister"}
    (job,) = read("", line, "")
    assert (job.key, job.user) == ("f: line 2", "")
    assert job.candidates == ("534", "8", "118")
    assert [match.text for match in job.matches if match.approximate] == [
        "Fargoo",
        "Maybe, Maybe Not",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no", "f: line 2: not valid JSON"),
        ({"candidates": ["8"]}, "f: line 2: history is missing"),
        ({"history": "Fargo:3"}, "f: line 2: candidates is missing"),
        ({**LINE, "history": []}, "f: line 2: history: there is no item in it"),
        ({**LINE, "candidates": " , "}, "f: line 2: candidates: there is no item in it"),
        ({**LINE, "candidates": None}, "f: line 2: candidates: None must be a text or a list"),
        ({**LINE, "candidates": ["Babe", "Casablanca"]}, "candidates, item 2: no item is called"),
        ({**LINE, "history": ["Fargo:9"]}, "history, item 1: Fargo (1996): the rating 9 is out of"),
        ({**LINE, "user": []}, "f: line 2: user: [] must be a text or a whole number"),
    ],
)
def test_a_line_that_is_wrong(line: object, said: str) -> None:
    with pytest.raises(RecError) as raised:
        read(LINE, line, LINE)
    assert said in str(raised.value)


def test_no_lines() -> None:
    with pytest.raises(RecError, match="f: there is no line in it"):
        read("", "")


def test_a_batch_is_its_jobs_one_by_one(params: Params) -> None:
    params = replace(params, sampling=replace(params.sampling, deterministic=True))
    ranker, made = open_ranker(params), jobs(5)
    done = list(rank_jobs(made, BASE, params, 2, ranker))
    assert [one.job for one in done] == made
    for one in done:
        asked = prompts({"x": one.job.history}, items_table(), params)
        texts = tuple(profile.text for profile in write_profiles(asked, BASE, params, 2))
        assert tuple(profile.text for profile in one.profiles) == texts
        (text,) = asked["history"]
        (places,) = ranker.rank([Task("x", one.job.history, text, texts, one.job.candidates)])
        assert [p.item for p in places] == [p.item for p in one.places]
        assert [p.score for p in places] == pytest.approx([p.score for p in one.places], abs=0.02)


def test_what_is_done_is_out_before_the_rest_is_begun(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_TOGETHER", 3)
    begun: list[str] = []

    def watched(*what: object, **options: object) -> object:
        for profile in write_profiles(*what, **options):  # type: ignore[arg-type]
            begun.append(profile.key)
            yield profile

    monkeypatch.setattr(batches, "write_profiles", watched)
    made = jobs(8)
    running = rank_jobs(made, BASE, params, 1, open_ranker(params))
    assert [one.job for one in islice(running, 2)] == made[:2]
    assert len(begun) == 3
    assert [one.job for one in running] == made[2:]
