"""How many parameters each re-ranker has: what the docstrings say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rec.config import BACKBONES
from rec.rerank.inputs import Shape
from rec.rerank.reranker import Reranker
from tests.rerank.builders import DIMENSION, ranker

SIZES = ranker(embedding=6, hidden=8, knowledge=5, adaptor_hidden=7, experts_shared=2, layers=3)


def block(h: int) -> int:
    return 8 * h**2 + 11 * h


MODELS = {
    "dlcm": lambda h, layers: 6 * h**2 + 6 * h + 2 * h**2 + 2 * h + 2,
    "prm": lambda h, layers: h**2 + layers * block(h) + h + 1,
    "setrank": lambda h, layers: layers * block(h) + h**2 + 2 * h + 1,
    "mir": lambda h, layers: (
        (4 * h**2 + 4 * h)
        + (6 * h**2 + 8 * h)
        + (4 * h**2 + h**2 // 4 + 16)
        + (h + 1)
        + (12 * h**2 + 4 * h + 1)
    ),
}


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("texts", [0, 1, 2])
@pytest.mark.parametrize("similarity", [False, True])
def test_parameters_are_those_of_the_docstrings(
    backbone: str, texts: int, similarity: bool
) -> None:
    config = replace(SIZES, similarity=similarity)
    items, categories = 24, 3
    e, h, k = 2 * config.embedding, config.hidden, config.knowledge
    embeddings = (items + 1 + categories) * config.embedding
    expected = embeddings + 6 * h * (e + 1) + 2 * h**2 + 6 * h
    if backbone == "mir":
        expected = embeddings + 3 * h * (e + 1) + 2 * h
    plain = Reranker(Shape(items, categories), config, backbone)
    assert count(plain.inputs) == expected
    assert count(plain.model) == MODELS[backbone](h, config.layers)
    told = Reranker(Shape(items, categories, DIMENSION, texts), config, backbone)
    more = k * h * (1 + 2 * texts) + (texts * h if similarity else 0)
    assert count(told.inputs) == expected + count(told.inputs.adaptor) + more
    assert count(told.model) == count(plain.model)
