"""rec.llm.backends: every backend gives a table of the same form, none serves what another drew."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from rec.errors import RecError
from rec.llm.adapter import export_adapter
from rec.llm.backends import Policy, open_backend, server_model
from rec.llm.form import by_policy
from rec.llm.model import Model
from rec.llm.request import Request
from rec.responses import response_form
from rec.sampling import Work, sample
from rec.tables import RESPONSES, check_schema
from tests.llm.server.serving import llama_cpp_server
from tests.llm.test_adapter import save_lora
from tests.llm.tiny import Tiny
from tests.sampled import OPTIONS, machine, prompts, settings


@pytest.fixture(scope="module")
def aligned(tiny_llama: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy with a LoRA."""
    folder = tmp_path_factory.mktemp("policy") / "1"
    save_lora(tiny_llama, folder)
    export_adapter(folder, tiny_llama.hf, folder / "adapter.gguf")
    return Policy("1", tiny_llama.gguf, tiny_llama.hf, folder)


def draw(policy: Policy, store: Path, **changes: Any) -> tuple[pl.DataFrame, Work]:
    options = {**OPTIONS, **{k: changes.pop(k) for k in list(changes) if k in OPTIONS}}
    return sample(prompts(), policy, settings=settings(**changes), store=store, **options)


def check_table(table: pl.DataFrame, policy: Policy) -> None:
    check_schema(table, RESPONSES, "responses")
    assert table.height == 16
    with Model(policy.gguf, vocabulary_only=True) as model:
        form = response_form(model, "films", "card", settings().slot_tokens, 0)
        for row in table.iter_rows(named=True):
            _, chosen = by_policy(form, row["token_ids"])
            assert any(chosen)
            assert row["text"] == model.detokenize(row["token_ids"]).strip()


def test_transformers(aligned: Policy, tmp_path: Path) -> None:
    base = replace(aligned, name="0", adapter=None)
    first, work = draw(base, tmp_path, backend="transformers")
    check_table(first, base)
    assert work.found == 0
    other, work = draw(aligned, tmp_path, backend="transformers")
    assert work.found == 0
    assert not other["text"].equals(first["text"])
    again, work = draw(base, tmp_path, backend="transformers")
    assert (work.found, again.equals(first)) == (16, True)
    assert draw(base, tmp_path)[1].found == 0  # llama.cpp has its own


def test_what_transformers_reads_is_what_its_responses_are_kept_by(
    tiny_llama: Tiny, tmp_path: Path
) -> None:
    shutil.copytree(tiny_llama.hf, tmp_path / "hf")
    policy = Policy("0", tiny_llama.gguf, tmp_path / "hf")
    draw(policy, tmp_path / "store", backend="transformers")
    weights = load_file(tmp_path / "hf/model.safetensors")
    save_file({k: v * 1.5 for k, v in weights.items()}, tmp_path / "hf/model.safetensors")
    assert draw(policy, tmp_path / "store", backend="transformers")[1].found == 0


def test_a_server(aligned: Policy, tmp_path: Path) -> None:
    base = replace(aligned, name="0", adapter=None)
    with llama_cpp_server({"tiny-0": aligned.gguf}, tmp_path) as address:
        there = machine(
            server=address,
            server_timeout=60.0,
            server_retries=1,
            parallel_sequences=2,
        )
        options: dict[str, Any] = {
            "backend": "openai",
            "server_model": "tiny-{policy}",
            "server_prompts": "text",
        }
        table, work = draw(base, tmp_path / "store", machine=there, **options)
        check_table(table, base)
        assert work.found == 0
    again, work = draw(base, tmp_path / "store", machine=there, **options)  # without the server
    assert (work.found, again.equals(table)) == (16, True)
    there.server_retries = 0
    with pytest.raises(RecError, match="gave up after 1 try"):  # other prompts, other responses
        draw(base, tmp_path / "store", machine=there, **options | {"server_prompts": "tokens"})


def test_the_name_of_a_policy_at_a_server(aligned: Policy) -> None:
    base = replace(aligned, name="0", adapter=None)
    assert server_model(base, settings(server_model="smollm2")) == "smollm2"
    assert server_model(aligned, settings(server_model="smollm2-{policy}")) == "smollm2-1"
    tuned = replace(aligned, name="sft")
    assert server_model(tuned, settings(server_model="smollm2-{policy}")) == "smollm2-sft"
    with pytest.raises(RecError, match=r"'smollm2' names one model for all policies: put \{policy"):
        server_model(aligned, settings(server_model="smollm2"))


def test_a_base_and_an_aligned_policy_in_one_process(aligned: Policy) -> None:
    """Both backends are open at once."""
    base = replace(aligned, name="0", adapter=None)
    greedy = settings(temperature=0.0)
    from rec.llm.request import Request

    with Model(aligned.gguf, vocabulary_only=True) as model:
        form = response_form(model, "films", "card", greedy.slot_tokens, 0)
        request = Request("user:a", tuple(model.chat(prompts()["messages"][0])), {0: 1})
        with (
            open_backend(base, model, form, greedy, machine(), context=256) as one,
            open_backend(aligned, model, form, greedy, machine(), context=256) as other,
        ):
            (first,), (second,) = one.generate([request]), other.generate([request])
    assert first.token_ids != second.token_ids


def test_an_adapter_that_is_a_file(aligned: Policy, tmp_path: Path) -> None:
    assert aligned.adapter and aligned.adapter_gguf
    other = tmp_path / "taste.gguf"
    other.write_bytes(aligned.adapter_gguf.read_bytes())
    named = replace(aligned, adapter=other)
    assert named.adapter_gguf == other
    assert named.files("llama_cpp") == [aligned.gguf, other]
    with pytest.raises(RecError, match=r"adapter_config\.json: no such file"):
        named.files("transformers")


def test_a_model_that_is_loaded_is_not_loaded_again(
    aligned: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Model(aligned.gguf) as model:
        form = response_form(model, "films", "card", 4, 0)
        wanted = [Request("a", (5, 6, 7), {0: 1})]

        def texts(loaded: bool) -> list[tuple[int, ...]]:
            opened = (aligned, model, form, settings(), machine())
            with open_backend(*opened, context=256, loaded=loaded) as backend:
                return [response.token_ids for response in backend.generate(wanted)]

        apart = texts(loaded=False)
        monkeypatch.setattr("rec.llm.backends.Model", None)
        assert texts(loaded=True) == apart
