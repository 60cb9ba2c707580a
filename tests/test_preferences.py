from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.config import Pairs
from rec.errors import RecError
from rec.preferences import preference_pairs
from rec.tables import ALL_FOLDS, PAIRS, RESPONSES, SCORES, check_schema
from tests.rerank.builders import prompts_of

EVERYTHING = Pairs(measure="ndcg@5", per_user=1, minimum_margin=0.0, degenerate="drop")


@dataclass(frozen=True)
class Response:
    """A scored response; without a text it has one that no other score has."""

    ndcg: float
    likelihood: float = -1.0
    text: str | None = None
    finish: str = "stop"
    looping: bool = False
    tokens: int = 10
    precision: float | None = None  # MAP@5; as the NDCG where none is told

    def score(self, config: Pairs) -> float:
        """What the response is worth to `config`."""
        if config.measure == "log_likelihood":
            return self.likelihood
        return self.ndcg if config.measure == "ndcg@5" else self.map

    @property
    def map(self) -> float:
        return self.ndcg if self.precision is None else self.precision

    @property
    def words(self) -> str:
        return f"text {self.ndcg} {self.likelihood}" if self.text is None else self.text


def response(ndcg: float, likelihood: float = -1.0, **rest: Any) -> Response:
    return Response(ndcg, likelihood, **rest)


Users = dict[str, list[Response]]
Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def tables(train: Users, valid: Users | None = None) -> Tables:
    """SCORES, RESPONSES and PROMPTS of train and of validation users."""
    splits = dict.fromkeys(train, "train") | dict.fromkeys(valid or {}, "valid")
    users = train | (valid or {})
    rows = [(user, number, one) for user, own in users.items() for number, one in enumerate(own)]
    scores = [
        {
            "user": user,
            "sample": number,
            "fold": 0 if splits[user] == "train" else ALL_FOLDS,
            "ndcg@5": one.ndcg,
            "map@5": one.map,
            "log_likelihood": one.likelihood,
            "lists": 3,
        }
        for user, number, one in rows
    ]
    responses = [
        {
            "key": f"user:{user}",
            "sample": number,
            "text": one.words,
            "token_ids": list(range(one.tokens)),
            "prompt_tokens": 5,
            "response_tokens": one.tokens,
            "finish_reason": one.finish,
            "cut_slots": 0,
            "empty_slots": int(one.words == "none"),
            "looping": one.looping,
            "seed": 1,
        }
        for user, number, one in rows
    ]
    return (
        pl.DataFrame(scores, schema=dict(SCORES)),
        pl.DataFrame(responses, schema=dict(RESPONSES)),
        prompts_of(list(users), splits),
    )


def choose(users: Users, config: Pairs = EVERYTHING) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The train users' pairs, and the metrics."""
    pairs, held_out, metrics = preference_pairs(*tables(users), config)
    assert held_out.is_empty()
    return pairs, metrics


def sides(pairs: pl.DataFrame) -> list[tuple[int, int]]:
    return pairs.select("chosen_sample", "rejected_sample").rows()


