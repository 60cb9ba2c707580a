"""Text of data sets and models on a terminal: characters, and no commands to it."""

from __future__ import annotations

import json
import re

#: Zero-width joiners: invisible, but scripts and emoji are written with them.
_JOINERS = "\u200c\u200d"


def plain(text: str) -> str:
    """`text` on one line, without control and formatting characters: blanks in place of breaks."""
    if text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join("".join(map(_printable, text)).split())


def plain_lines(text: str) -> str:
    """`text` without control and formatting characters; line breaks stay."""
    return "".join(character if character == "\n" else _printable(character) for character in text)


def escaped(document: str) -> str:
    """A JSON document whose strings hold no such character, but its escape: the same document."""
    return re.sub(r"[^\n -~]", _escape, document)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    as_it_is = character.isprintable() or character in _JOINERS
    return character if as_it_is else json.dumps(character)[1:-1]


def _printable(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character.isspace() else ""
