import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.config import Pairs
from rec.errors import RecError
from rec.preferences import preference_pairs
from rec.tables import PAIRS, RESPONSES, SCORES, check_schema
from tests.rerank.builders import prompts_of

Response = tuple[float, float, str, str]  # NDCG@5, log-likelihood, text, finish reason
EVERYTHING = Pairs(minimum_margin=0.0)


def response(
    ndcg: float, likelihood: float = -1.0, text: str | None = None, finish: str = "stop"
) -> Response:
    return (ndcg, likelihood, f"text {ndcg} {likelihood}" if text is None else text, finish)


def choose(
    users: dict[str, list[Response]], config: Pairs = EVERYTHING, split: str = "train"
) -> tuple[pl.DataFrame, dict[str, Any]]:
    rows = [(user, number, *one) for user, own in users.items() for number, one in enumerate(own)]
    scores = pl.DataFrame(
        [
            {
                "user": user,
                "sample": number,
                "fold": 0,
                "ndcg@5": ndcg,
                "map@5": ndcg,
                "log_likelihood": likelihood,
                "lists": 3,
            }
            for user, number, ndcg, likelihood, _, _ in rows
        ],
        schema=dict(SCORES),
    )
    responses = pl.DataFrame(
        [
            {
                "key": f"user:{user}",
                "sample": number,
                "text": text,
                "token_ids": list(range(len(text))),
                "prompt_tokens": 5,
                "response_tokens": len(text),
                "finish_reason": finish,
                "empty_slots": int(text == "none"),
                "seed": 1,
            }
            for user, number, _, _, text, finish in rows
        ],
        schema=dict(RESPONSES),
    )
    prompts = prompts_of(list(users), dict.fromkeys(users, split))
    return preference_pairs(scores, responses, prompts, config)


class TestChoice:
    def test_best_against_worst(self) -> None:
        pairs, metrics = choose({"a": [response(0.5), response(0.9, text="good!"), response(0.1)]})
        check_schema(pairs, PAIRS, "pairs")
        row = pairs.row(0, named=True)
        assert (row["key"], row["user"]) == ("user:a", "a")
        assert (row["chosen_sample"], row["rejected_sample"]) == (1, 2)
        assert (row["chosen"], row["chosen_ids"]) == ("good!", [0, 1, 2, 3, 4])
        assert row["messages"] == [{"role": "user", "content": "What does a like?"}]
        assert row["margin"] == pytest.approx(0.8)
        assert metrics["mean_length_difference"] == len("good!") - len("text 0.1 -1.0")
        assert (metrics["pairs"], metrics["users"], metrics["ties"]) == (1, 1, 0)

    def test_log_likelihood_breaks_ties(self) -> None:
        own = [response(0.9, -2), response(0.9, -1), response(0.1, -5), response(0.1, -6)]
        pairs, metrics = choose({"a": own})
        assert pairs.row(0, named=True)["chosen_sample"] == 1
        assert pairs.row(0, named=True)["rejected_sample"] == 3
        assert metrics["ties"] == 1

    def test_means_that_differ_in_their_last_bit_tie(self) -> None:
        own = [response(0.3, -2), response(0.1 + 0.2, -1), response(0.1)]
        assert choose({"a": own})[0]["chosen_sample"][0] == 1
        with pytest.raises(RecError):
            choose({"a": [response(0.3), response(0.1 + 0.2, -2)]})


class TestCutResponses:
    def test_another_worst_is_taken(self) -> None:
        own = [response(0.9), response(0.1, finish="length"), response(0.4)]
        pairs, metrics = choose({"a": own})
        assert pairs["rejected_sample"][0] == 2
        assert metrics["cut_spared"] == 1

    def test_unless_all_others_are_cut(self) -> None:
        own = [response(0.9), response(0.1, finish="length"), response(0.4, finish="length")]
        pairs, metrics = choose({"a": own})
        assert pairs["rejected_sample"][0] == 1
        assert metrics["cut_spared"] == 0


