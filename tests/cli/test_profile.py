"""rec profile: on a small project with tiny models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rec import layout
from rec.prompts import words
from tests.cli.running import ROOT, on_a_terminal, rec

LABELS = list(words("films").card)


@pytest.fixture(autouse=True)
def project(small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_project)


def labels(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.splitlines()]


def test_a_history_that_is_typed() -> None:
    result = rec("profile", "--history", "Toy Story:5, Usual Suspects, The:4, Fargoo:1")
    assert result.exit_code == 0
    assert labels(result.stdout) == LABELS
    assert result.stderr.splitlines() == [
        "Toy Story → Toy Story (1995)",
        "Usual Suspects, The → The Usual Suspects (1995)",
        "Fargoo → Fargo (1996)",
    ]


def test_several_profiles_of_a_prepared_user() -> None:
    result = rec("profile", "--user", 120, "-n", 2, "--adapter", "base")
    first, second = result.stdout.split("\n\n")
    assert labels(first) == ["Profile 1 of 2", *LABELS]
    assert labels(second) == ["Profile 2 of 2", *LABELS]
    assert result.stderr == ""


def test_json_is_what_the_table_shows() -> None:
    asked = ("profile", "--history", "Toy Story:5, Babe:2", "-n", 2)
    records = json.loads(rec(*asked, "--format", "json").stdout)
    lines = rec(*asked, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == records
    assert [(one["user"], one["adapter"], one["sample"]) for one in records] == [
        (None, "aligned", 0),
        (None, "aligned", 1),
    ]
    shown = rec(*asked).stdout
    for one in records:
        assert labels(one["profile"]) == LABELS
        assert one["profile"].split("\n")[2].strip() in shown


def test_the_adapter_and_the_seed_matter() -> None:
    def text(*options: object) -> str:
        return rec("profile", "--history", "Toy Story:5", *options).stdout

    default = text()
    assert text("--adapter", "1") == text("--adapter", "aligned") == default
    assert text("--adapter", layout.policy("1")) == default
    assert text("--adapter", layout.policy("1") / layout.ADAPTER) == default
    assert len({default, text("--adapter", "base"), text("--seed", 4)}) == 3
    assert text("--temperature", 0, "--seed", 1) == text("--temperature", 0, "--seed", 2)


def test_a_file_of_several_users(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("user,title,rating\nb,Toy Story (1995),5\na,Fargoo,3\nb,Babe,1\n")
    result = rec("profile", "--history-file", file)
    assert [line for line in result.stdout.splitlines() if line.startswith("User")] == [
        "User b:",
        "User a:",
    ]
    assert result.stderr.splitlines() == ["Fargoo → Fargo (1996)"]
    records = json.loads(rec("profile", "--history-file", file, "--format", "json").stdout)
    assert [one["user"] for one in records] == ["b", "a"]


@pytest.mark.parametrize(
    "text",
    [
        "Toy Story:5, Fargo:3",
        '{"item": "1", "rating": 5}\n{"item": 100, "rating": 3}\n',
        "item,rating\n1,5\n100,3\n",
        "Toy Story:5\nFargo:3\n",
    ],
)
def test_stdin_in_any_form(text: str) -> None:
    result = rec("profile", "--history-file", "-", stdin=text)
    assert result.exit_code == 0
    assert result.stdout == rec("profile", "--history", "#1:5, #100:3").stdout


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ([], 2, "Name a history by one of --user, --history and --history-file."),
        (["--user", "1", "--history", "x:1"], 2, "Name a history by one of"),
        (["--history", ""], 1, "--history: there is no item in it"),
        (["--history", "Toy Story"], 1, "--history: 'Toy Story' has no rating; write TITLE:RATING"),
        (["--history", "Toy Story, Fargo:3"], 1, "no item is called 'Toy Story, Fargo'"),
        (["--history", "Sabrina:3"], 1, "'Sabrina' could be #274 Sabrina (1995), #486 Sabrina"),
        (
            ["--history", "Toy Story:7"],
            1,
            "Toy Story (1995): the rating 7 is out of range; it must",
        ),
        (["--user", "999"], 1, "data/prompts.parquet: user '999' is not in it"),
        (
            ["--user", "10", "--adapter", "best"],
            1,
            "adapter 'best': use base, aligned, a policy (0,",
        ),
        (["--user", "10", "-n", "0"], 2, "'-n' / '--n': 0 is not in the range"),
        (["--user", "10", "--temperature", "9"], 2, "9.0 is not in the range 0<=x<=5"),
        (["--user", "10", "--temperature", "nan"], 2, "'--temperature': nan is not a number."),
        (["--history-file", "none.csv"], 2, "File 'none.csv' does not exist"),
        (["--history-file", "data"], 2, "File 'data' is a directory"),
    ],
)
def test_what_is_wrong(options: list[str], status: int, said: str) -> None:
    result = rec("profile", *options)
    assert result.exit_code == status
    (line,) = result.stderr.splitlines()
    assert said in line and line.startswith("Error: ")
    assert result.stdout == ""


def test_stdin_that_is_closed() -> None:
    command = f'"{sys.executable}" -m rec.cli profile --history-file - <&-'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert done.stderr == "Error: stdin: there is no item in it\n"


def test_stdin_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_bytes(b"Toy Story:5\nFa\xff:3")
    result = rec("profile", "--history-file", tmp_path / "h.txt")
    assert result.stderr == "Error: h.txt: line 2: not text in UTF-8\n"


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        (layout.ITEMS, "prepare"),
        (layout.GGUF, "import-llm"),
        (layout.policy("1") / layout.ADAPTER, "align@1"),
    ],
)
def test_what_is_missing_is_named_with_what_makes_it(
    missing: Path,
    command: str,
    small_project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in small_project.rglob("*"):
        place = copy / path.relative_to(small_project)
        if path.is_file() and path.relative_to(small_project) != missing:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    monkeypatch.chdir(copy)
    result = rec("profile", "--history", "Toy Story:5")
    assert result.stderr == f"Error: {missing} is missing: run `dvc repro {command}`\n"


def with_params(
    old: str, new: str, source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go to a project with other parameters and the data of `source`."""
    text = (source / "params.yaml").read_text()
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new))
    (folder / "data").symlink_to(source / "data")
    monkeypatch.chdir(folder)


