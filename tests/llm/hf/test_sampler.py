"""rec.llm.hf.sampler and rec.llm.hf.rows: what llama.cpp draws, and a form that is always held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import llama_cpp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from rec.llm.form import Form, TokenSlot, by_policy
from rec.llm.hf.rows import FormTable, Rows
from rec.llm.hf.sampler import draw, penalise, uniform_numbers
from rec.llm.sampler import PENALTY_WINDOW, SamplerSettings, banning, sampler_chain

PLAIN = SamplerSettings(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)
CHAINS = {
    "plain": PLAIN,
    "cold": replace(PLAIN, temperature=0.6),
    "top_k": replace(PLAIN, top_k=5),
    "top_k beyond the vocabulary": replace(PLAIN, top_k=100),
    "top_p": replace(PLAIN, top_p=0.8),
    "top_p of one token": replace(PLAIN, top_p=0.01),
    "min_p": replace(PLAIN, min_p=0.1, temperature=1.6),
    "penalty": replace(PLAIN, repeat_penalty=1.7),
    "all": SamplerSettings(0.8, top_k=9, top_p=0.9, min_p=0.05, repeat_penalty=1.3),
}
BANNED = (2, 11)
GRID = 20_000


def random_logits(tokens: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.0, 2.0, tokens).astype(np.float32)


def llama_shares(
    logits: NDArray[np.float32], settings: SamplerSettings, seen: Sequence[int]
) -> NDArray[np.float64]:
    """The distribution that llama.cpp's chain draws from, after it has seen some tokens."""
    chain = sampler_chain(
        cast(Any, SimpleNamespace(size=len(logits))), settings, 1, banning(BANNED)
    )
    for token in seen:
        llama_cpp.llama_sampler_accept(chain, token)
    data = (llama_cpp.llama_token_data * len(logits))()
    for token, logit in enumerate(logits):
        data[token].id, data[token].logit = token, float(logit)
    array = llama_cpp.llama_token_data_array(data, len(logits), -1, False)
    llama_cpp.llama_sampler_apply(chain, array)
    llama_cpp.llama_sampler_free(chain)
    shares = np.zeros(len(logits))
    for place in range(array.size):
        shares[array.data[place].id] = np.exp(array.data[place].logit)
    result: NDArray[np.float64] = shares / shares.sum()
    return result


def numpy_shares(logits: NDArray[np.float32], settings: SamplerSettings) -> NDArray[np.float64]:
    """The same without a penalty, by its definition."""
    kept = np.argsort(-logits, kind="stable")[: settings.top_k or None]
    values = logits[kept].astype(np.float64)
    shares = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
    kept = kept[: 1 + int((shares.cumsum() < settings.top_p).sum())]
    values = values[: len(kept)]
    inside = values >= values.max() + np.log(settings.min_p) if settings.min_p else values < np.inf
    weights = np.exp((values[inside] - values.max()) / settings.temperature)
    result = np.zeros(len(logits))
    result[kept[inside]] = weights / weights.sum()
    return result


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", list(CHAINS))
def test_distribution_is_that_of_llama_cpp(name: str, seed: int) -> None:
    """An even grid of random numbers shows each token as often as llama.cpp's share of it."""
    settings, logits = CHAINS[name], random_logits(40, seed)
    seen = [int(token) for token in np.random.default_rng(seed).integers(0, 40, 90)]
    rows = torch.from_numpy(logits)[None].clone()
    rows[:, list(BANNED)] = -torch.inf
    if settings.repeat_penalty != 1.0:
        rows = penalise(rows, torch.tensor([seen[-PENALTY_WINDOW:]]), settings.repeat_penalty)
    uniform = (torch.arange(GRID) + 0.5) / GRID
    drawn = draw(rows.expand(GRID, -1), uniform, settings)
    shares = np.bincount(drawn.numpy(), minlength=40) / GRID
    assert np.abs(shares - llama_shares(logits, settings, seen)).max() < 2 / GRID


@pytest.mark.parametrize("name", [name for name in CHAINS if name not in ("penalty", "all")])
def test_draws_follow_the_distribution(name: str) -> None:
    settings, logits, count = CHAINS[name], random_logits(12, 4), 4000
    uniform = uniform_numbers(range(1, 1 + count), 3)[:, 1]
    drawn = draw(torch.from_numpy(logits).expand(count, -1), uniform, settings)
    expected = count * numpy_shares(logits, settings)
    counts = np.bincount(drawn.numpy(), minlength=12)
    assert not counts[expected == 0].any()
    freedom = int((expected > 0).sum()) - 1
    distance = ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert distance < freedom + 4 * np.sqrt(2 * freedom) + 1e-9