class TestDrops:
    def test_by_reason(self) -> None:
        users = {
            "kept": [response(0.9), response(0.1)],
            "level": [response(0.5, -1), response(0.5, -2)],
            "same": [response(0.9, text="x"), response(0.1, text="x ")],
            "single": [response(0.9), response(0.1, text="  ")],
        }
        pairs, metrics = choose(users)
        assert pairs["user"].to_list() == ["kept"]
        dropped = {"one_response": 1, "identical": 1, "margin": 1, "maximum": 0}
        assert metrics["dropped"] == dropped
        assert metrics["empty_responses"] == 1

    def test_the_margin_must_be_above_the_minimum(self) -> None:
        users = {"a": [response(0.75), response(0.5)], "b": [response(0.875), response(0.5)]}
        pairs, _ = choose(users, Pairs(minimum_margin=0.25))
        assert pairs["user"].to_list() == ["b"]

    def test_maximum_keeps_the_largest_margins_ties_by_user(self) -> None:
        users = {
            user: [response(best), response(0.25)]
            for user, best in (("d", 0.5), ("c", 0.75), ("a", 0.5), ("b", 0.5))
        }
        pairs, metrics = choose(users, Pairs(minimum_margin=0.0, maximum=2))
        assert pairs["user"].to_list() == ["a", "c"]
        assert metrics["dropped"]["maximum"] == 2

    def test_none_left_says_what_to_change(self) -> None:
        with pytest.raises(RecError, match=r"lower pairs\.minimum_margin, or raise sampling"):
            choose({"a": [response(0.5), response(0.5, -3)]})


class TestBadInput:
    @pytest.mark.parametrize("split", ["valid", "test"])
    def test_only_train_users(self, split: str) -> None:
        with pytest.raises(RecError, match=f"user 'a' is of split '{split}'"):
            choose({"a": [response(0.9), response(0.1)]}, split=split)

    def test_a_score_without_response(self) -> None:
        scores = pl.DataFrame([["a", 0, 0, 0.5, 0.5, -1.0, 2]], schema=dict(SCORES), orient="row")
        empty = pl.DataFrame(schema=dict(RESPONSES))
        prompts = prompts_of(["a"], {"a": "train"})
        with pytest.raises(RecError, match="sample 0 of user 'a' has no response"):
            preference_pairs(scores, empty, prompts, EVERYTHING)


RESPONSE = st.tuples(
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.floats(-5, 0),
    st.sampled_from(["", "a", "b", "c d", "e f g"]),
    st.sampled_from(["stop", "length"]),
)
USERS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(RESPONSE, min_size=1, max_size=5), min_size=1
)


@given(users=USERS, minimum=st.sampled_from([0.0, 0.3]), maximum=st.sampled_from([None, 1, 3]))
def test_properties(users: dict[str, list[Response]], minimum: float, maximum: int | None) -> None:
    try:
        pairs, metrics = choose(users, Pairs(minimum_margin=minimum, maximum=maximum))
    except RecError as error:
        assert "no preference pair" in str(error)
        return
    assert metrics["pairs"] + sum(metrics["dropped"].values()) == len(users)
    assert pairs.height <= (maximum or math.inf)
    assert pairs["user"].to_list() == sorted(set(pairs["user"]))
    for row in pairs.iter_rows(named=True):
        own = users[row["user"]]
        texts = [one for one in own if one[2].strip()]
        assert row["chosen_score"] == max(one[0] for one in texts)
        assert row["margin"] == row["chosen_score"] - row["rejected_score"] > minimum
        assert row["chosen"] != row["rejected"]
        if own[row["rejected_sample"]][3] == "length":
            others = [
                one for n, one in enumerate(own) if n != row["chosen_sample"] and one[2].strip()
            ]
            assert all(one[3] == "length" for one in others)
