"""Responses that transformers computes together: their rows, and their keys and values.

Prompts of different lengths are padded on the left, so that the last column of the cache is
everyone's last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from rec.llm.hf.rows import Rows
from rec.llm.request import Request


@dataclass(eq=False)
class Sample:
    """A response that is wanted, and when its prompt's turn came."""

    request: Request
    index: int
    started: float = 0.0


@dataclass(eq=False)
class Flight:
    """Responses in flight, a row each. A sample is None once its response was given back."""

    rows: Rows
    cache: DynamicCache
    samples: list[Sample | None]

    @property
    def alive(self) -> list[Sample]:
        """The samples that are not finished."""
        return [sample for sample in self.samples if sample]

    @property
    def sparse(self) -> bool:
        """Whether half of the rows or more are finished."""
        return 2 * len(self.alive) <= len(self.samples)

    def drop_finished(self) -> None:
        """Leave out the rows of finished responses, and columns that are padding in all others."""
        places = [place for place, sample in enumerate(self.samples) if sample]
        index = torch.tensor(places, device=self.rows.pad.device)
        self.samples = list(self.alive)
        self.rows = self.rows.select(index)
        blank = int(self.rows.pad.min())
        self.rows.pad = self.rows.pad - blank
        for layer in self.cache.layers:
            layer.keys = layer.keys[index, :, blank:]
            layer.values = layer.values[index, :, blank:]


def join(flights: Sequence[Flight]) -> Flight:
    """One flight of all rows, the shorter ones padded; the caches of `flights` are used up."""
    length = max(flight.cache.get_seq_length() for flight in flights)
    blanks = [length - flight.cache.get_seq_length() for flight in flights]
    for flight, blank in zip(flights, blanks, strict=True):
        flight.rows.pad = flight.rows.pad + blank
    data = []
    for layers in zip(*(flight.cache.layers for flight in flights), strict=True):
        places = list(zip(layers, blanks, strict=True))
        keys = torch.cat([pad(layer.keys, (0, 0, blank, 0)) for layer, blank in places])
        values = torch.cat([pad(layer.values, (0, 0, blank, 0)) for layer, blank in places])
        data.append((keys, values))
        for layer in layers:
            layer.reset()
    samples = [sample for flight in flights for sample in flight.samples]
    return Flight(Rows.join([flight.rows for flight in flights]), DynamicCache(data), samples)


def by_prompt(samples: Sequence[Sample], most: int) -> list[list[list[Sample]]]:
    """Groups of prompts, each prompt as its samples; neighbours of one request stay together.

    A group's prompts, padded to its longest, are at most `most` tokens, or it is one prompt.
    """
    groups: list[list[list[Sample]]] = []
    width = 0
    for _, siblings in groupby(samples, key=lambda sample: id(sample.request)):
        prompt = list(siblings)
        length = len(prompt[0].request.prompt)
        width = max(width, length)
        if not groups or width * (len(groups[-1]) + 1) > most:
            groups.append([])
            width = length
        groups[-1].append(prompt)
    return groups