def test_greedy_is_the_likeliest() -> None:
    logits = torch.from_numpy(np.stack([random_logits(30, seed) for seed in range(5)]))
    greedy = replace(CHAINS["all"], temperature=0.0)
    assert torch.equal(draw(logits, torch.rand(5), greedy), logits.argmax(-1))


@pytest.mark.parametrize("settings", [PLAIN, replace(PLAIN, top_p=0.0), replace(PLAIN, top_k=1)])
def test_extreme_random_numbers_never_meet_a_banned_token(settings: SamplerSettings) -> None:
    logits = torch.full((2, 50_000), -torch.inf)
    logits[:, 700:30_000] = torch.randn(29_300, generator=torch.Generator().manual_seed(1))
    extreme = torch.tensor([0.0, 1.0 - 2.0**-24])
    assert all(700 <= token < 30_000 for token in draw(logits, extreme, settings).tolist())


def test_random_numbers_are_of_the_seed_alone() -> None:
    together = uniform_numbers([7, 2**31 - 1, 9], 5)
    assert torch.equal(together[2:], uniform_numbers([9], 5))
    assert len(set(together.flatten().tolist())) == 15
    assert together.dtype == torch.float32 and 0 <= together.min() <= together.max() < 1


def test_penalty_without_tokens_changes_nothing() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    none = torch.full((2, PENALTY_WINDOW), 9)
    assert torch.equal(penalise(logits, none, 2.0), logits)


TOKENS = 8  # of the forms below; 0 ends a slot, 7 is banned, 6 is blank


@st.composite
def forms(draw: st.DrawFn) -> Form:
    label = st.lists(st.integers(1, 5), max_size=3).map(tuple)
    slot = st.builds(TokenSlot, label, st.integers(1, 4))
    return Form(tuple(draw(st.lists(slot, min_size=1, max_size=4))), 0, (7,), (0, 6, 7))


def fill(form: Form, wishes: Sequence[Sequence[int]]) -> tuple[int, list[int], list[int]]:
    """The form filled by one who wants, in each step, the first of a list of tokens allowed.

    Cut slots, the tokens, and the tokens that were chosen.
    """
    ids, chosen = [*form.slots[0].label], list[int]()
    cut, step, ended = 0, 0, False
    for number, slot in enumerate(form.slots):
        if number:
            ids += [form.end, *slot.label]
            step += (not ended) + len(slot.label)
        for place in range(slot.limit):
            banned = form.banned if place else form.banned_first
            token = next(token for token in wishes[step] if token not in banned)
            step += 1
            chosen.append(token)
            ended = token == form.end
            if ended:
                break
            ids.append(token)
        cut += not ended
    return cut, ids, chosen


@given(forms(), st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
@examples(max_examples=80)
def test_rows_hold_the_form(form: Form, seeds: list[int]) -> None:
    steps = form.longest + 2  # beyond the end, finished rows stay as they are
    wishes = np.stack(
        [
            [np.random.default_rng([seed, step]).permutation(TOKENS) for step in range(steps)]
            for seed in seeds
        ]
    )
    table = FormTable(form, TOKENS, torch.device("cpu"))
    rows = Rows.start(table, seeds, torch.zeros(3, dtype=torch.int64))
    greedy = replace(PLAIN, temperature=0.0)
    for step in range(steps):
        logits = torch.from_numpy(-wishes[:, step].argsort(-1).astype(np.float32))
        rows.advance(table, logits, greedy)
    assert rows.finished(table) == [True] * 3
    for row, (cut, ids) in enumerate(rows.responses([0, 1, 2])):
        expected_cut, expected, chosen = fill(form, wishes[row].tolist())
        assert (cut, list(ids)) == (expected_cut, expected)
        assert rows.recent[row].tolist() == [TOKENS] * (PENALTY_WINDOW - len(chosen)) + chosen
        assert sum(by_policy(form, ids)[1]) == len(chosen)
    assert rows.select(torch.tensor([2])).responses([0]) == rows.responses([2])
    assert Rows.join([rows, rows]).responses([4]) == rows.responses([1])


def test_each_token_has_its_own_random_number() -> None:
    """Where all tokens are equally likely, the tokens show the random numbers themselves."""
    count, tokens = 2000, 100
    form = Form((TokenSlot((), 3),), 0, (), (0,))
    table = FormTable(form, tokens, torch.device("cpu"))
    rows = Rows.start(table, range(1, 1 + count), torch.zeros(count, dtype=torch.int64))
    for _ in range(3):
        rows.advance(table, torch.zeros(count, tokens), PLAIN)
    ids = np.array([ids for _, ids in rows.responses(range(count)) if len(ids) == 3])
    assert len(ids) > 0.95 * count
    assert np.abs(np.corrcoef(ids.T)[np.triu_indices(3, 1)]).max() < 0.08
    assert all(len(set(column)) == tokens - 1 for column in ids.T)