class TestChoice:
    def test_best_against_worst(self) -> None:
        own = [response(0.5), response(0.9, text="good!", tokens=5), response(0.1, tokens=7)]
        pairs, metrics = choose({"a": own})
        check_schema(pairs, PAIRS, "pairs")
        row = pairs.row(0, named=True)
        assert (row["key"], row["user"]) == ("user:a", "a")
        assert (row["chosen_sample"], row["rejected_sample"]) == (1, 2)
        assert (row["chosen"], row["chosen_ids"]) == ("good!", [0, 1, 2, 3, 4])
        assert row["messages"] == [{"role": "user", "content": "What does a like?"}]
        assert row["margin"] == pytest.approx(0.8)
        assert (metrics["pairs"], metrics["users"], metrics["ties"]) == (1, 1, 0)

    def test_log_likelihood_breaks_ties(self) -> None:
        own = [response(0.9, -2), response(0.9, -1), response(0.1, -5), response(0.1, -6)]
        pairs, metrics = choose({"a": own})
        assert sides(pairs) == [(1, 3)]
        assert metrics["ties"] == 1

    def test_the_lower_sample_breaks_what_is_left_of_ties(self) -> None:
        own = [response(0.9, text=text) for text in "xy"] + [response(0.1, text=t) for t in "vw"]
        assert sides(choose({"a": own})[0]) == [(0, 3)]

    def test_means_that_differ_in_their_last_bit_tie(self) -> None:
        own = [response(0.3, -2), response(0.1 + 0.2, -1), response(0.1)]
        assert choose({"a": own})[0]["chosen_sample"][0] == 1
        with pytest.raises(RecError):
            choose({"a": [response(0.3), response(0.1 + 0.2, -2)]})

    def test_a_text_counts_once(self) -> None:
        two = replace(EVERYTHING, per_user=2)
        own = [response(0.9, text="x"), response(0.9, text="x "), response(0.1), response(0.2)]
        pairs, metrics = choose({"a": own}, two)
        assert sides(pairs) == [(0, 2)]
        assert metrics["ties"] == 0


class TestMeasure:
    """Two responses that NDCG@5 and MAP@5 rank the other way round, and a third."""

    OWN = (
        response(0.9, -3.5, precision=0.2),
        response(0.1, -2.0, precision=0.8),
        response(0.5, -1.0, precision=0.4),
    )

    @pytest.mark.parametrize(
        ("measure", "expected", "scores"),
        [
            ("ndcg@5", (0, 1), (0.9, 0.1)),
            ("map@5", (1, 0), (0.8, 0.2)),
            ("log_likelihood", (2, 0), (-1.0, -3.5)),
        ],
    )
    def test_decides_which_response_is_better(
        self, measure: str, expected: tuple[int, int], scores: tuple[float, float]
    ) -> None:
        config = replace(EVERYTHING, measure=measure)
        valid = {"v": list(self.OWN)}
        pairs, held_out, metrics = preference_pairs(*tables({"a": list(self.OWN)}, valid), config)
        for table in (pairs, held_out):
            assert sides(table) == [expected]
            assert table.select("chosen_score", "rejected_score").row(0) == scores
            assert table["margin"][0] == pytest.approx(scores[0] - scores[1])
        assert metrics["measure"] == metrics["held_out"]["measure"] == measure
        assert metrics["margin"]["mean"] == pytest.approx(scores[0] - scores[1])

    def test_has_ties_of_its_own(self) -> None:
        own = [response(0.9, -2, precision=0.5), response(0.8, -1, precision=0.5), response(0.1)]
        pairs, metrics = choose({"a": own}, replace(EVERYTHING, measure="map@5"))
        assert (sides(pairs), metrics["ties"]) == ([(1, 2)], 1)
        assert choose({"a": own})[1]["ties"] == 0

    def test_its_margin_is_what_the_minimum_is_of(self) -> None:
        own = [response(0.9, precision=0.3), response(0.1, precision=0.25)]
        config = replace(EVERYTHING, minimum_margin=0.1)
        assert sides(choose({"a": own}, config)[0]) == [(0, 1)]
        with pytest.raises(RecError, match="no preference pair is left"):
            choose({"a": own}, replace(config, measure="map@5"))


FIVE = [response(ndcg) for ndcg in (0.5, 0.9, 0.1, 0.7, 0.3)]


