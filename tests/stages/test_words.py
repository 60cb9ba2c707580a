"""Data without dislikes: the stages prompts, sample and align ask for the same card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from rec import layout
from rec.errors import RecError
from rec.files import write_json
from rec.llm.form import Form
from rec.llm.model import Model
from rec.prompts import words
from rec.responses import response_form
from rec.tables import INTERACTIONS, ITEMS, PROMPTS, USERS, read_table, write_table
from stages import align, prompts, sample
from tests.llm.tiny import Tiny
from tests.synthetic_run import params_file

IMPLICIT = {"reader": "tabular", "domain": "products", "tabular": {"rating": ""}}
CASES = [({}, "films", True), (IMPLICIT, "products", False)]
cases = pytest.mark.parametrize(("data", "domain", "rated"), CASES, ids=["rated", "implicit"])


class Seen(RecError):
    """Ends a stage where the test has seen enough."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_inputs(data: dict[str, Any]) -> None:
    """A user with one item, and the parameters with other values in the block `data`."""
    path = params_file(Path())
    params = OmegaConf.load(path)
    params.data = OmegaConf.merge(params.data, data)
    params.machine.processes = 1
    OmegaConf.save(params, path)
    tables = {
        layout.INTERACTIONS: (INTERACTIONS, ("ann", "a", 5.0, 1, 0, "profile")),
        layout.ITEMS: (ITEMS, ("a", "Kettle", None, ["Kitchen"], 1, 0)),
        layout.USERS: (USERS, ("ann", "train", 1, 1)),
    }
    for place, (schema, row) in tables.items():
        write_table(pl.DataFrame([row], schema=dict(schema), orient="row"), place, schema)


@cases
def test_prompts(data: dict[str, Any], domain: str, rated: bool) -> None:
    write_inputs(data)
    assert CliRunner().invoke(prompts.main, []).exit_code == 0
    table = read_table(layout.PROMPTS, PROMPTS)
    first = words(domain, rated).labels[0]
    assert table["history"].item().startswith(f"{first} Kettle\n")
    assert ("Disliked films: none" in table["history"].item()) == rated
    system, _ = table["messages"].item()
    assert words(domain, rated).lines in system["content"]


@cases
def test_sample(
    monkeypatch: pytest.MonkeyPatch, data: dict[str, Any], domain: str, rated: bool
) -> None:
    write_inputs(data)
    assert CliRunner().invoke(prompts.main, []).exit_code == 0
    write_json(layout.policy("0") / "policy.json", {"adapter": None})
    seen: list[dict[str, Any]] = []

    def spy(*_: Any, **options: Any) -> None:
        seen.append(options)
        raise Seen("seen")

    monkeypatch.setattr(sample, "sample", spy)
    assert CliRunner().invoke(sample.main, ["0"]).exit_code == 1
    assert [(options["domain"], options["rated"]) for options in seen] == [(domain, rated)]


@cases
def test_align(
    monkeypatch: pytest.MonkeyPatch,
    tiny_llama: Tiny,
    data: dict[str, Any],
    domain: str,
    rated: bool,
) -> None:
    write_inputs(data)
    monkeypatch.setattr(layout, "GGUF", tiny_llama.gguf)
    seen: list[list[str]] = []

    def spy(model: Model, *arguments: Any, **options: Any) -> Form:
        form = response_form(model, *arguments, **options)
        seen.append([model.detokenize(slot.label) for slot in form.slots])
        raise Seen("seen")

    monkeypatch.setattr(align, "response_form", spy)
    result = CliRunner().invoke(align.main, ["1"])
    assert (result.exit_code, result.output) == (1, "Error: seen\n")
    assert seen == [list(words(domain, rated).labels)]
