"""rec.config: each fault of a params.yaml is one line with the file, the key, the value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from rec.config import Params, source_files
from rec.errors import RecError
from rec.params import load_params

ROOT = Path(__file__).parents[1]


def write(folder: Path, key: str, value: Any) -> Path:
    """The committed params.yaml with one value changed."""
    params = OmegaConf.load(ROOT / "params.yaml")
    OmegaConf.update(params, key, value, merge=False, force_add=True)
    path = folder / "params.yaml"
    OmegaConf.save(params, path)
    return path


def without(folder: Path, key: str) -> Path:
    """The committed params.yaml without a key."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    *blocks, last = key.split(".")
    block = params
    for name in blocks:
        block = block[name]
    del block[last]
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def error(path: Path) -> str:
    with pytest.raises(RecError) as caught:
        load_params(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_committed_params_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert isinstance(params, Params)
    assert params.rounds == {"1": "0", "2": "1"} and params.policies == ["0", "1", "2"]
    assert params.align.target_modules[0] == "q_proj"
    assert [file.name for file in source_files(params.llm)] == ["model.gguf"]


def test_source_decides_the_files(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, "data.source", "public"))
    assert [file.name for file in source_files(params.data)] == ["ml-100k.zip"]


FILE = {"name": "a", "sha256": "", "url": "https://x.org/a"}
FAULTS: dict[str, tuple[str, Any, str]] = {
    "unknown key": ("sed", 1, "sed: unknown key (value 1); allowed are seed, data,"),
    "unknown key in a block": (
        "align.bet",
        0.5,
        "align.bet: unknown key (value 0.5); allowed are loss, reference,",
    ),
    "unknown key two blocks down": (
        "encoder.sources.hub",
        [],
        "encoder.sources.hub: unknown key (value []); allowed are registry, public",
    ),
    "unknown key in a list item": (
        "encoder.sources.registry",
        [FILE, {**FILE, "sha": "x"}],
        "encoder.sources.registry[1].sha: unknown key (value 'x'); "
        "allowed are name, sha256, url, pieces",
    ),
    "wrong type in a list item": (
        "llm.sources.registry",
        [{**FILE, "name": {"a": 1}}],
        "llm.sources.registry[0].name: Cannot convert 'DictConfig' to string",
    ),
    "missing key in a list item": (
        "llm.sources.registry",
        [{"sha256": ""}],
        "llm.sources.registry[0].name: a value is required",
    ),
    "scalar for a list item": (
        "data.sources.public",
        ["x"],
        "data.sources.public[0]: 'x' stands where a block belongs; its keys: name, sha256,",
    ),
    "scalar for a list in an item": (
        "llm.sources.registry",
        [{**FILE, "pieces": 3}],
        "llm.sources.registry[0].pieces: 3 stands where a list belongs",
    ),
    "mapping for a list": (
        "data.sources.public",
        {"a": 1},
        "data.sources.public: {'a': 1} stands where a list belongs",
    ),
    "loss that is not known": (
        "align.loss",
        "dpo",
        "align.loss: 'dpo' is not allowed; use sigmoid or ipo or robust",
    ),
    "smoothing that the loss ignores": (
        "align.label_smoothing",
        0.1,
        "align.label_smoothing: 0.1 is not possible; align.loss sigmoid takes none",
    ),
    "beta of nothing": ("align.beta", 0.0, "align.beta: 0.0 is not possible"),
    "negative guard": (
        "align.guards.kl",
        -1.0,
        "align.guards.kl: -1.0 is not possible; must be null or a finite number of 0 or more",
    ),
    "length ratio below one": (
        "pairs.length_ratio",
        0.9,
        "pairs.length_ratio: 0.9 is not possible; must be null or a finite number of 1 or more",
    ),
    "scalar for a block": (
        "align",
        "x",
        "align: 'x' stands where a block belongs; its keys: loss, reference,",
    ),
    "null for a block": ("align", None, "align: None stands where a block belongs"),
    "list for a block": (
        "reward",
        [1],
        "reward: [1] stands where a block belongs; its keys: folds",
    ),
    "scalar for a nested block": (
        "data.sources",
        7,
        "data.sources: 7 stands where a block belongs; its keys: registry, public",
    ),
    "list for a mapping": ("rounds", [0], "rounds: [0] stands where a mapping belongs"),
    "scalar for a list": (
        "align.target_modules",
        "q_proj",
        "align.target_modules: 'q_proj' stands where a list belongs",
    ),
    "text for a number": ("seed", "many", "seed: Value 'many' of type 'str'"),
    "fraction for an integer": ("reward.folds", 2.5, "reward.folds: Value '2.5' of type 'float'"),
    "bool for an integer": ("seed", True, "seed: Value 'True' of type 'bool'"),
    "text for a bool": (
        "sampling.deterministic",
        "maybe",
        "sampling.deterministic: Value 'maybe' is not a valid bool",
    ),
    "text in a list of numbers": ("rerank.seeds", [1, "b"], "rerank.seeds[1]: Value 'b'"),
    "list in a mapping of names": ("rounds", {"1": ["0"]}, "rounds: {'1': ['0']} is not possible"),
    "null for a number": ("seed", None, "seed: Incompatible value 'None' for field of type 'int'"),
    "value to come": ("align.beta", "???", "align.beta: a value is required"),
    "broken interpolation": ("align.beta", "${none}", "align.beta: Interpolation key 'none'"),
    "too small": ("seed", -1, "seed: -1 is out of range; allowed is 0 to 2147483647"),
    "too large": ("sampling.top_p", 1.5, "sampling.top_p: 1.5 is out of range; allowed is 0.0 to"),
    "no maximum": ("reward.folds", 1, "reward.folds: 1 is out of range; allowed is 2 or more"),
    "not a number": ("align.beta", float("nan"), "align.beta: nan is out of range"),
    "infinite": ("align.learning_rate", float("inf"), "align.learning_rate: inf is out of range"),
    "infinite without bounds": (
        "data.rating_minimum",
        -float("inf"),
        "data.rating_minimum: -inf is out of range; allowed is a finite number",
    ),
    "not a choice": (
        "data.domain",
        "cars",
        "data.domain: 'cars' is not allowed; use films or books or beauty or products or items",
    ),
    "no projection": ("align.target_modules", [], "align.target_modules: [] must name one or more"),
    "unknown projection": (
        "align.target_modules",
        ["q_proj", "lm_head"],
        "align.target_modules: 'lm_head' is not allowed; use q_proj or k_proj",
    ),
    "projection twice": (
        "align.target_modules",
        ["q_proj", "q_proj"],
        "align.target_modules: ['q_proj', 'q_proj'] must name one or more, each once",
    ),
    "no seeds": ("rerank.seeds", [], "rerank.seeds: [] is not possible"),
    "seed twice": ("rerank.seeds", [1, 2, 1], "rerank.seeds: [1, 2, 1] is not possible"),
    "no files": ("data.sources.registry", [], "data.sources.registry: none is not possible"),
    "two places for a file": (
        "data.sources.registry",
        [{**FILE, "pieces": ["a==1:b"]}],
        "data.sources.registry: a is not possible; a file has either a url or pieces",
    ),
    "no place for a file": (
        "data.sources.registry",
        [{**FILE, "url": ""}],
        "data.sources.registry: a is not possible; a file has either a url or pieces",
    ),
    "member of a file that is no archive": (
        "data.sources.registry",
        [{**FILE, "member": "b"}],
        "data.sources.registry: a is not possible; a member is one of an archive in pieces",
    ),
    "unknown negatives": (
        "prepare.negatives",
        ["hard"],
        "prepare.negatives: 'hard' is not allowed; use popularity or uniform",
    ),
    "negatives without a list": (
        "prepare.negatives",
        "uniform",
        "prepare.negatives: 'uniform' stands where a list belongs",
    ),
    "no protocol": (
        "prepare.negatives",
        [],
        "prepare.negatives: [] must name one or more, each once, of popularity, uniform",
    ),
    "protocol twice": (
        "prepare.negatives",
        ["uniform", "uniform"],
        "prepare.negatives: ['uniform', 'uniform'] must name one or more, each once",
    ),
    "list without negatives": (
        "prepare.list_interactions",
        10,
        "prepare.list_interactions: 10 is not possible; must be less than prepare.list_size (10)",
    ),
    "no users to train on": (
        "prepare.valid_share",
        0.75,
        "prepare.valid_share: 0.75 is not possible; with prepare.test_share (0.25)",
    ),
    "no rating positive": (
        "data.positive_rating",
        6,
        "data.positive_rating: 6.0 is not possible; must lie in 1.0 to 5.0",
    ),
    "heads do not divide": ("ranker.heads", 3, "ranker.heads: 3 is not possible; must divide"),
    "zero users": ("prepare.users", 0, "prepare.users: 0 is not possible; must be null or 1"),
    "zero lists": ("prepare.lists_per_user", 0, "prepare.lists_per_user: 0 is not possible"),
    "zero pairs": ("pairs.maximum", 0, "pairs.maximum: 0 is not possible"),
    "a margin that no NDCG has": (
        "pairs.minimum_margin",
        1.5,
        "pairs.minimum_margin: 1.5 is not possible; a margin of ndcg@5 is 1 at most",
    ),
    "zero threads": ("machine.threads", 0, "machine.threads: 0 is not possible"),
    "no sequences": ("machine.parallel_sequences", -5, "machine.parallel_sequences: -5 is not"),
    "unknown baseline": (
        "baselines",
        ["none", "popularity"],
        "baselines: 'popularity' is not allowed; use none or noise or items or swapped or history",
    ),
    "baseline twice": (
        "baselines",
        ["none", "items", "none"],
        "baselines: ['none', 'items', 'none'] must name one or more, each once, of none, ",
    ),
    "no comparison with nothing": (
        "baselines",
        ["items"],
        "baselines: ['items'] is not possible; the others are compared with none; add it",
    ),
    "no baseline": ("baselines", [], "baselines: [] must name one or more, each once, of none"),
    "unknown order": (
        "orders",
        ["best"],
        "orders: 'best' is not allowed; use shown or popularity or random",
    ),
    "no order": ("orders", [], "orders: [] must name one or more, each once, of shown, "),
    "order twice": (
        "orders",
        ["random", "random"],
        "orders: ['random', 'random'] must name one or more, each once, of shown, ",
    ),
    "unknown backbone": (
        "rerank.backbones",
        ["prm", "kar"],
        "rerank.backbones: 'kar' is not allowed; use dlcm or prm or setrank or mir",
    ),
    "no backbone": ("rerank.backbones", [], "rerank.backbones: [] must name one or more, each"),
    "unknown measure": (
        "pairs.measure",
        "mrr",
        "pairs.measure: 'mrr' is not allowed; use ndcg@5 or map@5",
    ),
    "shown without impressions": (
        "orders",
        ["shown", "random"],
        "orders: ['shown', 'random'] is not possible; no list was shown; leave shown out, or set "
        "data.tabular.impressions.file",
    ),
    "impressions without shown": (
        "data.tabular.impressions.file",
        "log.csv",
        "orders: ['popularity', 'random'] is not possible; the lists of log.csv were shown in an "
        "order; add shown",
    ),
    "rounds out of order": (
        "rounds",
        {"1": "1", "2": "0"},
        "rounds: {'1': '1', '2': '0'} is not possible; round t judges policy t - 1",
    ),
    "policies too few": (
        "policies",
        ["0", "1"],
        "policies: ['0', '1'] is not possible; with 2 rounds and fine_tuned [] they are "
        "['0', '1', '2']",
    ),
    "policies out of order": ("policies", ["1", "0", "2"], "policies: ['1', '0', '2'] is not"),
    "control without policy": (
        "fine_tuned",
        ["sft"],
        "policies: ['0', '1', '2'] is not possible; with 2 rounds and fine_tuned ['sft'] they are "
        "['0', '1', '2', 'sft']",
    ),
    "policy without control": (
        "policies",
        ["0", "1", "2", "sft"],
        "policies: ['0', '1', '2', 'sft'] is not possible; with 2 rounds and fine_tuned []",
    ),
    "unknown control": ("fine_tuned", ["dpo"], "fine_tuned: 'dpo' is not allowed; use sft"),
    "control twice": (
        "fine_tuned",
        ["sft", "sft"],
        "fine_tuned: ['sft', 'sft'] must name one or more, each once, of sft",
    ),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_fault(tmp_path: Path, name: str) -> None:
    key, value, message = FAULTS[name]
    assert error(write(tmp_path, key, value)).startswith(message)


def test_a_control_needs_a_round(tmp_path: Path) -> None:
    params = OmegaConf.load(write(tmp_path, "rounds", {}))
    params.policies, params.fine_tuned = ["0"], []
    OmegaConf.save(params, tmp_path / "params.yaml")
    assert load_params(tmp_path / "params.yaml").policies == ["0"]
    params.policies, params.fine_tuned = ["0", "sft"], ["sft"]
    OmegaConf.save(params, tmp_path / "params.yaml")
    expected = "fine_tuned: ['sft'] is not possible; it learns from the pairs of round 1"
    assert error(tmp_path / "params.yaml").startswith(expected)


def test_numbers_of_policies_are_their_names(tmp_path: Path) -> None:
    params = OmegaConf.load(write(tmp_path, "policies", [0, 1]))
    params.rounds = {"1": 0}
    OmegaConf.save(params, tmp_path / "params.yaml")
    found = load_params(tmp_path / "params.yaml")
    assert (found.policies, found.rounds) == (["0", "1"], {"1": "0"})


def test_shown_lists_are_an_order(tmp_path: Path) -> None:
    path = write(tmp_path, "data.tabular.impressions.file", "log.csv")
    params = OmegaConf.load(path)
    OmegaConf.update(params, "orders", ["popularity", "shown"])
    OmegaConf.save(params, path)
    assert load_params(path).orders == ["popularity", "shown"]


SERVER: dict[str, tuple[str, Any, str]] = {
    "no address": ("machine.server", "nonsense", "machine.server: nonsense is not possible"),
    "one name for all": ("sampling.server_model", "llama", "sampling.server_model: llama is not"),
    "no name": ("sampling.server_model", "", "sampling.server_model:  is not possible"),
    "deterministic": ("sampling.deterministic", True, "sampling.deterministic: True is not"),
}


@pytest.mark.parametrize("name", list(SERVER))
def test_fault_with_a_server(tmp_path: Path, name: str) -> None:
    key, value, message = SERVER[name]
    load_params(write(tmp_path, key, value))  # another backend does not ask for it
    params = OmegaConf.load(tmp_path / "params.yaml")
    OmegaConf.update(params, "sampling.backend", "openai")
    OmegaConf.save(params, tmp_path / "params.yaml")
    assert error(tmp_path / "params.yaml").startswith(message)


@pytest.mark.parametrize(
    "key", ["seed", "align.beta", "baselines", "orders", "rounds", "fine_tuned", "data.domain"]
)
def test_missing_key(tmp_path: Path, key: str) -> None:
    assert error(without(tmp_path, key)) == f"{key}: a value is required"


def test_missing_block(tmp_path: Path) -> None:
    assert error(without(tmp_path, "sampling")) == "sampling.backend: a value is required"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("align: [1\n", "not valid YAML"),
        ("a: b: c\n", "not valid YAML"),
        ("seed: 1\nseed: 2\n", "not valid YAML"),
        ("seed: &s [*s]\n", "not valid YAML"),
        ("- seed\n", "must be a mapping of parameter blocks"),
        ("5\n", "not a file of parameter blocks"),
        ("", "seed: a value is required"),
        ("1: 2\n", "1: unknown key (value 2)"),
    ],
)
def test_broken_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    assert error(path).startswith(message)


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert error(path).startswith("not valid YAML")


def test_missing_file(tmp_path: Path) -> None:
    assert error(tmp_path / "none.yaml") == "no such file"


def test_folder(tmp_path: Path) -> None:
    assert error(tmp_path).startswith("not a file of parameter blocks")
