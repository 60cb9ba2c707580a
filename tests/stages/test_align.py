"""stages.align on a tiny LLM: a round of DPO, and the control of it, from the same pairs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from rec import layout
from rec.curves import ALIGNMENT, read_csv
from rec.files import read_json, sha256, write_json
from rec.tables import PAIRS, write_table
from stages import align
from tests.composed import compose
from tests.llm.tiny import Tiny

CHOSEN, REJECTED = [100, 101, 102], [200, 201, 202, 203]
SMALL = [
    *("align.learning_rate=0.01", "align.epochs=4", "align.precision=fp32", "align.beta=0.1"),
    *("align.gradient_accumulation=1", "align.warmup_share=0.0", "align.guards.kl=null"),
    *("prompts.response=text", "sampling.text_tokens=20"),
    *("machine.threads=1", "machine.processes=1"),
]


def write_inputs(tiny: Tiny) -> None:
    """What the stage reads for round 1: the LLM, policy 0, pairs and one held-out pair."""
    layout.LLM.mkdir(parents=True)
    layout.GGUF.symlink_to(tiny.gguf)
    layout.HF.symlink_to(tiny.hf, target_is_directory=True)
    write_json(layout.policy("0") / "policy.json", {"adapter": None})
    sides = ("x", "y", CHOSEN, REJECTED, 0, 1, 0.9, 0.1, 0.8)
    messages = {user: [{"role": "user", "content": f"Describe {user}"}] for user in "abcde"}
    rows = [(f"user:{user}", user, asked, *sides) for user, asked in messages.items()]
    table = pl.DataFrame(rows, schema=dict(PAIRS), orient="row")
    write_table(table.head(4), layout.pairs(1), PAIRS)
    write_table(table.tail(1), layout.heldout_pairs(1), PAIRS)


@pytest.fixture(scope="module")
def place(tiny_llama: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which policies 1 and sft were trained."""
    folder: Path = tmp_path_factory.mktemp("stage")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_inputs(tiny_llama)
        compose(folder / "params.yaml", ["rounds=t1-sft", *SMALL])
        for policy in ("1", "sft"):
            result = CliRunner().invoke(align.main, [policy])
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.mark.parametrize("policy", ["1", "sft"])
def test_a_policy_of_either_kind_leaves_the_same(policy: str) -> None:
    assert sorted(path.name for path in layout.policy(policy).iterdir()) == [
        *("adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "policy.json")
    ]
    assert layout.aligned(policy) == layout.policy(policy)
    curve = read_csv(layout.alignment_curve(policy), ALIGNMENT)
    summary = read_json(layout.alignment_summary(policy))
    assert curve["step"].to_list() == list(range(1, summary["steps"] + 1))
    assert summary["heldout"]["pairs"] == 1
    assert (layout.alignment(policy) / "live").is_dir()
    assert not (layout.WORK / "align" / policy).exists()


def test_the_control_takes_as_many_steps_and_learns_the_chosen_responses() -> None:
    dpo, sft = (read_csv(layout.alignment_curve(policy), ALIGNMENT) for policy in ("1", "sft"))
    assert dpo["step"].equals(sft["step"])
    assert dpo["learning_rate"].equals(sft["learning_rate"])
    assert dpo["loss"][0] == pytest.approx(0.693147, abs=1e-5)
    assert sft["loss"][0] == pytest.approx(-sft["chosen_log_probability"][0] / 4, rel=1e-3)
    assert sft["loss"][-1] < 0.5 * sft["loss"][0]
    assert sft["chosen_log_ratio"][-1] > max(dpo["chosen_log_ratio"][-1], 1.0)
    weights = {sha256(layout.policy(p) / "adapter_model.safetensors") for p in ("1", "sft")}
    assert len(weights) == 2


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("0", "policy '0' is the base LLM; those that are trained are 1, sft"),
        ("2", "policy '2' does not exist; params.yaml has policies 0, 1, sft"),
    ],
)
def test_a_policy_that_is_not_trained(policy: str, message: str) -> None:
    result = CliRunner().invoke(align.main, [policy])
    assert (result.exit_code, result.output) == (1, f"Error: {message}\n")
