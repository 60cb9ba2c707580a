"""rec.sampling: the table of responses, on a tiny model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rec.errors import RecError
from rec.llm.adapter import export_adapter
from rec.llm.backends import Policy
from rec.llm.model import Model
from rec.prompts import DOMAINS
from rec.sampling import Work, sample
from rec.tables import RESPONSES, check_schema
from tests.llm.test_adapter import save_lora
from tests.llm.tiny import Tiny
from tests.sampled import OPTIONS, SETTINGS, SPLITS, machine, prompts

ROOT = Path(__file__).parents[1]


def run(
    tiny: Tiny, store: Path, table: pl.DataFrame | None = None, **changes: Any
) -> tuple[pl.DataFrame, Work]:
    """The responses and the work; `changes` are of the settings, of the policy, or of sample."""
    own = {key: changes.pop(key) for key in list(changes) if hasattr(SETTINGS, key)}
    policy = Policy("0", tiny.gguf, tiny.hf, changes.pop("adapter", None))
    options = {"settings": replace(SETTINGS, **own), "store": store, **OPTIONS, **changes}
    return sample(prompts() if table is None else table, policy, **options)


def draw(tiny: Tiny, table: pl.DataFrame | None = None, **changes: Any) -> pl.DataFrame:
    """The responses, with a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        return run(tiny, Path(folder), table, **changes)[0]


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


@pytest.mark.parametrize("count", [1, 3])
def test_validation_users_have_a_number_of_their_own(
    tiny_llama: Tiny, drawn: pl.DataFrame, count: int
) -> None:
    table = draw(tiny_llama, responses_valid=count, responses_eval=2)
    counts = {"train": 4, "valid": count, "test": 2}
    heights = dict(table.group_by("key").len().rows())
    assert heights == {f"user:{user}": counts[split] for user, split in SPLITS.items()}
    shared = table.join(drawn, on=["key", "sample", "seed"], how="semi")
    assert shared.height == min(table.height, drawn.height)


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
    texts = draw(tiny_llama, response="text", text_tokens=40)
    assert set(texts["finish_reason"]) == {"stop", "length"}
    for row in texts.iter_rows(named=True):
        assert (row["finish_reason"] == "length") == (row["response_tokens"] == 40)


def test_seeds_depend_on_the_base_seed_and_the_prompt_alone(
    tiny_llama: Tiny, drawn: pl.DataFrame
) -> None:
    turned = draw(tiny_llama, prompts().reverse().head(3), machine=machine(parallel_sequences=9))
    kept = drawn.join(turned, on=["key", "sample"], how="semi")
    assert turned["seed"].equals(kept["seed"])
    other = draw(tiny_llama, seed=12)
    assert not set(other["seed"]) & set(drawn["seed"])


def test_deterministic_sampling_repeats_itself(tiny_llama: Tiny) -> None:
    first = draw(tiny_llama, deterministic=True)
    other = machine(parallel_sequences=2)
    again = draw(tiny_llama, prompts().reverse(), deterministic=True, machine=other)
    assert first.equals(again)


def test_more_responses_than_parallel_sequences(tiny_llama: Tiny) -> None:
    assert draw(tiny_llama, machine=machine(parallel_sequences=1)).height == 16


def test_no_prompts(tiny_llama: Tiny) -> None:
    with pytest.raises(RecError, match="the table of prompts is empty"):
        draw(tiny_llama, prompts().clear())


def test_context_too_short(tiny_llama: Tiny) -> None:
    with pytest.raises(
        RecError, match=r"prompt user:.: \d+ tokens .* exceed llm.context \(256\); raise it"
    ):
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


def test_the_number_of_sequences_follows_from_memory_and_threads(tiny_llama: Tiny) -> None:
    assert draw(tiny_llama, machine=machine(parallel_sequences=None)).height == 16


def test_users_with_the_same_prompt_have_the_same_responses(
    tiny_llama: Tiny, tmp_path: Path
) -> None:
    first = prompts().head(1)
    twins = pl.concat([first, first.with_columns(key=pl.lit("user:z"), split=pl.lit("test"))])
    table, work = run(tiny_llama, tmp_path, twins)
    one, other = table.partition_by("key")
    assert (one.height, other.height) == (4, 2)
    assert other.drop("key").equals(one.head(2).drop("key"))
    assert (work.wanted, work.tokens) == (6, one["response_tokens"].sum())
    again, work = run(tiny_llama, tmp_path, twins)
    assert again.equals(table)
    assert work.found == 6


