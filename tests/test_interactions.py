"""rec.interactions: time order, the profile part, the choice of users and the split by hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.errors import RecError
from rec.interactions import choose_users, order_interactions, require_splits, split_users
from tests.prepared import FILMS, PREPARE, SEED, prepare_rows, regular

#: Distinct pairs of user and item with a rating and a time that is often the same.
PAIRS = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 20)),
    st.tuples(st.integers(1, 5), st.integers(0, 4)),
    max_size=60,
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
        expected += [
            (user, item, rating, second, position, position < profile)
            for position, (second, item, rating) in enumerate(sorted(own))
        ]
    assert order_interactions(table(pairs), most).rows() == expected


def test_ties_in_time_stand_in_the_order_of_items() -> None:
    rows = order_interactions(table({(0, 9): (1, 5), (0, 2): (1, 5), (0, 3): (1, 4)}), 30)
    assert rows["item"].to_list() == [3, 2, 9]
    assert rows["profile"].to_list() == [True, True, False]


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
