"""What goes to a completions server as text, and what comes back from it: tokens of a form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

import llama_cpp

from rec.errors import RecError
from rec.llm.form import Form
from rec.llm.model import Model

MOST_BIASED = 300  # tokens of a logit_bias
_BREAK = re.compile(r"[\n\v\f\r]")  # the characters that `rec.llm.form` bans in a card
_SPECIAL = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
    | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
    | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
)


class PromptText:
    """Prompts as text, for servers that take no token ids and read control tokens in any text.

    A control token is written as its name. Plain text that spells one is broken up by a blank
    after its first character (`< |im_end|>`). A BOS token is left out where the vocabulary says
    that it belongs before every text, since a server of llama.cpp then adds it.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.bos = int(llama_cpp.llama_vocab_bos(model.vocabulary))
        if not llama_cpp.llama_vocab_get_add_bos(model.vocabulary):
            self.bos = -1
        self._names = _special_names(model)
        self._first = re.compile(f"(?=(?:{_any_of(self._names)}))(.)", re.DOTALL)

    def write(self, ids: Sequence[int]) -> str:
        """The text of a prompt.

        Raises RecError where a server would still read other control tokens in it than `ids` has.
        """
        if ids and ids[0] == self.bos:
            ids = ids[1:]
        parts = [
            "".join(map(self._name, run)) if special else self._plain(list(run))
            for special, run in groupby(ids, key=lambda token: token in self._names)
        ]
        text = "".join(parts)
        again = self.model.tokenize(text, control=True)
        if self._specials(again) != self._specials(ids):
            raise RecError(
                f"{self.model.path}: a prompt cannot be told from its control tokens as text; use"
                " a server that takes token ids, with sampling.server_prompts: tokens"
            )
        return text

    def _name(self, token: int) -> str:
        return self._names[token]

    def _plain(self, ids: Sequence[int]) -> str:
        raw = b"".join(self.model.pieces[token] for token in ids)
        return self._first.sub(r"\1 ", raw.decode(errors="ignore"))

    def _specials(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self._names]


def _special_names(model: Model) -> dict[int, str]:
    """The text of each token that a server finds in any text."""
    names: dict[int, str] = {}
    for token in range(model.size):
        if llama_cpp.llama_vocab_get_attr(model.vocabulary, token) & _SPECIAL:
            text = llama_cpp.llama_vocab_get_text(model.vocabulary, token)
            names[token] = text.decode(errors="replace")
    return {token: name for token, name in names.items() if name.strip()}


def _any_of(names: Mapping[int, str]) -> str:
    """A pattern for the names of more than one character."""
    known = sorted((name for name in names.values() if len(name.strip()) > 1), key=len)
    return "|".join(map(re.escape, reversed(known))) or "(?!)"


class AnswerTokens:
    """A server's text as tokens that the sampler of the engine could have written."""

    def __init__(self, model: Model, form: Form) -> None:
        self.model = model
        self.form = form
        self.end = model.detokenize([form.end])  # empty where it is a control token
        self.banned = frozenset(form.banned)
        self.banned_first = frozenset(form.banned_first)
        self._spelled = re.compile(_any_of(_special_names(model)))

    @property
    def is_line(self) -> bool:
        """Whether a slot ends with its line."""
        return "\n" in self.end

    def opening_bias(self) -> dict[str, int]:
        """A logit_bias against what may not open a slot: its end first, then the short blanks."""

        def rank(token: int) -> tuple[bool, bool, int]:
            ends = token == self.form.end or llama_cpp.llama_vocab_is_eog(
                self.model.vocabulary, token
            )
            piece = self.model.pieces[token]
            return not ends, not piece, len(piece)

        return {str(token): -100 for token in sorted(self.banned_first, key=rank)[:MOST_BIASED]}

    def read(self, text: str, *, first: bool) -> tuple[list[int], bool]:
        """The tokens of a text, and whether the slot ends in it.

        The text is tokenized with the local vocabulary, where nothing becomes a control token.
        What spells one is dropped (a server may show those that the LLM wrote), and so are broken
        characters and, in a card, what stands after a line break. With `first` the text opens a
        slot: of blanks at its start at most one is kept, and none where it would be a token of
        its own. No token is returned for a text of blanks alone.
        """
        text = self._spelled.sub("", text.encode(errors="ignore").decode().replace("\ufffd", ""))
        if first:
            bare = text.lstrip()
            blank = text[: len(text) - len(bare)]
            text = (" " if blank.endswith(" ") else "") + bare if bare else ""
        ended = False
        if self.is_line:
            line = _BREAK.split(text, maxsplit=1)[0]
            ended, text = line != text, line
        ids, closed = self._allowed(text)
        if first and ids and ids[0] in self.banned_first:
            ids, closed = self._allowed(text.lstrip())
        while first and ids and ids[0] in self.banned_first:
            ids.pop(0)
        return ids, ended or closed

    def _allowed(self, text: str) -> tuple[list[int], bool]:
        ids = self.model.tokenize(text)
        closed = self.form.end in ids
        if closed:
            ids = ids[: ids.index(self.form.end)]
        return [token for token in ids if token not in self.banned], closed