class TestSeveralPairs:
    @pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (3, 2), (9, 2)])
    def test_second_best_with_second_worst(self, count: int, expected: int) -> None:
        pairs, metrics = choose({"a": FIVE}, replace(EVERYTHING, per_user=count))
        assert sides(pairs) == [(1, 2), (3, 4)][:expected]
        assert (metrics["pairs"], metrics["users_with_pair"]) == (expected, 1)
        assert set(metrics["dropped_pairs"].values()) == {0}

    def test_a_smaller_margin_drops_the_later_pairs(self) -> None:
        config = replace(EVERYTHING, per_user=2, minimum_margin=0.5)
        pairs, metrics = choose({"a": FIVE}, config)
        assert sides(pairs) == [(1, 2)]
        assert (metrics["dropped"]["margin"], metrics["dropped_pairs"]["margin"]) == (0, 1)

    def test_users_stand_in_order_best_pair_first(self) -> None:
        pairs, _ = choose({"b": FIVE, "a": FIVE}, replace(EVERYTHING, per_user=2))
        assert pairs["user"].to_list() == ["a", "a", "b", "b"]
        assert sides(pairs) == [(1, 2), (3, 4)] * 2

    def test_maximum_is_over_all_pairs(self) -> None:
        other = [response(0.6), response(0.1)]
        config = replace(EVERYTHING, per_user=2, maximum=2)
        pairs, metrics = choose({"a": other, "b": FIVE}, config)
        assert pairs["user"].to_list() == ["a", "b"]
        assert metrics["dropped_pairs"]["maximum"] == 1
        assert metrics["dropped"]["maximum"] == 0


class TestCutResponses:
    def test_another_worst_is_taken(self) -> None:
        own = [response(0.9), response(0.1, finish="length"), response(0.4)]
        pairs, metrics = choose({"a": own})
        assert sides(pairs) == [(0, 2)]
        assert metrics["cut_spared"] == 1

    def test_unless_all_others_are_cut(self) -> None:
        own = [response(0.9), response(0.1, finish="length"), response(0.4, finish="length")]
        pairs, metrics = choose({"a": own})
        assert sides(pairs) == [(0, 1)]
        assert metrics["cut_spared"] == 0

    def test_unless_no_whole_one_fits_in_length(self) -> None:
        own = [response(0.9), response(0.1, finish="length"), response(0.4, tokens=90)]
        pairs, metrics = choose({"a": own}, replace(EVERYTHING, length_ratio=2.0))
        assert sides(pairs) == [(0, 1)]
        assert metrics["cut_spared"] == 0


class TestLength:
    RATIO = replace(EVERYTHING, length_ratio=1.2)

    def test_the_worst_that_fits_is_rejected(self) -> None:
        own = [
            response(0.9, tokens=100),
            response(0.1, tokens=121),
            response(0.2, tokens=83),
            response(0.3, tokens=120),
            response(0.4, tokens=100),
        ]
        assert sides(choose({"a": own}, self.RATIO)[0]) == [(0, 3)]
        assert sides(choose({"a": own})[0]) == [(0, 1)]
        assert sides(choose({"a": own}, replace(EVERYTHING, length_ratio=1.0))[0]) == [(0, 4)]

    def test_a_ratio_is_met_exactly(self) -> None:
        own = [response(0.9, tokens=113), response(0.1, tokens=100)]  # 1.13 * 100 < 113 in floats
        assert sides(choose({"a": own}, replace(EVERYTHING, length_ratio=1.13))[0]) == [(0, 1)]

    def test_users_without_one_that_fits_are_counted(self) -> None:
        users = {
            "kept": [response(0.9), response(0.1)],
            "none": [response(0.9, tokens=20), response(0.5), response(0.1)],
        }
        pairs, metrics = choose(users, self.RATIO)
        assert pairs["user"].to_list() == ["kept"]
        assert metrics["dropped"]["length"] == metrics["dropped_pairs"]["length"] == 1

    def test_each_best_response_meets_one_of_its_own_length(self) -> None:
        lengths = [(0.9, 20), (0.8, 10), (0.7, 40), (0.3, 20), (0.2, 10), (0.1, 10)]
        own = [response(ndcg, tokens=tokens) for ndcg, tokens in lengths]
        pairs, metrics = choose({"a": own}, replace(self.RATIO, per_user=3))
        assert sides(pairs) == [(0, 3), (1, 5)]
        assert (metrics["dropped"]["length"], metrics["dropped_pairs"]["length"]) == (0, 1)


