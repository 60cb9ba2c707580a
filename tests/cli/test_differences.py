"""Two texts with what differs marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.cli import differences as module
from rec.cli.differences import Piece, differences, print_texts

some = st.lists(
    st.sampled_from(["Heat;", "Heat", "Heat,", ";", "Alien", "\n", "  ", "of"]), max_size=12
)
texts = some.map(" ".join) | st.text()


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def words(parts: list[str]) -> list[str]:
    return [word.rstrip(",;") or word for part in parts for word in part.split()]


@given(texts, texts)
def test_pieces_are_the_texts_and_what_does_not_differ_is_the_same(left: str, right: str) -> None:
    first, second = differences(left, right)
    assert (joined(first), joined(second)) == (left, right)
    same = [[p.text for p in side if not p.differs] for side in (first, second)]
    assert words(same[0]) == words(same[1])


@given(texts)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    for side in differences(text, text):
        assert not any(piece.differs for piece in side)


def test_words_that_differ() -> None:
    left, right = differences("Loved: Heat; Alien", "Loved: Fargo; Alien")
    assert left == [Piece("Loved:", False), Piece(" Heat;", True), Piece(" Alien", False)]
    assert right[1] == Piece(" Fargo;", True)


def test_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_texts(("a\x1b", "Loved: Heat\nMood: dark"), ("b", "Loved: Heat\nMood: [bold]light"))
    assert capsys.readouterr().out == (
        "a:\n  Loved: Heat\n  Mood: [-dark-]\nb:\n  Loved: Heat\n  Mood: {+[bold]light+}\n"
    )


def test_texts_of_unlike_length(capsys: pytest.CaptureFixture[str]) -> None:
    print_texts(("a", "one\ntwo"), ("b", "one"))
    assert capsys.readouterr().out == "a:\n  one\n  [-two-]\nb:\n  one\n"
    print_texts(("a", ""), ("b", "\x1b[2J"))
    assert capsys.readouterr().out == "a:\n\nb:\n  {+[2J+}\n"


@pytest.mark.parametrize(("columns", "beside"), [(100, True), (60, False)])
def test_a_terminal(
    columns: int,
    beside: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    print_texts(("left", "Loved: [red]Heat\nMood: dark"), ("right", "Loved: Fargo\nMood: light"))
    lines = capsys.readouterr().out.splitlines()
    assert any("Mood: dark" in line and "Mood: light" in line for line in lines) == beside
    assert any("[red]Heat" in line for line in lines)
