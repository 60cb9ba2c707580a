"""A GGUF model in llama.cpp: its vocabulary, its chat template, its weights."""

from __future__ import annotations

import ctypes
import itertools
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import llama_cpp
from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from rec.errors import RecError

Message = Mapping[str, str]


#: What llama.cpp logs to: a function of C that reads nothing and does nothing. Ctrl-C that falls
#: into a callback of Python is lost, since no exception leaves it.
_SILENT = ctypes.cast(ctypes.CDLL(None).getpid, llama_cpp.llama_log_callback)


class Model:
    """A loaded GGUF file; a context manager, since llama.cpp owns the memory.

    With `vocabulary_only` no weights are read, which takes milliseconds.
    Raises RecError where the file is missing, damaged, or has no chat template when one is needed.
    """

    def __init__(self, path: Path, *, vocabulary_only: bool = False) -> None:
        if not path.is_file():
            raise RecError(f"{path}: no such file; run the stage import-llm")
        llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.vocab_only = vocabulary_only
        options.n_gpu_layers = -1
        self.path = path
        self.handle = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self.handle:
            raise RecError(f"{path}: not a GGUF model that llama.cpp can load (truncated?)")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.handle)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the weights."""
        if self.handle:
            llama_cpp.llama_model_free(self.handle)
            self.handle = None

    @property
    def size(self) -> int:
        """Number of tokens of the vocabulary."""
        return int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))

    @property
    def eos(self) -> int:
        """The token that ends an answer."""
        return int(llama_cpp.llama_vocab_eos(self.vocabulary))

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Token ids of `text`.

        Unless `control`, text that spells a control token (`<|im_end|>`) stays plain characters,
        and so does text that spells a token which llama.cpp would find in any text
        (`<tool_call>`): it is cut after its first character.
        """
        if control or not self._spellings:
            return self._tokenize(text, control)
        cuts = [found.start() + 1 for found in self._spellings.finditer(text)]
        parts = [text[start:stop] for start, stop in pairwise([0, *cuts, len(text)])]
        return [token for part in parts for token in self._tokenize(part, False)]

    @cached_property
    def _spellings(self) -> re.Pattern[str] | None:
        """The user-defined tokens of more than one character that are not blank."""
        texts = [
            self.piece(token).decode() for token in range(self.size) if self._user_defined(token)
        ]
        marks = sorted((text for text in texts if len(text.strip()) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, marks))) if marks else None

    def _user_defined(self, token: int) -> bool:
        attributes = llama_cpp.llama_vocab_get_attr(self.vocabulary, token)
        return bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    def _tokenize(self, text: str, control: bool) -> list[int]:
        raw = text.encode()
        room = len(raw) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), ids, room, False, control)
        if count < 0:
            raise RecError(f"{self.path}: llama.cpp cannot tokenize {text[:40]!r}")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; empty for a control token."""
        buffer = ctypes.create_string_buffer(256)
        count = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, 256, 0, False)
        return buffer.raw[: max(count, 0)]

    @cached_property
    def pieces(self) -> list[bytes]:
        """`piece` of every token."""
        return [self.piece(token) for token in range(self.size)]

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids; control tokens are left out."""
        return b"".join([self.pieces[token] for token in ids]).decode("utf-8", errors="replace")

    def is_text(self, token: int) -> bool:
        """Whether a token is text: no control or user-defined one, and none that ends an answer."""
        return not (
            llama_cpp.llama_vocab_is_control(self.vocabulary, token)
            or llama_cpp.llama_vocab_is_eog(self.vocabulary, token)
            or (self._user_defined(token) and self.piece(token).strip())
        )

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the model's own chat template, ready for an answer.

        The template's control tokens become tokens; the messages' texts are plain characters,
        whatever they spell. Raises RecError where the template refuses the messages.
        """
        mark = _absent([message["content"] for message in messages])
        marked = [
            {"role": message["role"], "content": mark + message["content"] + mark}
            for message in messages
        ]
        try:
            parts = str(self._formatter(messages=marked).prompt).split(mark)
        except (TemplateError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RecError(f"{self.path}: the chat template fails: {reason}") from error
        if len(parts) != 2 * len(marked) + 1:
            raise RecError(f"{self.path}: the chat template leaves out or repeats a message")
        ids: list[int] = []
        for index, part in enumerate(parts):
            ids += self.tokenize(part, control=index % 2 == 0)
        return ids

    @cached_property
    def _formatter(self) -> Any:
        template = llama_cpp.llama_model_chat_template(self.handle, None)
        if not template:
            raise RecError(f"{self.path}: the GGUF holds no chat template; use an instruct model")
        bos = llama_cpp.llama_vocab_bos(self.vocabulary)
        formatter = Jinja2ChatFormatter(
            template.decode(),
            eos_token=self._control_text(self.eos),
            bos_token=self._control_text(bos) if bos >= 0 else "",
        )
        # A prompt must not change with the date of the run.
        formatter.strftime_now = lambda _format: "26 Jul 2024"
        return formatter

    def _control_text(self, token: int) -> str:
        return str(llama_cpp.llama_vocab_get_text(self.vocabulary, token).decode())


def _absent(texts: Sequence[str]) -> str:
    """A mark that no text holds, to find the texts by in a rendered template.

    It stands between two private-use characters that differ, so that it cannot overlap itself.
    """
    marks = (f"\ue000{number}\ue001" for number in itertools.count())
    return next(mark for mark in marks if not any(mark in text for text in texts))
