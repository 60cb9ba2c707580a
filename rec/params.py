"""Reading params.yaml, so that what is wrong in it ends a run before any work.

An unknown key, a wrong type or a value out of range is a one-line error with the key, the value and
what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from rec.config import BASE, FINE_TUNED, LLM, Data, Encoder, Params, source_files
from rec.errors import RecError


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
    except RecursionError as error:
        raise RecError(f"{path}: not valid YAML (an alias stands in its own anchor)") from error
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


def _require(condition: bool, name: str, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise RecError(f"{name}: {key}: {value} is not possible; {allowed}")


def _check_relations(params: Params, name: str) -> None:
    _check_sources(params, name)
    _check_rounds(params, name)
    _check_server(params, name)
    _check_alignment(params, name)
    _check_mir(params, name)
    _check_variants(params, name)
    prepare, data, ranker = params.prepare, params.data, params.ranker
    size, test = prepare.list_size, prepare.test_share
    own, valid = prepare.list_interactions, prepare.valid_share
    allowed = f"must be less than prepare.list_size ({size}), the rest being negatives"
    _require(own < size, name, "prepare.list_interactions", own, allowed)
    allowed = f"with prepare.test_share ({test}) it must leave 5% for training"
    _require(valid + test < 0.95, name, "prepare.valid_share", valid, allowed)
    low, high, positive = data.rating_minimum, data.rating_maximum, data.positive_rating
    allowed = f"must lie in {low} to {high}"
    _require(low <= positive <= high, name, "data.positive_rating", positive, allowed)
    allowed = f"must divide ranker.hidden ({ranker.hidden})"
    _require(ranker.hidden % ranker.heads == 0, name, "ranker.heads", ranker.heads, allowed)
    measure, margin = params.pairs.measure, params.pairs.minimum_margin
    allowed = f"a margin of {measure} is 1 at most"
    possible = margin <= 1 or measure == "log_likelihood"
    _require(possible, name, "pairs.minimum_margin", margin, allowed)
    for key, count in (
        ("prepare.users", prepare.users),
        ("prepare.lists_per_user", prepare.lists_per_user),
        ("pairs.maximum", params.pairs.maximum),
        ("machine.processes", params.machine.processes),
        ("machine.threads", params.machine.threads),
        ("machine.parallel_sequences", params.machine.parallel_sequences),
    ):
        _require(count is None or count >= 1, name, key, count, "must be null or 1 or more")
    seeds = params.rerank.seeds
    once = 0 < len(seeds) == len(set(seeds)) and all(0 <= seed < 2**31 for seed in seeds)
    allowed = "it needs one seed or more, each once, from 0 to 2147483647"
    _require(once, name, "rerank.seeds", seeds, allowed)


def _check_sources(params: Params, name: str) -> None:
    artifacts: dict[str, Data | LLM | Encoder] = {
        "data": params.data,
        "llm": params.llm,
        "encoder": params.encoder,
    }
    for block, artifact in artifacts.items():
        key = f"{block}.sources.{artifact.source}"
        files = source_files(artifact)
        if artifact.source == "local":
            continue
        _require(len(files) > 0, name, key, "none", f"{artifact.name} needs files there")
        for file in files:
            one_place = bool(file.url) != bool(file.pieces)
            _require(one_place, name, key, file.name, "a file has either a url or pieces")
            packed = bool(file.pieces) or not file.member
            _require(packed, name, key, file.name, "a member is one of an archive in pieces")


def _check_server(params: Params, name: str) -> None:
    sampling, address = params.sampling, params.machine.server
    if sampling.backend != "openai":
        return
    is_address = re.match(r"https?://[^/\s]", address) is not None
    allowed = "it must be http(s)://HOST[:PORT]/v1 or the like"
    _require(is_address, name, "machine.server", address, allowed)
    model = sampling.server_model
    told_apart = "{policy}" in model or (model != "" and not params.rounds)
    allowed = "it needs {policy}, since a server knows each policy by a name of its own"
    _require(told_apart, name, "sampling.server_model", model, allowed)
    allowed = "a server draws requests together; use llama_cpp or transformers"
    _require(not sampling.deterministic, name, "sampling.deterministic", True, allowed)


def _check_alignment(params: Params, name: str) -> None:
    align, ratio = params.align, params.pairs.length_ratio
    allowed = "must be null or a finite number of 1 or more"
    _require(ratio is None or 1 <= ratio < math.inf, name, "pairs.length_ratio", ratio, allowed)
    smoothing = align.label_smoothing
    allowed = f"align.loss {align.loss} takes none; only robust does"
    _require(
        smoothing == 0 or align.loss == "robust", name, "align.label_smoothing", smoothing, allowed
    )
    allowed = "align.loss ipo and the margins divide by it; it must be above 0"
    _require(align.beta > 0, name, "align.beta", align.beta, allowed)
    allowed = "the LoRA would change nothing; it must be above 0"
    _require(align.alpha > 0, name, "align.alpha", align.alpha, allowed)
    for key, limit in dataclasses.asdict(align.guards).items():
        known = limit is None or 0 <= limit < math.inf
        allowed = "must be null or a finite number of 0 or more"
        _require(known, name, f"align.guards.{key}", limit, allowed)


def _check_variants(params: Params, name: str) -> None:
    orders, shown = params.orders, params.data.tabular.impressions.file
    allowed = "the others are compared with none; add it"
    _require("none" in params.baselines, name, "baselines", params.baselines, allowed)
    if shown:
        allowed = f"the lists of {shown} were shown in an order; add shown"
    else:
        allowed = "no list was shown; leave shown out, or set data.tabular.impressions.file"
    _require(("shown" in orders) == bool(shown), name, "orders", orders, allowed)


def _check_mir(params: Params, name: str) -> None:
    """MIR has a half of its hidden states for each direction of the history."""
    if "mir" in (*params.rerank.backbones, params.reward.backbone):
        hidden = params.ranker.hidden
        _require(hidden % 2 == 0, name, "ranker.hidden", hidden, "must be even for mir")


def _check_rounds(params: Params, name: str) -> None:
    count, controls = len(params.rounds), params.fine_tuned
    rounds = {str(number): str(number - 1) for number in range(1, count + 1)}
    allowed = "round t judges policy t - 1"
    _require(params.rounds == rounds, name, "rounds", params.rounds, allowed)
    responses = params.sampling.responses
    allowed = "a round compares responses of a user and needs 2 or more; only rounds=t0 takes 1"
    _require(responses > 1 or not count, name, "sampling.responses", responses, allowed)
    if controls:
        _check_choice(controls, FINE_TUNED, name, "fine_tuned")
        allowed = "it learns from the pairs of round 1, and rounds has none"
        _require(count > 0, name, "fine_tuned", controls, allowed)
    policies = [BASE, *rounds, *controls]
    allowed = f"with {count} rounds and fine_tuned {controls} they are {policies}"
    _require(params.policies == policies, name, "policies", params.policies, allowed)