LOOPS_AT_THE_ENDS = [
    response(0.9, looping=True),
    response(0.8),
    response(0.4),
    response(0.1, looping=True),
]


class TestDegenerate:
    @pytest.mark.parametrize(("policy", "expected"), [("drop", (1, 2)), ("keep", (0, 3))])
    def test_they_never_enter_a_pair_unless_kept(
        self, policy: str, expected: tuple[int, int]
    ) -> None:
        pairs, metrics = choose({"a": LOOPS_AT_THE_ENDS}, replace(EVERYTHING, degenerate=policy))
        assert sides(pairs) == [expected]
        assert metrics["degenerate_responses"] == 2

    def test_empty_ones_are_counted_once(self) -> None:
        own = [*LOOPS_AT_THE_ENDS, response(0.2, text=" ", looping=True)]
        metrics = choose({"a": own}, replace(EVERYTHING, degenerate="keep"))[1]
        assert (metrics["empty_responses"], metrics["degenerate_responses"]) == (1, 2)


class TestDrops:
    def test_by_reason(self) -> None:
        users = {
            "kept": [response(0.9), response(0.1)],
            "level": [response(0.5, -1), response(0.5, -2)],
            "loops": [response(0.5), response(0.1, looping=True)],
            "same": [response(0.9, text="x"), response(0.1, text="x ")],
            "single": [response(0.9), response(0.1, text="  ")],
            "slot": [response(0.9), response(0.1, text="none")],
            "small": [response(0.51), response(0.5)],
        }
        config = replace(EVERYTHING, minimum_margin=0.005, maximum=1)
        pairs, metrics = choose(users, config)
        assert pairs["user"].to_list() == ["kept"]
        assert metrics["dropped"] == {
            "one_response": 2,
            "degenerate": 1,
            "identical": 1,
            "length": 0,
            "margin": 1,
            "maximum": 1,
        }
        assert metrics["dropped_pairs"] == {"length": 0, "margin": 1, "maximum": 1}
        assert metrics["empty_responses"] == 2

    def test_the_margin_must_be_above_the_minimum(self) -> None:
        users = {"a": [response(0.75), response(0.5)], "b": [response(0.875), response(0.5)]}
        pairs, _ = choose(users, replace(EVERYTHING, minimum_margin=0.25))
        assert pairs["user"].to_list() == ["b"]

    def test_maximum_keeps_the_largest_margins_ties_by_user(self) -> None:
        users = {
            user: [response(best), response(0.25)]
            for user, best in (("d", 0.5), ("c", 0.75), ("a", 0.5), ("b", 0.5))
        }
        pairs, metrics = choose(users, replace(EVERYTHING, maximum=2))
        assert pairs["user"].to_list() == ["a", "c"]
        assert metrics["dropped"]["maximum"] == 2

    def test_none_left_says_what_to_change(self) -> None:
        expected = r"of 1 users \(margin 1\): lower pairs\.minimum_margin \(0\.0\), or raise pairs"
        with pytest.raises(RecError, match=expected):
            choose({"a": [response(0.5), response(0.5, -3)]})


class TestMetrics:
    def test_by_hand(self) -> None:
        margins = [(0.1, 12), (0.2, 10), (0.3, 8), (0.4, 14)]
        users = {
            f"u{number}": [response(0.5 + margin, tokens=tokens), response(0.5)]
            for number, (margin, tokens) in enumerate(margins)
        }
        _, metrics = choose(users)
        quantiles = {"p10": 0.13, "p25": 0.175, "median": 0.25, "p75": 0.325, "p90": 0.37}
        assert metrics["margin"] == pytest.approx({"mean": 0.25, **quantiles})
        # Differences 2, 0, -2, 4 about their mean: 1, -1, -3, 3; margins: -3, -1, 1, 3 by 20.
        lengths = metrics["length_difference"]
        assert lengths["correlation_with_margin"] == pytest.approx(0.2, abs=1e-6)
        assert (lengths["mean"], lengths["mean_absolute"]) == (1, 2)
        assert (lengths["chosen_longer"], lengths["chosen_shorter"]) == (0.5, 0.25)

    def test_one_pair_has_no_correlation(self) -> None:
        _, metrics = choose({"a": [response(0.9), response(0.1)]})
        assert metrics["length_difference"]["correlation_with_margin"] is None
        assert metrics["margin"]["p10"] == metrics["margin"]["p90"] == pytest.approx(0.8)


