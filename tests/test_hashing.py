"""rec.hashing: the published numbers of SplitMix64, SHA-256 keys, uniform numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.hashing import GOLDEN, keys, mixed, nth, uniform

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=20)
#: The first numbers of SplitMix64 (Vigna's splitmix64.c) for seed 0.
PUBLISHED = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC)


def test_published_numbers() -> None:
    states = np.array([int(GOLDEN) * number % 2**64 for number in range(1, 5)], dtype=np.uint64)
    assert mixed(states).tolist() == list(PUBLISHED)
    zero = np.zeros(1, dtype=np.uint64)
    assert [int(nth(zero, number)[0]) for number in range(4)] == list(PUBLISHED)


def test_mixed_keeps_the_shape_and_its_input() -> None:
    states = np.arange(6, dtype=np.uint64).reshape(2, 3)
    assert mixed(states).shape == (2, 3)
    assert states.ravel().tolist() == list(range(6))


@settings(max_examples=25)
@given(TEXTS)
def test_keys_are_sha256(texts: list[str]) -> None:
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    series = pl.Series(texts, dtype=pl.String)
    assert keys(series).tolist() == [int(digest[:16], 16) for digest in hashes]
    assert uniform(series).tolist() == [int(digest[:13], 16) / 2**52 for digest in hashes]


def test_uniform_fills_its_range_evenly() -> None:
    numbers = uniform(pl.Series([f"text {number}" for number in range(20_000)]))
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
