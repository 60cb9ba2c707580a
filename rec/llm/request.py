"""What a sampling backend is asked for and what it gives back.

Three backends draw responses: `rec.llm.engine` (llama.cpp in this process), `rec.llm.server` (an
OpenAI-compatible server) and `rec.llm.hf` (transformers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """A prompt in tokens, and the seed of each sample wanted, by the sample's index."""

    key: str
    prompt: tuple[int, ...]
    seeds: Mapping[int, int]


@dataclass(frozen=True)
class Response:
    """A response in tokens, without the token that ends it."""

    key: str
    sample: int
    seed: int
    prompt_tokens: int
    token_ids: tuple[int, ...]
    cut_slots: int  # how many slots met their limit
    seconds: float  # from the prompt's turn to the last token, other responses beside it


class Backend(Protocol):
    """Draws responses of one form from one policy."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Yield the responses of all requests as they are finished, in no particular order."""
        ...