TWO = {"a": [response(0.9), response(0.1)]}


class TestHeldOut:
    def test_validation_users_by_the_same_rules_without_a_maximum(self) -> None:
        own = [response(0.9), response(0.6), response(0.2), response(0.1, looping=True)]
        valid = {"v": own, "w": own}
        config = replace(EVERYTHING, maximum=1)
        pairs, held_out, metrics = preference_pairs(*tables(TWO, valid), config)
        check_schema(held_out, PAIRS, "pairs")
        assert pairs["user"].to_list() == ["a"]
        assert held_out["user"].to_list() == ["v", "w"]
        assert sides(held_out) == [(0, 2), (0, 2)]
        assert (metrics["users"], metrics["held_out"]["users"]) == (1, 2)
        assert metrics["held_out"]["degenerate_responses"] == 2

    def test_train_pairs_do_not_depend_on_them(self) -> None:
        users = {"a": [response(0.9), response(0.5), response(0.1)]}
        alone, metrics = choose(users)
        valid = {"b": [response(1.0), response(0.0)]}
        pairs, _, both = preference_pairs(*tables(users, valid), EVERYTHING)
        assert pairs.equals(alone)
        assert {**both, "held_out": None} == {**metrics, "held_out": None}

    @pytest.mark.parametrize(
        "valid", [{}, {"v": [response(0.9)]}, {"v": [response(0.5), response(0.5, -2)]}]
    )
    def test_there_may_be_none(self, valid: Users) -> None:
        _, held_out, metrics = preference_pairs(*tables(TWO, valid), EVERYTHING)
        check_schema(held_out, PAIRS, "pairs")
        assert held_out.is_empty()
        assert metrics["held_out"]["pairs"] == metrics["held_out"]["users_with_pair"] == 0
        assert set(metrics["held_out"]["margin"].values()) == {None}
        assert set(metrics["held_out"]["length_difference"].values()) == {None}
        assert sum(metrics["held_out"]["dropped"].values()) == len(valid)

    def test_they_are_no_stand_in_for_train_pairs(self) -> None:
        valid = {"v": [response(0.9), response(0.1)]}
        with pytest.raises(RecError, match="no preference pair is left of 1 users"):
            preference_pairs(*tables({"t": [response(0.9)]}, valid), EVERYTHING)


class TestBadInput:
    @pytest.mark.parametrize(
        ("split", "fold"), [("train", ALL_FOLDS), ("valid", 0), ("test", 0), ("test", ALL_FOLDS)]
    )
    def test_users_that_have_no_place_in_pairs(self, split: str, fold: int) -> None:
        scores, responses, prompts = tables(TWO)
        scores = scores.with_columns(fold=pl.lit(fold, pl.Int32))
        prompts = prompts.with_columns(split=pl.lit(split))
        with pytest.raises(RecError, match=f"user 'a' is of split '{split}' and has fold {fold};"):
            preference_pairs(scores, responses, prompts, EVERYTHING)

    def test_a_user_without_prompt(self) -> None:
        scores, responses, prompts = tables(TWO)
        with pytest.raises(RecError, match="user 'a' has no prompt"):
            preference_pairs(scores, responses, prompts.clear(), EVERYTHING)

    def test_a_score_without_response(self) -> None:
        scores, responses, prompts = tables(TWO)
        with pytest.raises(RecError, match="sample 0 of user 'a' has no response"):
            preference_pairs(scores, responses.clear(), prompts, EVERYTHING)


