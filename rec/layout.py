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
LISTS = TABLES / "lists.parquet"  # of the first protocol, which rewards and pairs are made with
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

ORDER_RUNS = DATA / "runs" / "orders.parquet"  # the lists by each of `orders`
COMPARISON = DATA / "comparison"  # what the results table rests on
USER_METRICS = COMPARISON / "users.parquet"  # per user, variant, backbone, seed and protocol
DIFFERENCES = COMPARISON / "differences.json"  # every comparison with interval, p and effect size
FIGURES = COMPARISON / "figures.json"  # all numbers of a run; METRICS has a few of them


def ranking_links(round_: int) -> Path:
    """The last links of a round's chain of mediation: fresh re-rankers, after against before."""
    return COMPARISON / f"links-{round_}.json"


MODELS = DATA / "models"  # the aligned adapter and a re-ranker, each with its model card

METRICS = Path("metrics.json")
PLOTS = Path("plots")
REPORT = Path("report.html")


def protocol_lists(protocol: str) -> Path:
    """The lists of a further protocol: the same positives with other negatives."""
    return TABLES / f"lists-{protocol}.parquet"


def policy(name: str) -> Path:
    """Folder of a policy: 0 is the base LLM, t the LLM after round t, sft the fine-tuned one."""
    return DATA / "policy" / name


ADAPTER = "adapter.gguf"


def aligned(name: str) -> Path | None:
    """Folder of a policy that has a LoRA; None for the base."""
    path = policy(name) / "policy.json"
    settings = read_json(path)
    if not isinstance(settings, dict) or "adapter" not in settings:
        raise RecError(f"{path}: it must name the policy's adapter, or null for the base")
    return policy(name) if settings["adapter"] else None


def responses(policy: str) -> Path:
    """The texts that a policy wrote."""
    return DATA / "responses" / f"{policy}.parquet"


def sampling_metrics(policy: str) -> Path:
    """Counts over a policy's responses."""
    return DATA / "responses" / f"{policy}.json"


def drawing(policy: str) -> Path:
    """How fast a policy's responses were drawn on this machine, and which ones they were."""
    return WORK / "drawing" / f"{policy}.json"


def knowledge(policy: str) -> Path:
    """Folder of what the texts of a policy are as vectors."""
    return DATA / "vectors" / policy


def vectors(policy: str) -> Path:
    """The vectors of a policy's responses."""
    return knowledge(policy) / "responses.parquet"


def joint_vectors(policy: str) -> Path:
    """The vectors of histories and responses as one text; where something is told so (joint)."""
    return knowledge(policy) / "joint.parquet"


def identifiability(policy: str) -> Path:
    """How well a policy's responses tell users apart."""
    return knowledge(policy) / "identifiability.json"


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


def alignment(policy: str) -> Path:
    """Folder of what was logged while a policy was trained."""
    return DATA / "alignment" / policy


def alignment_curve(policy: str) -> Path:
    """Training curve of a policy, a row per optimiser step."""
    return alignment(policy) / "curve.csv"


def alignment_summary(policy: str) -> Path:
    """Where a policy's curve ended, and its accuracy on held-out pairs."""
    return alignment(policy) / "summary.json"


def retold(policy: str) -> Path:
    """Links of a policy: the re-rankers of the one that it was trained from, told its texts."""
    return DATA / "retold" / f"{policy}.json"


def mediation(round_: int) -> Path:
    """The links from a round's texts to the reward of fresh ones, with intervals."""
    return DATA / "mediation" / f"{round_}.json"


def runs(variant: str, backbone: str, seed: int) -> Path:
    """What a re-ranker made of the lists of validation and test users (table RUNS)."""
    return DATA / "runs" / variant / f"{backbone}-{seed}.parquet"


def training(variant: str, backbone: str, seed: int) -> Path:
    """How a re-ranker of the comparison was trained, per protocol: curve and best epoch."""
    return DATA / "runs" / variant / f"{backbone}-{seed}.json"


def reranker(variant: str, backbone: str, seed: int) -> Path:
    """Weights of a re-ranker of the comparison, of the first protocol."""
    return DATA / "rerankers" / variant / f"{backbone}-{seed}.safetensors"