def test_data_without_ratings_wants_titles_alone(
    small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_params("positive_rating: 4", "positive_rating: 1", small_project, tmp_path, monkeypatch)
    result = rec("profile", "--history", "Maybe, Maybe Not, Fargo")
    assert labels(result.stdout)[0] == "Watched films"
    assert len(labels(result.stdout)) == len(LABELS) - 1
    assert result.stderr.splitlines() == [
        "Maybe, Maybe Not → Maybe, Maybe Not (Der Bewegte Mann) (1994)",
        "Fargo → Fargo (1996)",
    ]
    assert "no item is called 'Fargo:5'" in rec("profile", "--history", "Fargo:5").stderr


def test_a_backend_that_tells_nothing_on_the_way(
    small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_params("llama_cpp", "transformers", small_project, tmp_path, monkeypatch)
    result = rec("profile", "--user", 10, "-n", 2)
    assert [labels(text) for text in result.stdout.split("\n\n")] == [
        ["Profile 1 of 2", *LABELS],
        ["Profile 2 of 2", *LABELS],
    ]


def test_text_on_a_terminal_holds_no_commands_to_it() -> None:
    shown = on_a_terminal("profile", "--user", "164", "-n", "3")
    assert labels(shown.split("\n\n")[1]) == ["Profile 2 of 3", *LABELS]
    assert all(character == "\n" or character.isprintable() for character in shown)


def test_ctrl_c_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "rec.cli", "profile", "--user", "10", "-n", "1000"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert running.stdout and running.stderr
    while "Profile 3" not in running.stdout.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.stdout.read()
    assert running.wait(timeout=60) == 130
    assert "Traceback" not in running.stderr.read()
