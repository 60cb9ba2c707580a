"""Stages that take a policy by its name: sample and encode; import-llm writes the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from rec import layout
from rec.errors import RecError
from rec.files import read_json, sha256, write_json
from rec.knowledge import Encoder, matrix, read_vectors, told_vectors, vectors_table
from rec.llm.backends import Policy
from rec.sampling import Work
from rec.tables import PROMPTS, RESPONSES, vectors_schema, write_table
from stages import encode, import_llm, sample
from tests.composed import compose
from tests.sampled import prompts
from tests.synthetic_run import responses_table
from tests.test_knowledge import save_encoder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compose(tmp_path / "params.yaml", ["rounds=t1-sft"])


@pytest.mark.parametrize("command", [sample.main, encode.main], ids=["sample", "encode"])
def test_a_policy_that_is_not_there(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["2"])
    message = "Error: policy '2' does not exist; params.yaml has policies 0, 1, sft\n"
    assert (result.exit_code, result.output) == (1, message)


@pytest.mark.parametrize(("name", "adapter"), [("0", None), ("1", "adapter.gguf"), ("sft", "x")])
def test_sample_draws_from_the_policy_of_that_name(
    monkeypatch: pytest.MonkeyPatch, name: str, adapter: str | None
) -> None:
    seen: list[Policy] = []

    def spy(_: pl.DataFrame, policy: Policy, **__: Any) -> None:
        seen.append(policy)
        raise RecError("seen")

    write_table(prompts(), layout.PROMPTS, PROMPTS)
    write_json(Path("data/policy") / name / "policy.json", {"adapter": adapter})
    monkeypatch.setattr(sample, "sample", spy)
    result = CliRunner().invoke(sample.main, [name])
    assert result.output == "Error: seen\n"
    folder = Path("data/policy") / name if adapter else None
    assert seen == [Policy(name, layout.GGUF, layout.HF, folder)]


@pytest.mark.parametrize(("tokens", "seconds"), [(300, 1.5), (0, 0.0)])
def test_speed_is_left_where_something_was_drawn(
    monkeypatch: pytest.MonkeyPatch, tokens: int, seconds: float
) -> None:
    work = Work(24, 12 if tokens else 24, 0, tokens, seconds)
    monkeypatch.setattr(sample, "sample", lambda *_, **__: (responses_table(), work))
    write_table(prompts(), layout.PROMPTS, PROMPTS)
    write_json(layout.policy("0") / "policy.json", {"adapter": None})
    assert CliRunner().invoke(sample.main, ["0"]).exit_code == 0
    if tokens:
        digest = sha256(layout.responses("0"))
        expected = {"tokens": 300, "seconds": 1.5, "responses": digest}
        assert read_json(layout.drawing("0")) == expected
    else:
        assert not layout.drawing("0").exists()


def test_import_writes_the_base_as_policy_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def imported(_: Path, folder: Path, *__: Any) -> None:
        folder.mkdir(parents=True)

    monkeypatch.setattr(import_llm, "import_weights", imported)
    assert CliRunner().invoke(import_llm.main, []).exit_code == 0
    assert read_json(Path("data/policy/0/policy.json"))["adapter"] is None
    assert layout.aligned("0") is None


def write_encoder_inputs(text: str, judged: str = "response", users: int = 12) -> None:
    """A tiny encoder, the responses of 12 users, and prompts and histories of the first `users`."""
    told = [f"knowledge.text={text}", f"reward.text={judged}"]
    compose(Path("params.yaml"), ["rounds=t0", *told, "encoder.max_tokens=32"])
    save_encoder(layout.RAW_ENCODER)
    write_table(responses_table("heat").reverse(), layout.responses("0"), RESPONSES)
    keys = [f"user:u{n:02}" for n in range(users)]
    rows: list[tuple[object, ...]] = [
        (key, "user", key[5:], "train", [], f"heat heat heat {key}") for key in keys
    ]
    write_table(pl.DataFrame(rows, schema=dict(PROMPTS), orient="row"), layout.PROMPTS, PROMPTS)
    vectors = np.random.default_rng(1).normal(size=(users, 16)).astype(np.float16)
    table = vectors_table(keys, [0] * users, vectors)
    write_table(table, layout.HISTORY_VECTORS, vectors_schema(16))


@pytest.mark.parametrize("text", ["joint", "response"])
def test_encode_writes_what_re_rankers_read(text: str) -> None:
    write_encoder_inputs(text)
    result = CliRunner().invoke(encode.main, ["0"])
    assert (result.exit_code, result.output) == (0, "")
    told = read_vectors(told_vectors("0", text))
    alone = read_vectors(layout.vectors("0"))
    assert told.select("key", "sample").equals(alone.select("key", "sample"))
    assert layout.joint_vectors("0").exists() == (text == "joint")
    assert np.allclose(matrix(told), matrix(alone)) == (text == "response")
    figures = read_json(layout.identifiability("0"))
    assert (figures["users"], figures["responses"]) == (12, 24)
    encoder = Encoder(layout.RAW_ENCODER, 32, 8)
    written = responses_table("heat")
    read = [
        f"heat heat heat {key}\n{own}" if text == "joint" else own
        for key, own in written.select("key", "text").rows()
    ]
    assert figures["cut"] == encoder.cut(read) == (1.0 if text == "joint" else 0.0)


def test_encode_writes_what_the_reward_reads() -> None:
    write_encoder_inputs("joint")
    assert CliRunner().invoke(encode.main, ["0"]).exit_code == 0
    wanted, figures = (
        read_vectors(layout.joint_vectors("0")),
        read_json(layout.identifiability("0")),
    )
    assert figures["cut"] > 0
    write_encoder_inputs("response", "joint")
    assert CliRunner().invoke(encode.main, ["0"]).exit_code == 0
    assert read_vectors(layout.joint_vectors("0")).equals(wanted)
    assert read_json(layout.identifiability("0")) == figures
    write_encoder_inputs("response")
    assert CliRunner().invoke(encode.main, ["0"]).exit_code == 0
    assert read_json(layout.identifiability("0"))["cut"] < figures["cut"]


@pytest.mark.parametrize("text", ["joint", "response"])
def test_encode_ends_before_work_where_a_response_has_no_prompt(text: str) -> None:
    write_encoder_inputs(text, users=11)
    result = CliRunner().invoke(encode.main, ["0"])
    assert result.exit_code == 1
    assert result.output == (
        "Error: data/responses/0.parquet: a response has no prompt; sample again\n"
    )
    assert not layout.knowledge("0").exists()
