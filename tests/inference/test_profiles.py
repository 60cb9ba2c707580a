"""rec.inference.profiles: what is written is what the pipeline writes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.inference.profiles import Profile, write_profiles
from rec.llm.backends import Policy
from rec.prompts import words
from rec.sampling import sample
from rec.tables import PROMPTS, read_table
from tests.cli.running import python
from tests.inference.project import SAMPLES

BASE = Policy("0", layout.GGUF, layout.HF)
ALIGNED = Policy("1", layout.GGUF, layout.HF, layout.policy("1"))


def asked() -> pl.DataFrame:
    """The prompts of the train users, in no order of their keys."""
    return read_table(layout.PROMPTS, PROMPTS).filter(split="train").reverse()


def deterministic(params: Params) -> Params:
    return replace(params, sampling=replace(params.sampling, deterministic=True))


def texts(profiles: list[Profile]) -> dict[tuple[str, int], str]:
    return {(one.key, one.sample): one.text for one in profiles}


@pytest.mark.parametrize("policy", [BASE, ALIGNED])
def test_the_text_is_what_the_pipeline_samples(
    policy: Policy, params: Params, tmp_path: Path
) -> None:
    params = deterministic(params)
    table, _ = sample(
        asked(),
        policy,
        domain="films",
        response="card",
        settings=params.sampling,
        context=params.llm.context,
        seed=params.seed,
        machine=params.machine,
        store=tmp_path,
    )
    written = list(write_profiles(asked(), policy, params, SAMPLES))
    assert texts(written) == {
        (key, n): text for key, n, text in table["key", "sample", "text"].rows()
    }
    counts = {(row["key"], row["sample"]): row["cut_slots"] for row in table.iter_rows(named=True)}
    assert {(one.key, one.sample): one.cut_slots for one in written} == counts
    for one in written:
        labels = [line.partition(":")[0] for line in one.text.split("\n")]
        assert labels == list(words("films").card)


@pytest.mark.parametrize("together", [True, False])
def test_the_order_is_that_of_the_prompts(together: bool, params: Params) -> None:
    written = list(write_profiles(asked(), BASE, params, 3, together=together))
    assert [(one.key, one.sample) for one in written] == [
        (key, n) for key in asked()["key"] for n in range(3)
    ]


def test_what_is_told_is_what_is_written(params: Params) -> None:
    told: dict[tuple[str, int], str] = defaultdict(str)

    def hear(key: str, sample: int, text: str) -> None:
        told[key, sample] += text

    for one in write_profiles(asked(), ALIGNED, params, 2, together=False, told=hear):
        heard = told[one.key, one.sample]
        assert one.text.replace("\ufffd", "").startswith(heard.rstrip().replace("\ufffd", ""))
        assert len(one.text) - len(heard.rstrip()) <= 3  # characters that are not whole
    assert len(told) == 6


def test_free_text_is_told_without_blanks_before_it(params: Params) -> None:
    params = replace(params, prompts=replace(params.prompts, response="text"))
    told: list[str] = []
    written = list(
        write_profiles(
            asked(), BASE, params, 1, together=False, told=lambda *what: told.append(what[2])
        )
    )
    assert len(written) == 3 and all(text == text.strip() for text in (one.text for one in written))
    assert not told[0][0].isspace()


def test_seeds_and_temperature_decide(params: Params) -> None:
    params = deterministic(params)

    def drawn(**changes: float) -> dict[tuple[str, int], str]:
        seed = int(changes.get("seed", params.seed))
        sampling = replace(params.sampling, temperature=changes.get("temperature", 0.7))
        return texts(
            list(write_profiles(asked(), BASE, replace(params, seed=seed, sampling=sampling), 2))
        )

    assert drawn() == drawn()
    assert drawn(seed=5) != drawn()
    cold = drawn(temperature=0.0)
    assert cold == drawn(temperature=0.0, seed=5)
    assert all(cold[key, 0] == cold[key, 1] for key in asked()["key"])


def test_a_backend_that_tells_nothing_on_the_way(params: Params) -> None:
    params = replace(params, sampling=replace(params.sampling, backend="transformers"))
    told: list[str] = []
    drawn = write_profiles(asked(), ALIGNED, params, 2, told=lambda *what: told.append(what[2]))
    written = list(drawn)
    assert [(one.key, one.sample) for one in written] == [
        (key, n) for key in asked()["key"] for n in range(2)
    ]
    assert all(one.text.startswith("Loved films:") for one in written)
    assert told == []


def test_an_adapter_file_is_for_llama_cpp_alone(params: Params) -> None:
    params = replace(params, sampling=replace(params.sampling, backend="transformers"))
    file = replace(ALIGNED, adapter=layout.policy("1") / layout.ADAPTER)
    with pytest.raises(RecError, match=r"adapter_config\.json"):
        next(write_profiles(asked(), file, params, 1))


def test_a_prompt_that_is_too_long(params: Params) -> None:
    short = replace(params, llm=replace(params.llm, context=256))
    with pytest.raises(RecError, match=r"prompt user:128: \d+ tokens and a response of up to"):
        next(write_profiles(asked(), BASE, short, 1))


def test_an_adapter_that_is_not_there(params: Params, tmp_path: Path) -> None:
    with pytest.raises(RecError, match=r"adapter\.gguf: no such file"):
        next(write_profiles(asked(), replace(ALIGNED, adapter=tmp_path), params, 1))


def test_writing_needs_no_torch(small_project: Path) -> None:
    code = (
        "import os, sys; os.chdir(sys.argv[1]);"
        "from pathlib import Path;"
        "from rec.params import load_params; from rec.inference.adapters import find_writer;"
        "from rec.inference.histories import prepared_rows; from rec.tables import PROMPTS;"
        "from rec.inference.profiles import write_profiles; from rec import layout;"
        "params = load_params(Path('params.yaml'));"
        "writer = find_writer('aligned', params, Path.cwd());"
        "rows = prepared_rows('10', layout.PROMPTS, PROMPTS);"
        "print(next(write_profiles(rows, writer.policy, params, 1)).text);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = python("-c", code, small_project)
    assert done.stdout.startswith("Loved films:"), done.stderr
    assert {"torch", "transformers", "duckdb"} & set(done.stderr.split()) == set()
