"""What a sampling backend is asked for and what it gives back.

Three backends draw responses: `rec.llm.engine` (llama.cpp in this process), `rec.llm.server` (an
OpenAI-compatible server) and `rec.llm.hf` (transformers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from rec.errors import RecError


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
    seconds: float  # from its first token to its last, other responses beside it
    empty_slots: int = 0  # slots that stayed empty at a server and hold a stand-in


def require_fit(requests: Iterable[Request], longest: int, context: int) -> None:
    """Raise RecError for a prompt that exceeds `context` tokens with a response of `longest`."""
    for request in requests:
        if len(request.prompt) + longest > context:
            raise RecError(
                f"prompt {request.key}: {len(request.prompt)} tokens and a response of up to "
                f"{longest} exceed llm.context ({context}); raise it or lower prompts.history"
            )


class Backend(Protocol):
    """Draws responses of one form from one policy."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Yield the responses of all requests as they are finished, in no particular order."""
        ...
