"""rec.interactions: time order, the profile part, the choice of users and the split by hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.errors import RecError
from rec.interactions import (
    choose_users,
    order_interactions,
    require_splits,
    split_users,
    tie_keys,
    tied,
)
from tests.prepared import FILMS, PREPARE, SEED, prepare_rows, regular, tie

#: Distinct pairs of user and item with a rating and a time that is often the same.
PAIRS = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 20)),
    st.tuples(st.integers(1, 5), st.integers(0, 4)),
    max_size=60,
)


KEYS = tuple(
    tie_keys(pl.Series([str(number) for number in range(count)]), SEED) for count in (6, 21)
)


def table(pairs: dict[tuple[int, int], tuple[int, int]]) -> pl.DataFrame:
    rows = [(user, item, rating, second) for (user, item), (rating, second) in pairs.items()]
    schema = {"user": pl.UInt32, "item": pl.UInt32, "rating": pl.Float32, "timestamp": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def people(count: int) -> pl.Series:
    return pl.Series([f"u{number}" for number in range(count)])


@settings(max_examples=60)
@given(PAIRS, st.integers(1, 8))
def test_order_and_profile_part(pairs: dict[tuple[int, int], tuple[int, int]], most: int) -> None:
    expected = []
    for user in range(6):
        own = [(second, item, rating) for (u, item), (rating, second) in pairs.items() if u == user]
        profile = min(most, (len(own) + 1) // 2)
        own.sort(key=lambda each: (each[0], tie(str(user), str(each[1]))))
        expected += [
            (user, item, rating, second, position, position < profile)
            for position, (second, item, rating) in enumerate(own)
        ]
    assert order_interactions(table(pairs), most, *KEYS).rows() == expected


@given(PAIRS, st.randoms(use_true_random=False))
def test_order_is_that_of_the_data_whatever_the_rows(
    pairs: dict[tuple[int, int], tuple[int, int]], random: Random
) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    once, again = (order_interactions(table(made), 3, *KEYS) for made in (pairs, dict(shuffled)))
    assert once.equals(again)


def test_ties_in_time_tell_nothing_of_the_item() -> None:
    """Of 20 items that each of 2,000 users takes at one time, each is as often first as last."""
    pairs = {(user, item): (5, 0) for user in range(2000) for item in range(20)}
    ids = people(2000), pl.Series([f"i{number}" for number in range(20)])
    found = order_interactions(table(pairs), 30, *(tie_keys(each, SEED) for each in ids))
    items = found["item"].to_numpy().reshape(2000, 20).astype(int)
    assert np.abs(items.mean(0) - 9.5).max() < 5 * 5.77 / 2000**0.5
    follows = (np.diff(items) > 0).mean()
    assert follows == pytest.approx(0.5, abs=0.02)
    successor = (np.diff(items) == 1).mean()
    assert successor == pytest.approx(1 / 20, abs=0.01)


def test_tied_interactions_are_counted_on_both_sides() -> None:
    found = tied(np.array([0, 0, 0, 1, 1]), np.array([7, 8, 8, 8, 9]))
    assert found.tolist() == [False, True, True, False, False]


def test_split_is_a_hash_of_the_user() -> None:
    def place(user: str) -> float:
        return int(hashlib.sha256(f"{SEED}:split:{user}".encode()).hexdigest()[:13], 16) / 2**52

    users = people(200)
    found = split_users(users, replace(PREPARE, test_share=0.2, valid_share=0.3), SEED)
    expected = [
        "test" if place(user) < 0.2 else "valid" if place(user) < 0.5 else "train" for user in users
    ]
    assert found.to_list() == expected


def test_split_shares_come_out() -> None:
    prepare = replace(PREPARE, valid_share=0.15, test_share=0.25)
    counts = Counter(split_users(people(4000), prepare, SEED))
    for split, share in {"test": 0.25, "valid": 0.15, "train": 0.6}.items():
        assert counts[split] / 4000 == pytest.approx(share, abs=0.03)


def test_adding_users_leaves_the_others_splits() -> None:
    few, many = (
        dict(zip(people(n), split_users(people(n), PREPARE, 7), strict=True)) for n in (40, 90)
    )
    assert few.items() <= many.items()
    backwards = split_users(people(40).reverse(), PREPARE, 7)
    assert backwards.reverse().to_list() == list(few.values())


def test_another_seed_splits_otherwise() -> None:
    assert not split_users(people(40), PREPARE, 1).equals(split_users(people(40), PREPARE, 2))


def test_chosen_users_are_those_of_the_lowest_hash() -> None:
    users = people(200).sort()
    place = {u: hashlib.sha256(f"{SEED}:keep:{u}".encode()).hexdigest()[:13] for u in users}
    lowest = sorted(place, key=lambda user: place[user])
    for count in (1, 50, 100):
        assert choose_users(users, count, SEED).to_list() == sorted(lowest[:count])
    assert choose_users(users, 999, SEED).equals(users)
    assert choose_users(users, None, SEED).equals(users)


def test_chosen_users_are_no_biased_choice_of_splits() -> None:
    """The hash that keeps a user is not the one that splits."""
    splits = split_users(choose_users(people(4000), 400, SEED), PREPARE, SEED)
    assert Counter(splits)["test"] / 400 == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        ("valid", r"raise prepare\.valid_share"),
        ("test", r"raise prepare\.test_share"),
        ("train", r"lower prepare\.valid_share or prepare\.test_share"),
    ],
)
def test_empty_split_names_the_key(missing: str, advice: str) -> None:
    users = {split: 5 for split in ("train", "valid", "test") if split != missing}
    for counts in (users, users | {missing: 0}):
        with pytest.raises(RecError, match=f"^no user of 10 is in the split '{missing}'; {advice}"):
            require_splits(counts)


def test_empty_split_ends_the_preparation() -> None:
    with pytest.raises(RecError, match=r"no user of 40 .*'valid'; raise prepare\.valid_share"):
        prepare_rows(regular(), FILMS, replace(PREPARE, valid_share=0.0))
    with pytest.raises(RecError, match=r"no user of 1 .*keep more users \(prepare\.users\)"):
        prepare_rows(regular(), FILMS, replace(PREPARE, users=1))