RESPONSE = st.builds(
    Response,
    ndcg=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    precision=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    likelihood=st.sampled_from([-3.0, -2.0, -1.0]),
    text=st.sampled_from(["", "none", "a", "b", "c d", "e f g", "h", "i"]),
    finish=st.sampled_from(["stop", "length"]),
    looping=st.booleans(),
    tokens=st.integers(1, 12),
)
USERS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(RESPONSE, min_size=1, max_size=8), min_size=1
)
CONFIG = st.builds(
    Pairs,
    measure=st.sampled_from(["ndcg@5", "map@5", "log_likelihood"]),
    per_user=st.integers(1, 4),
    minimum_margin=st.sampled_from([0.0, 0.3]),
    length_ratio=st.sampled_from([None, 1.0, 1.5]),
    degenerate=st.sampled_from(["drop", "keep"]),
    maximum=st.sampled_from([None, 1, 3]),
)


@given(users=USERS, config=CONFIG, seed=st.integers(0, 9))
def test_properties(users: Users, config: Pairs, seed: int) -> None:
    train = {user: own for user, own in users.items() if user in "abcde"}
    given_tables = tables(train, {user: own for user, own in users.items() if user not in train})
    try:
        pairs, held_out, metrics = preference_pairs(*given_tables, config)
    except RecError as error:
        assert "no preference pair" in str(error)
        return
    for table, figures in ((pairs, metrics), (held_out, metrics["held_out"])):
        assert (table.height, config.measure) == (figures["pairs"], figures["measure"])
        assert figures["users_with_pair"] + sum(figures["dropped"].values()) == figures["users"]
        assert table["user"].to_list() == sorted(table["user"])
        for row in table.iter_rows(named=True):
            _check_pair(row, users[row["user"]], config)
        for own in table.partition_by("user"):
            used = [*own["chosen_sample"], *own["rejected_sample"]]
            assert len(used) == len(set(used)) <= 2 * config.per_user
    assert set(pairs["user"]) <= set(train) and not set(held_out["user"]) & set(train)
    assert pairs.height <= (config.maximum or math.inf)
    shuffled = [table.sample(fraction=1, shuffle=True, seed=seed) for table in given_tables]
    again = preference_pairs(shuffled[0], shuffled[1], shuffled[2], config)
    assert again[0].equals(pairs) and again[1].equals(held_out) and again[2] == metrics


def _check_pair(row: dict[str, Any], own: list[Response], config: Pairs) -> None:
    chosen, rejected = own[row["chosen_sample"]], own[row["rejected_sample"]]
    better, worse = chosen.score(config), rejected.score(config)
    assert (row["chosen_score"], row["rejected_score"]) == (better, worse)
    assert row["margin"] == better - worse > config.minimum_margin
    assert (row["chosen"], row["rejected"]) == (chosen.words, rejected.words)
    assert row["chosen"] != row["rejected"]
    assert not {chosen.words, rejected.words} & {"", "none"}
    if config.degenerate == "drop":
        assert not chosen.looping and not rejected.looping
    if config.length_ratio is not None:
        shorter, longer = sorted((chosen.tokens, rejected.tokens))
        assert longer <= config.length_ratio * shorter


@given(users=USERS, minimum=st.sampled_from([0.0, 0.3]))
def test_the_first_pair_is_the_best_with_the_worst(users: Users, minimum: float) -> None:
    config = replace(EVERYTHING, minimum_margin=minimum, degenerate="keep")
    try:
        pairs, _ = choose(users, config)
    except RecError:
        return
    for row in pairs.iter_rows(named=True):
        own = [one for one in users[row["user"]] if one.words not in ("", "none")]
        assert row["chosen_score"] == max(one.ndcg for one in own)
        different = {one.words for one in own} - {row["chosen"]}
        others = [next(o for o in sorted(own, key=_rank) if o.words == t) for t in different]
        whole = [one for one in others if one.finish != "length"]
        assert row["rejected_score"] == min(one.ndcg for one in whole or others)


def _rank(one: Response) -> tuple[float, float]:
    return (-one.ndcg, -one.likelihood)
