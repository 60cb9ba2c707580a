"""What the comparison found, as data/comparison/differences.json holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rec.comparison.power import Power
from rec.comparison.significance import LEVEL
from rec.errors import RecError
from rec.files import read_json, write_json

PRIMARY, SECONDARY = "primary", "secondary"


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Difference:
    """A paired difference between two variants, by their slugs: `of` minus `to`."""

    of: str
    to: str
    estimate: Estimate
    relative_percent: float | None  # of the value of `to`; None where that is 0
    effect_size: float | None  # d_z: mean by standard deviation over users
    users_better: float  # share of users
    users_worse: float
    by_seed: list[float]  # the mean difference with each seed, in the order of the seeds
    p: float  # the larger of the sign-flip test over users and the t-test over users and seeds
    p_holm: float  # corrected within the family

    @property
    def significant(self) -> bool:
        """Whether the corrected p is at most 0.05 and the interval excludes 0."""
        return self.p_holm <= LEVEL and self.estimate.excludes_zero

    @property
    def verdict(self) -> str:
        """`significant` as words."""
        return "significant" if self.significant else "not significant"


@dataclass(frozen=True)
class Family:
    """The values of all variants by one metric, and comparisons corrected together."""

    kind: str  # PRIMARY or SECONDARY
    protocol: str
    backbone: str  # "": the mean over all backbones
    measure: str
    values: dict[str, Estimate]  # by slug
    to_base: dict[str, Estimate]  # difference of each other variant to the base LLM
    comparisons: list[Difference]

    def comparison(self, of: str, to: str) -> Difference | None:
        """The comparison of two variants, None where the family has none."""
        return next((d for d in self.comparisons if (d.of, d.to) == (of, to)), None)


@dataclass(frozen=True)
class Contrast:
    """A difference within a slice: explored, not tested."""

    of: str
    to: str
    estimate: Estimate


@dataclass(frozen=True)
class Slice:
    """Some users or some lists, and what the variants differ by on them."""

    by: str  # "history" or "popularity"
    name: str
    users: int
    lists: int
    contrasts: list[Contrast]


@dataclass(frozen=True)
class Comparison:
    """Everything that the comparison found on test users. Variants are slugs."""

    protocols: list[str]  # the main one first
    variants: list[str]
    backbones: list[str]
    seeds: list[int]
    test_users: int
    test_lists: int  # of each protocol
    bootstrap: int
    permutations: int
    families: list[Family]  # the primary one first
    slices: list[Slice] = field(default_factory=list)
    power: Power | None = None  # None without a comparison

    @property
    def primary(self) -> Family:
        """The family that the summary speaks of."""
        return self.families[0]

    def family(self, protocol: str, measure: str, backbone: str = "") -> Family:
        """The family of a protocol and a metric; RecError where there is none."""
        for family in self.families:
            if (family.protocol, family.measure, family.backbone) == (protocol, measure, backbone):
                return family
        raise RecError(f"comparison: no family of protocol {protocol}, {measure} {backbone}")


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the comparison as JSON."""
    write_json(path, asdict(comparison))


def read_comparison(path: Path) -> Comparison:
    """Read a comparison. Raises RecError, naming the file, where it is missing or broken."""
    try:
        found = TypeAdapter(Comparison).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecError(f"{path}: not a comparison ({where}: {first['msg']})") from error
    if not found.families or found.primary.kind != PRIMARY:
        raise RecError(f"{path}: not a comparison (families: the first must be the primary one)")
    return found
