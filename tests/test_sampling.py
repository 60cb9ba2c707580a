"""rec.sampling: the table of responses, on a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rec.config import Sampling
from rec.errors import RecError
from rec.llm.model import Model
from rec.prompts import DOMAINS
from rec.sampling import sample, sampling_health
from rec.tables import PROMPTS, RESPONSES, check_schema
from tests.llm.tiny import Tiny

SETTINGS = Sampling(
    responses=4,
    responses_eval=2,
    temperature=0.8,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repeat_penalty=1.0,
    slot_tokens=6,
    text_tokens=9,
    deterministic=False,
)
SPLITS = {"a": "train", "b": "train", "c": "valid", "d": "test", "e": "train"}


def prompts() -> pl.DataFrame:
    rows = [
        (
            f"user:{user}",
            "user",
            user,
            split,
            [
                {"role": "system", "content": "Describe the taste."},
                {"role": "user", "content": f"Loved films: {user * 3}"},
            ],
            f"Loved films: {user * 3}",
        )
        for user, split in SPLITS.items()
    ]
    return pl.DataFrame(rows, schema=dict(PROMPTS), orient="row")


def draw(tiny: Tiny, table: pl.DataFrame | None = None, **changes: Any) -> pl.DataFrame:
    options: dict[str, Any] = {
        "gguf": tiny.gguf,
        "adapter": None,
        "domain": "films",
        "response": "card",
        "settings": SETTINGS,
        "context": 512,
        "seed": 11,
        "threads": 1,
        "parallel": 6,
        **changes,
    }
    return sample(prompts() if table is None else table, **options)


@pytest.fixture(scope="module")
def drawn(tiny_llama: Tiny) -> pl.DataFrame:
    return draw(tiny_llama)


@pytest.fixture(scope="module")
def model(tiny_llama: Tiny) -> Iterator[Model]:
    with Model(tiny_llama.gguf, vocabulary_only=True) as loaded:
        yield loaded


def test_counts_by_split(drawn: pl.DataFrame) -> None:
    expected = [
        (f"user:{user}", index)
        for user, split in SPLITS.items()
        for index in range(4 if split == "train" else 2)
    ]
    assert drawn.select("key", "sample").rows() == expected
    check_schema(drawn, RESPONSES, "responses")


def test_seeds_are_distinct_and_in_range(drawn: pl.DataFrame) -> None:
    assert drawn["seed"].is_unique().all()
    assert drawn["seed"].is_between(1, 2**31 - 1).all()


def test_responses_differ(drawn: pl.DataFrame) -> None:
    assert drawn["text"].n_unique() > 0.8 * drawn.height


def test_text_is_that_of_the_ids(drawn: pl.DataFrame, model: Model) -> None:
    labels = list(DOMAINS["films"].labels)
    for row in drawn.iter_rows(named=True):
        assert row["text"] == model.detokenize(row["token_ids"]).strip()
        assert row["response_tokens"] == len(row["token_ids"])
        lines = row["text"].split("\n")
        assert [line[: len(label)] for line, label in zip(lines, labels, strict=True)] == labels


def test_prompt_tokens_are_those_of_the_chat(drawn: pl.DataFrame, model: Model) -> None:
    lengths = {row["key"]: len(model.chat(row["messages"])) for row in prompts().to_dicts()}
    assert drawn["prompt_tokens"].to_list() == [lengths[key] for key in drawn["key"]]


def test_finish_reason(tiny_llama: Tiny, model: Model) -> None:
    texts = draw(tiny_llama, response="text", settings=replace(SETTINGS, text_tokens=40))
    assert set(texts["finish_reason"]) == {"stop", "length"}
    for row in texts.iter_rows(named=True):
        assert (row["finish_reason"] == "length") == (row["response_tokens"] == 40)


def test_seeds_depend_on_the_base_seed_and_the_prompt_alone(
    tiny_llama: Tiny, drawn: pl.DataFrame
) -> None:
    turned = draw(tiny_llama, prompts().reverse().head(3), parallel=9)
    kept = drawn.join(turned, on=["key", "sample"], how="semi")
    assert turned["seed"].equals(kept["seed"])
    other = draw(tiny_llama, seed=12)
    assert not set(other["seed"]) & set(drawn["seed"])


def test_deterministic_sampling_repeats_itself(tiny_llama: Tiny) -> None:
    settings = replace(SETTINGS, deterministic=True)
    first = draw(tiny_llama, settings=settings)
    again = draw(tiny_llama, prompts().reverse(), settings=settings, parallel=2)
    assert first.equals(again)


def test_more_responses_than_parallel_sequences(tiny_llama: Tiny) -> None:
    assert draw(tiny_llama, parallel=1).height == 16


def test_no_prompts(tiny_llama: Tiny) -> None:
    with pytest.raises(RecError, match="the table of prompts is empty"):
        draw(tiny_llama, prompts().clear())


def test_context_too_short(tiny_llama: Tiny) -> None:
    with pytest.raises(RecError, match=r"prompt user:a: \d+ tokens .* exceed llm.context \(256\)"):
        long = prompts().with_columns(
            pl.concat_list(
                pl.col("messages"),
                pl.concat_list(
                    pl.struct(role=pl.lit("user"), content=pl.lit("q" * 200)),
                ),
            ).alias("messages")
        )
        draw(tiny_llama, long, context=256)


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(RecError, match="no such file; run the stage import-llm"):
        draw(Tiny(tmp_path / "none.gguf", tmp_path))


def test_health_by_hand() -> None:
    rows = [
        ("user:a", 0, "x", [1, 2, 3], 9, 3, "stop", 2, 1),
        ("user:a", 1, "x", [1, 2, 3], 9, 3, "stop", 1, 2),
        ("user:a", 2, "", [4], 9, 1, "length", 1, 3),
        ("user:b", 0, "x", [1, 2, 3, 4], 8, 4, "stop", 0, 4),
        ("user:b", 1, "y", [5, 6], 8, 2, "stop", 0, 5),
        ("user:b", 2, "y", [5, 6], 8, 2, "stop", 2, 6),
    ]
    table = pl.DataFrame(rows, schema=dict(RESPONSES), orient="row")
    assert sampling_health(table) == {
        "responses": 6,
        "users": 2,
        "mean_tokens": 2.5,
        "cut_off": 0.1667,
        "cut_slots": 1.0,
        "empty": 1,
        "repeated": 2,
    }
