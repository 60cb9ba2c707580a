"""The k-core: the users and the items that are left when those with too few have gone.

In the core every user has at least `minimum_interactions` and every item at least
`minimum_item_interactions` of those that are kept. Dropping a user can leave an item short and the
reverse, so both are dropped in turn until nothing changes: the largest such set in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
#: Pairs in parts that fit memory, users [p] and items [p] of each; called for each time through.
Pairs = Callable[[], Iterator[tuple[Integers, Integers]]]


def k_core(
    pairs: Pairs, users: int, items: int, minimum_user: int, minimum_item: int
) -> tuple[Booleans, Booleans]:
    """The users [users] and the items [items] of the core of distinct `pairs`.

    By hand: users a, b with items 1, 2 and user c with items 2, 3, both minimums 2: item 3 has one
    interaction and goes, c is left with one and goes; a, b, 1 and 2 stay.
    """
    kept_users, kept_items = np.ones(users, dtype=np.bool_), np.ones(items, dtype=np.bool_)
    while True:
        by_user, by_item = degrees(pairs, kept_users, kept_items)
        stay_users = kept_users & (by_user >= minimum_user)
        stay_items = kept_items & (by_item >= minimum_item)
        if stay_users.sum() + stay_items.sum() == kept_users.sum() + kept_items.sum():
            return kept_users, kept_items
        kept_users, kept_items = stay_users, stay_items


def degrees(pairs: Pairs, users: Booleans, items: Booleans) -> tuple[Integers, Integers]:
    """Interactions of each user and of each item, of those whose user and item are kept."""
    by_user = np.zeros(len(users), dtype=np.int64)
    by_item = np.zeros(len(items), dtype=np.int64)
    for user, item in pairs():
        both = users[user] & items[item]
        by_user += np.bincount(user[both], minlength=len(users))
        by_item += np.bincount(item[both], minlength=len(items))
    return by_user, by_item