class TestStore:
    """What is there is not drawn again."""

    def test_a_second_run_draws_nothing(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        first, work = run(tiny_llama, tmp_path)
        assert (work.wanted, work.found) == (16, 0)
        again, work = run(tiny_llama, tmp_path)
        assert (work.wanted, work.found, work.tokens) == (16, 16, 0)
        assert again.equals(first)

    def test_nothing_is_loaded_for_what_is_there(
        self, tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(tiny_llama, tmp_path)
        monkeypatch.setattr("rec.sampling.open_backend", None)
        assert run(tiny_llama, tmp_path)[1].found == 16

    def test_more_responses_per_user(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        first, _ = run(tiny_llama, tmp_path)
        more, work = run(tiny_llama, tmp_path, responses=10)
        assert (work.wanted, work.found) == (34, 16)
        kept = more.join(first, on=["key", "sample"], how="semi")
        assert kept.equals(first)

    def test_more_users(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        first, _ = run(tiny_llama, tmp_path, prompts().head(3))
        more, work = run(tiny_llama, tmp_path)
        assert (work.wanted, work.found) == (16, first.height)
        assert more.join(first, on=["key", "sample"], how="semi").equals(first)

    @pytest.mark.parametrize(
        "change",
        [
            {"temperature": 0.7},
            {"top_k": 5},
            {"repeat_penalty": 1.1},
            {"slot_tokens": 5},
            {"seed": 12},
            {"response": "text"},
            {"domain": "books"},
            {"deterministic": True},
        ],
    )
    def test_other_settings_find_nothing(
        self, tiny_llama: Tiny, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        run(tiny_llama, tmp_path)
        assert run(tiny_llama, tmp_path, **change)[1].found == 0

    def test_another_version_of_the_sampler_finds_nothing(
        self, tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(tiny_llama, tmp_path)
        monkeypatch.setattr("rec.sampling.VERSION", 2)
        assert run(tiny_llama, tmp_path)[1].found == 0

    def test_a_missing_adapter_is_named(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        with pytest.raises(RecError, match=r"adapter.gguf: no such file; run the stage align"):
            run(tiny_llama, tmp_path, adapter=tmp_path)

    def test_settings_that_change_no_response(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        run(tiny_llama, tmp_path)
        fewer = machine(parallel_sequences=3)
        _, work = run(tiny_llama, tmp_path, text_tokens=5, context=400, machine=fewer)
        assert work.found == 16

    def test_another_model_finds_nothing(
        self, tiny_llama: Tiny, tiny_qwen2: Tiny, tmp_path: Path
    ) -> None:
        run(tiny_llama, tmp_path)
        assert run(tiny_qwen2, tmp_path)[1].found == 0

    def test_adapters_have_their_own(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        folder = tmp_path / "policy"
        save_lora(tiny_llama, folder)
        export_adapter(folder, tiny_llama.hf, folder / "adapter.gguf")
        store = tmp_path / "store"
        base, _ = run(tiny_llama, store, temperature=0.0)
        aligned, work = run(tiny_llama, store, temperature=0.0, adapter=folder)
        assert work.found == 0
        assert not aligned["text"].equals(base["text"])
        again, work = run(tiny_llama, store, temperature=0.0, adapter=folder)
        assert work.found == 16
        assert again.equals(aligned)
        assert run(tiny_llama, store, temperature=0.0)[0].equals(base)

    def test_a_damaged_entry_is_drawn_again(self, tiny_llama: Tiny, tmp_path: Path) -> None:
        first, _ = run(tiny_llama, tmp_path, deterministic=True)
        (segment,) = segments(tmp_path)
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.chmod(0o644)
        segment.write_bytes(content)
        again, work = run(tiny_llama, tmp_path, deterministic=True)
        assert work.found == 15
        assert again.equals(first)


KILLED = """
import sys
from pathlib import Path
import polars as pl
from rec.llm.backends import Policy
from rec.sampling import sample
from tests.sampled import OPTIONS, prompts, settings
gguf, store = map(Path, sys.argv[1:])
sample(prompts(), Policy("0", gguf, gguf), settings=settings(deterministic=True, responses=60),
       store=store, **OPTIONS)
"""


def test_killed_at_any_time(tiny_llama: Tiny, tmp_path: Path) -> None:
    """Twenty times; each run goes on from where the last was, the table is the one of a whole run.

    A run is killed once it has written some more, so that the work is spread over the runs.
    """
    expected, work = run(tiny_llama, tmp_path / "whole", deterministic=True, responses=60)
    store = tmp_path / "store"
    command = [sys.executable, "-c", KILLED, str(tiny_llama.gguf), str(store)]
    size = 0
    for kill in range(20):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        wanted = size + 1 + 97 * kill
        while process.poll() is None and stored_bytes(store) < wanted:
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert stored_bytes(store) >= size
        size = stored_bytes(store)
    table, again = run(tiny_llama, store, deterministic=True, responses=60)
    assert 20 < again.found < work.wanted
    assert table.equals(expected)


def segments(store: Path) -> list[Path]:
    return [path for path in store.glob("*/*.jsonl") if path.name != "runs.jsonl"]


def stored_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in segments(store))


def test_work_in_words() -> None:
    assert str(Work(16, 16, 0)) == "16 responses, 16 from the store"
    assert str(Work(1200, 200, 1, 100_000, 200.0)) == (
        "1200 responses, 200 from the store, 1000 drawn in 200.0 s (500 tokens/s); "
        "1 damaged entries of the store were dropped"
    )
