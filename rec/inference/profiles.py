"""Profiles: what an LLM writes about histories, as the pipeline prompts it and samples."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from rec.config import Params
from rec.llm.backends import Policy, open_backend
from rec.llm.model import Model
from rec.llm.request import Request, Response, require_fit
from rec.prompts import is_rated
from rec.responses import response_form
from rec.sampling import prompt_request

#: Told of a profile while it is written: its key, its sample, and the text that was added.
Told = Callable[[str, int, str], None]


@dataclass(frozen=True)
class Profile:
    """A text about a user."""

    key: str  # of the prompt
    sample: int
    text: str
    tokens: int
    cut_slots: int  # slots of the form that met their limit
    seed: int

    @classmethod
    def of(cls, drawn: Response, model: Model) -> Profile:
        """The profile that a response is."""
        return cls(
            key=drawn.key,
            sample=drawn.sample,
            text=model.detokenize(drawn.token_ids).strip(),
            tokens=len(drawn.token_ids),
            cut_slots=drawn.cut_slots,
            seed=drawn.seed,
        )


def write_profiles(
    prompts: pl.DataFrame,
    policy: Policy,
    params: Params,
    count: int,
    *,
    together: bool = True,
    told: Told | None = None,
) -> Iterator[Profile]:
    """Yield `count` profiles per prompt, in the order of the prompts (table PROMPTS).

    Form, sampler, seed and backend are those of the parameters, so that a prepared user's profiles
    are the pipeline's but for rounding; nothing is kept in the response store. Many are drawn
    `together`, else one after the other. The model is loaded once. Where llama.cpp draws, `told` is
    told of each token. Raises RecError where a prompt is too long, or the backend fails.
    """
    settings, machine = params.sampling, params.machine
    if not together:
        machine = replace(machine, parallel_sequences=1)
    policy.files(settings.backend)
    here = settings.backend == "llama_cpp"
    with Model(policy.gguf, vocabulary_only=not here) as model:
        form = response_form(
            model,
            params.data.domain,
            params.prompts.response,
            settings.slot_tokens,
            settings.text_tokens,
            rated=is_rated(params),
        )
        requests = [
            prompt_request(model, row["key"], row["messages"], count, params.seed)
            for row in prompts.iter_rows(named=True)
        ]
        require_fit(requests, form.longest, params.llm.context)
        cells = max(len(request.prompt) for request in requests) + form.longest
        watch = _Decoder(model, told) if told else None
        with open_backend(
            policy, model, form, settings, machine, context=cells, loaded=here, watch=watch
        ) as backend:
            drawn = (Profile.of(response, model) for response in backend.generate(requests))
            yield from _in_order(drawn, requests)


def _in_order(profiles: Iterable[Profile], requests: Sequence[Request]) -> Iterator[Profile]:
    """The profiles as they were asked for: one that is early waits for those before it."""
    early: dict[tuple[str, int], Profile] = {}
    wanted = ((request.key, sample) for request in requests for sample in request.seeds)
    place = next(wanted, None)
    for profile in profiles:
        early[profile.key, profile.sample] = profile
        while place in early:
            yield early.pop(place)
            place = next(wanted, None)


class _Decoder:
    """From tokens to text: a character may be spread over several tokens."""

    def __init__(self, model: Model, told: Told) -> None:
        self.model, self.told = model, told
        self.at: tuple[str, int] | None = None

    def __call__(self, key: str, sample: int, tokens: Sequence[int]) -> None:
        if (key, sample) != self.at:
            self.at, self.begun = (key, sample), False
            self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = self.decoder.decode(b"".join(self.model.piece(token) for token in tokens))
        text = text if self.begun else text.lstrip()
        if text:
            self.begun = True
            self.told(key, sample, text)
