"""Which LLM writes: the base, an aligned one, or the base with an adapter from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rec import layout
from rec.config import BASE, BASE_NAME, FINE_TUNED, Params
from rec.errors import RecError
from rec.files import read_json
from rec.llm.backends import Policy

ALIGNED = "aligned"


@dataclass(frozen=True)
class Writer:
    """An LLM to write profiles, and whose re-ranker reads them."""

    name: str  # "base", "aligned", a policy's name, or a path
    policy: Policy
    variant: str  # of the comparison: the policy whose texts its re-rankers learned from
    stage: str  # that makes the adapter; "" for the base and for a path

    @property
    def is_policy(self) -> bool:
        """Whether it is one of the pipeline's."""
        return self.policy.name == self.variant


def find_writer(chosen: str, params: Params, folder: Path) -> Writer:
    """The LLM of "base", "aligned", a policy's name, or a path below `folder`.

    The aligned one is that of the last round of DPO; where data/policy lacks it, the adapter in
    data/models. The texts of an adapter from elsewhere are read by the re-ranker of the last round,
    or of the base where there is none. Whether the files are there is not asked. Raises RecError
    for what is none of these, and for an adapter of another LLM.
    """
    if chosen == BASE_NAME:
        return _policy(BASE_NAME, BASE)
    last = str(len(params.rounds))
    if chosen == ALIGNED:
        if last == BASE:
            raise RecError(
                "params.yaml has no round of DPO, so that nothing is aligned; use base, or a group"
                " of rounds such as rounds=t1"
            )
        return _policy(ALIGNED, last)
    if chosen in params.policies:
        return _policy(chosen, chosen)
    path = folder / _expanded(chosen)
    adapter = path / layout.ADAPTER if path.is_dir() else path
    if not adapter.is_file() or adapter.suffix != ".gguf":
        policies = ", ".join(params.policies)
        raise RecError(
            f"adapter {chosen!r}: use base, aligned, a policy ({policies}), a folder with"
            f" {layout.ADAPTER}, or a .gguf file"
        )
    _require_llm(path / "policy.json", params)
    return Writer(chosen, Policy(chosen, layout.GGUF, layout.HF, path), last, "")


def _expanded(chosen: str) -> Path:
    """The path, with a home folder in place of ~ where there is such a user."""
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        return Path(chosen)


def _policy(name: str, policy: str) -> Writer:
    if policy == BASE:
        return Writer(name, Policy(policy, layout.GGUF, layout.HF), policy, "")
    folder, passed_on = layout.policy(policy), layout.MODELS / "adapter"
    if name == ALIGNED and not folder.exists() and passed_on.exists():
        folder = passed_on
    stage = f"align-sft@{policy}" if policy in FINE_TUNED else f"align@{policy}"
    return Writer(name, Policy(policy, layout.GGUF, layout.HF, folder), policy, stage)


def _require_llm(path: Path, params: Params) -> None:
    """Raise RecError where a policy.json names another LLM than the parameters."""
    described = read_json(path) if path.is_file() else {}
    llm = described.get("llm") if isinstance(described, dict) else None
    if llm not in (None, params.llm.name):
        raise RecError(f"{path}: the adapter is for {llm!r}; params.yaml has {params.llm.name!r}")
