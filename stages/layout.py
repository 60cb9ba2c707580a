"""Where each artifact lies: the paths that dvc.yaml names."""

from pathlib import Path

from rec.errors import RecError
from rec.files import read_json

DATA = Path("data")

RAW_DATA = DATA / "raw" / "data"
RAW_LLM = DATA / "raw" / "llm"
RAW_ENCODER = DATA / "raw" / "encoder"

TABLES = DATA / "tables"
INTERACTIONS = TABLES / "interactions.parquet"
ITEMS = TABLES / "items.parquet"
USERS = TABLES / "users.parquet"
LISTS = TABLES / "lists.parquet"
REJECTS = TABLES / "rejects.parquet"  # the first rows of each kind that were left out
PREPARED = TABLES / "prepare.json"  # counts: what was read, dropped and why
STATISTICS = DATA / "stats.json"  # what the tables are: counts, distributions, baselines

PROMPTS = DATA / "prompts.parquet"

LLM = DATA / "llm"
GGUF = LLM / "model.gguf"
HF = LLM / "hf"

CATALOGUE = DATA / "catalogue"  # vectors of what is known without an LLM
ITEM_VECTORS = CATALOGUE / "items.parquet"
HISTORY_VECTORS = CATALOGUE / "histories.parquet"

WORK = Path(".cache")  # outside of DVC's outputs

METRICS = Path("metrics.json")
PLOTS = Path("plots")
REPORT = Path("report.html")


def policy(number: int) -> Path:
    """Folder of a policy: 0 is the base LLM, t the LLM after round t."""
    return DATA / "policy" / str(number)


ADAPTER = "adapter.gguf"


def aligned(number: int) -> Path | None:
    """Folder of a policy that has a LoRA; None for the base."""
    path = policy(number) / "policy.json"
    settings = read_json(path)
    if not isinstance(settings, dict) or "adapter" not in settings:
        raise RecError(f"{path}: it must name the policy's adapter, or null for the base")
    return policy(number) if settings["adapter"] else None


def responses(policy: int) -> Path:
    """The texts that a policy wrote."""
    return DATA / "responses" / f"{policy}.parquet"


def sampling_metrics(policy: int) -> Path:
    """Counts over a policy's responses."""
    return DATA / "responses" / f"{policy}.json"


def vectors(policy: int) -> Path:
    """The vectors of a policy's responses."""
    return DATA / "vectors" / f"{policy}.parquet"


def identifiability(policy: int) -> Path:
    """How well a policy's responses tell users apart."""
    return DATA / "vectors" / f"{policy}.json"


def reward(round_: int) -> Path:
    """Folder of a round's reward models, one per fold."""
    return DATA / "reward" / str(round_)


def scores(round_: int) -> Path:
    """What the reward models think of each response of a train or validation user."""
    return DATA / "scores" / f"{round_}.parquet"


def pairs(round_: int) -> Path:
    """A round's preference pairs, of train users."""
    return DATA / "pairs" / f"{round_}.parquet"


def heldout_pairs(round_: int) -> Path:
    """A round's pairs of validation users, which nothing is trained on."""
    return DATA / "pairs" / f"{round_}-heldout.parquet"


def pairs_metrics(round_: int) -> Path:
    """Figures of a round's pairs, held-out ones included: margins, lengths, ties, drops."""
    return DATA / "pairs" / f"{round_}.json"


def alignment(round_: int) -> Path:
    """Folder of what a round's training logged."""
    return DATA / "alignment" / str(round_)


def alignment_curve(round_: int) -> Path:
    """Training curve of a round, a row per optimiser step."""
    return alignment(round_) / "curve.csv"


def alignment_summary(round_: int) -> Path:
    """Where a round's curve ended, and its accuracy on held-out pairs."""
    return alignment(round_) / "summary.json"


def runs(variant: str) -> Path:
    """Per-list test metrics of a variant of the comparison."""
    return DATA / "runs" / f"{variant}.parquet"


def training(variant: str) -> Path:
    """How the re-rankers of a variant were trained: curves and best epochs."""
    return DATA / "runs" / f"{variant}.json"
