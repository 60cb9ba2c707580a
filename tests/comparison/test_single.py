from __future__ import annotations

import polars as pl
import pytest

from rec.comparison.result import Estimate
from rec.comparison.single import own_values
from rec.comparison.users import Run
from rec.errors import RecError
from tests.comparison.made import PROTOCOLS, first_hit, table, users_of
from tests.synthetic_run import comparison, user_metrics

ONE, OTHER = Run("1", "prm", 1), Run("1", "prm", 2)
#: Hit rates@1 of .5 and 1.
TEST = {"a": first_hit(1, 2), "b": first_hit(1)}
VALID = {"c": first_hit(3)}


def by_hand() -> pl.DataFrame:
    """Two test users and one of validation; another seed, with which no first item is a hit."""
    worse = {"a": first_hit(2, 2), "b": first_hit(3)}
    made = [
        (run, pl.concat([table(run, ranked), table(run, VALID, "valid")]))
        for run, ranked in ((ONE, TEST), (OTHER, worse))
    ]
    return users_of(*made)


def test_the_mean_and_interval_are_of_one_run_over_test_users() -> None:
    """A resample of two users has a mean of .5, .75 or 1, the ends in a quarter of cases each."""
    users = by_hand()
    found = own_values(users, ONE, ["popularity"], "hit_rate@1", 400, 1)
    assert found == {"popularity": Estimate(0.75, 0.5, 1.0)}
    assert own_values(users, OTHER, ["popularity"], "hit_rate@1", 400, 1) == {
        "popularity": Estimate(0.0, 0.0, 0.0)
    }


def test_single_runs_average_to_the_comparison() -> None:
    users, found = user_metrics(), comparison()
    for protocol in PROTOCOLS:
        own = [
            own_values(users, ("2", backbone, seed), PROTOCOLS, "ndcg@5", 100, 1)[protocol].value
            for backbone in found.backbones
            for seed in found.seeds
        ]
        assert len(set(own)) == 4
        mean = found.family(protocol, "ndcg@5").values["round_2"].value
        assert sum(own) / 4 == pytest.approx(mean, abs=1e-6)


def test_the_order_of_the_table_changes_nothing() -> None:
    users = user_metrics()
    shuffled = users.sample(fraction=1, shuffle=True, seed=4)
    run = ("1", "dlcm", 2)
    same = [own_values(t, run, PROTOCOLS, "ndcg@5", 50, 3) for t in (users, shuffled)]
    assert same[0] == same[1]


@pytest.mark.parametrize(("run", "protocol"), [(("3", "prm", 1), "popularity"), (ONE, "shown")])
def test_a_run_that_is_not_there_is_refused(run: Run, protocol: str) -> None:
    with pytest.raises(RecError, match=f"metrics of users: no run .* of protocol {protocol}"):
        own_values(user_metrics(), run, [protocol], "ndcg@5", 50, 1)
