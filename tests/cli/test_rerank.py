"""rec rerank: on a small project with tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rec import layout
from tests.cli.running import on_a_terminal, rec
from tests.inference.project import FILMS

HISTORY = ("--history", "Toy Story:5, Fargo:1")
CANDIDATES = ("--candidates", "Babe, Twister, Alien, 2001")


@pytest.fixture(autouse=True)
def project(small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_project)


def test_a_ranking() -> None:
    result = rec("rerank", *HISTORY, *CANDIDATES)
    assert result.exit_code == 0, result.stderr
    header, *rows, note = result.stdout.splitlines()
    assert header.split() == ["rank", "item", "title", "score", "without", "change"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    assert {row.split()[1] for row in rows} == {"8", "118", "183", "135"}
    scores = [float(row.split()[-3]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert note == "re-ranker prm of 'DPO4Rec, round 1'; without: of 'No knowledge'"
    assert "2001 → 2001: A Space Odyssey (1968)" in result.stderr.splitlines()


def test_json() -> None:
    asked = ("rerank", *HISTORY, *CANDIDATES, "--backbone", "dlcm", "--format")
    document = json.loads(rec(*asked, "json").stdout)
    assert set(document) == {"user", "ranking"}
    ranking = document["ranking"]
    assert [one["rank"] for one in ranking] == [1, 2, 3, 4]
    assert sorted(one["rank_without"] for one in ranking) == [1, 2, 3, 4]
    assert all(one["change"] == one["rank_without"] - one["rank"] for one in ranking)
    assert set(ranking[0]) == {
        *("item", "title", "rank", "score", "rank_without", "score_without", "change")
    }
    lines = rec(*asked, "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == ranking
    prm = json.loads(rec("rerank", *HISTORY, *CANDIDATES, "--format", "json").stdout)
    assert prm["ranking"] != ranking


def test_what_the_reranker_was_told_is_explained() -> None:
    asked = ("rerank", "--user", 10, *CANDIDATES, "-n", 2, "--explain")
    shown = rec(*asked).stdout.split("\n\n")
    assert shown[0].startswith("Profile 1 of 2:\nLoved films:")
    assert shown[1].startswith("Profile 2 of 2:\nLoved films:")
    assert shown[2].startswith("rank  item")
    document = json.loads(rec(*asked, "--format", "json").stdout)
    assert [text.split("\n")[0] in shown[n] for n, text in enumerate(document["profiles"])]
    assert len(document["profiles"]) == 2


def test_one_candidate_and_all() -> None:
    one = json.loads(rec("rerank", *HISTORY, "--candidates", "#8", "--format", "json").stdout)
    assert [place["rank"] for place in one["ranking"]] == [1]
    items = ", ".join(film[0] for film in FILMS if film[0] != "187")
    result = rec("rerank", *HISTORY, "--candidates", items, "--format", "json")
    assert len(json.loads(result.stdout)["ranking"]) == len(FILMS) - 1


@pytest.mark.parametrize(
    "text", ["Babe\nTwister\n", "title\nBabe\nTwister\n", '{"item": 8}\n{"title": "Twister"}']
)
def test_candidates_from_a_file_or_stdin(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(text)
    asked = ("rerank", *HISTORY, "--format", "json", "--candidates-file")
    expected = rec("rerank", *HISTORY, "--candidates", "8, 118", "--format", "json").stdout
    assert rec(*asked, tmp_path / "c.txt").stdout == expected
    assert rec(*asked, "-", stdin=text).stdout == expected


BATCH = [
    {"user": "b", "history": ["Toy Story:5", "Fargo:1"], "candidates": ["Babe", "Twister", "8"]},
    {"user": 3, "history": [{"item": 50, "rating": 4}], "candidates": "Alien, Aliens, Toy Stary"},
    {"history": "Babe:3", "candidates": ["1"]},
]


def test_a_batch(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, BATCH)))
    result = rec("rerank", "--batch", tmp_path / "b.jsonl", "--explain")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["user"] for one in found] == ["b", "3", None]
    assert [len(one["ranking"]) for one in found] == [2, 3, 1]
    assert all(len(one["profiles"]) == 1 for one in found)
    assert result.stderr == (
        "taken for titles that they are not: 1 texts, such as Toy Stary → Toy Story (1995)\n"
    )
    alone = rec("rerank", *HISTORY, "--candidates", "Babe, Twister", "--format", "json")
    for place, other in zip(found[0]["ranking"], json.loads(alone.stdout)["ranking"], strict=True):
        assert place["item"] == other["item"]
        assert place["score"] == pytest.approx(other["score"], abs=0.05)
    again = rec("rerank", "--batch", "-", stdin=(tmp_path / "b.jsonl").read_text())
    assert "profiles" not in json.loads(again.stdout.splitlines()[0])


def test_a_batch_with_a_bad_line_does_nothing() -> None:
    bad = {"history": "Babe:3", "candidates": ["Casablanca"]}
    lines = "\n".join(map(json.dumps, [*BATCH, bad]))
    result = rec("rerank", "--batch", "-", stdin=lines)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: stdin: line 4: candidates, item 1: no item is called")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ([*HISTORY], 2, "Name candidates by --candidates or --candidates-file."),
        ([*CANDIDATES], 2, "Name a history by one of"),
        ([*HISTORY, *CANDIDATES, "--batch", "-"], 2, "--batch holds histories and candidates"),
        (
            ["--history-file", "-", "--candidates-file", "-"],
            2,
            "stdin holds the history or the candidates, not both.",
        ),
        ([*HISTORY, "--candidates", "Babe, Casablanca"], 1, "no item is called 'Casablanca'; the"),
        ([*HISTORY, "--candidates", ","], 1, "--candidates: there is no item in it"),
        (
            [*HISTORY, *CANDIDATES, "--backbone", "mir"],
            1,
            "params.yaml has rerank.backbones prm, dlcm",
        ),
        ([*HISTORY, *CANDIDATES, "--adapter", "sft"], 1, "adapter 'sft': use base, aligned"),
    ],
)
def test_what_is_wrong(options: list[str], status: int, said: str) -> None:
    result = rec("rerank", *options)
    assert result.exit_code == status
    assert said in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_one_user_alone(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("user,item,rating\na,1,5\nb,1,5\n")
    result = rec("rerank", "--history-file", tmp_path / "h.csv", *CANDIDATES)
    assert result.stderr.endswith("h.csv: 2 users; it ranks for one, --batch for many\n")


def test_what_is_missing(
    small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for path in [*small_project.glob("*.yaml"), *(small_project / "data").iterdir()]:
        (tmp_path / path.relative_to(small_project)).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/rerankers").unlink()
    missing = layout.reranker("1", "prm", 1)
    result = rec("rerank", *HISTORY, *CANDIDATES)
    assert result.stderr == f"Error: {missing} is missing: run `dvc repro rerank@1-prm-1`\n"
    told = small_project / missing
    missing.parent.mkdir(parents=True)
    missing.symlink_to(told)
    result = rec("rerank", *HISTORY, *CANDIDATES)
    assert "run `dvc repro rerank-baseline@none-prm-1`" in result.stderr


def test_on_a_terminal() -> None:
    shown = on_a_terminal("rerank", *HISTORY, *CANDIDATES)
    assert "Babe (1995)" in shown and "No knowledge" in shown
