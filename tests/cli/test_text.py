"""Text of others on a terminal."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rec.cli.text import escaped, plain, plain_lines

JOINERS = "\u200c\u200d"
anything = st.text(st.characters(exclude_categories=()))
NASTY = "\x1b[31mred\x1b]0;title\x07 \x9b2J a\u202eb\u2066c\ufeff\ud800"


def harmless(text: str) -> bool:
    return all(c.isprintable() or c in JOINERS for c in text)


def test_nothing_commands_the_terminal() -> None:
    assert plain(NASTY) == "[31mred]0;title 2J abc"
    assert plain("one\r\n\ttwo \u2028 three\u00a0") == "one two three"
    assert plain_lines("a\tb\n\x1bc\r\n") == "a b\nc \n"


def test_scripts_and_emoji_stay() -> None:
    for text in (
        "Amélie (2001)",
        "千と千尋の神隠し",
        "می\u200cخواهم",
        "👩\u200d💻",
        "[bold]x[/bold]",
    ):
        assert plain(text) == text


@given(anything)
def test_plain_text_is_one_harmless_line(text: str) -> None:
    made = plain(text)
    assert harmless(made)
    assert made == made.strip() == plain(made)


@given(anything)
def test_lines_stay_lines(text: str) -> None:
    made = plain_lines(text)
    assert made.count("\n") == text.count("\n")
    assert harmless(made.replace("\n", ""))


@given(st.recursive(anything, lambda inner: st.lists(inner) | st.dictionaries(anything, inner)))
def test_an_escaped_document_is_the_same_document(value: object) -> None:
    document = escaped(json.dumps(value, ensure_ascii=False, indent=1))
    assert harmless(document.replace("\n", ""))
    assert json.loads(document) == json.loads(json.dumps(value))
