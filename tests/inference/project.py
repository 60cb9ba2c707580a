"""A small project with models that run: what ad-hoc inference needs, as the pipeline leaves it.

The LLM, its adapter, the encoder and the re-rankers are tiny and untrained; there are few films and
users.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from omegaconf import OmegaConf

from rec import layout
from rec.config import Params, Ranker
from rec.files import write_json
from rec.knowledge import Encoder, item_text, told_vectors, vectors_table
from rec.llm.adapter import export_adapter
from rec.params import load_params
from rec.prompts import user_prompts, words
from rec.rerank.features import Features, Knowledge, build_features, item_knowledge, user_knowledge
from rec.rerank.reranker import save
from rec.reward import describe, weights_path
from rec.tables import (
    INTERACTIONS,
    ITEMS,
    LISTS,
    PROMPTS,
    RESPONSES,
    USERS,
    Schema,
    vectors_schema,
    write_table,
)
from tests.cli.running import ROOT
from tests.llm.test_adapter import save_lora
from tests.llm.tiny import make_tiny
from tests.rerank.builders import fresh, ranker
from tests.test_knowledge import save_encoder

#: Item, title, year, categories; by popularity.
FILMS = [
    ("50", "Star Wars", 1977, ["Action", "Sci-Fi"]),
    ("100", "Fargo", 1996, ["Crime", "Drama"]),
    ("1", "Toy Story", 1995, ["Animation", "Comedy"]),
    ("127", "The Godfather", 1972, ["Crime", "Drama"]),
    ("12", "The Usual Suspects", 1995, ["Crime", "Thriller"]),
    ("187", "The Godfather: Part II", 1974, ["Crime", "Drama"]),
    ("117", "The Rock", 1996, ["Action", "Thriller"]),
    ("11", "Seven (Se7en)", 1995, ["Crime", "Thriller"]),
    ("8", "Babe", 1995, ["Comedy", "Drama"]),
    ("118", "Twister", 1996, ["Action", "Thriller"]),
    ("135", "2001: A Space Odyssey", 1968, ["Drama", "Sci-Fi"]),
    ("330", "187", 1997, ["Drama"]),
    ("274", "Sabrina", 1995, ["Comedy"]),
    ("486", "Sabrina", 1954, ["Comedy"]),
    ("1022", "Fast, Cheap & Out of Control", 1997, ["Documentary"]),
    ("534", "Maybe, Maybe Not (Der Bewegte Mann)", 1994, ["Comedy"]),
    ("183", "Alien", 1979, ["Action", "Sci-Fi"]),
    ("176", "Aliens", 1986, ["Action", "Sci-Fi"]),
    ("1039", "Hate (La Haine)", 1995, ["Drama"]),
    ("267", "unknown", None, []),
]
SPLITS = {"120": "train", "122": "train", "128": "train", "164": "valid", "10": "test"}
SAMPLES, LISTS_EACH, SIZE = 2, 2, 10
RANKER = ranker()


def small_ranker(**changes: object) -> Ranker:
    """The re-rankers' settings."""
    return replace(RANKER, **changes)  # type: ignore[arg-type]


def card(films: str, others: str) -> str:
    """A card that names films."""
    loved, disliked, *labels = words("films").labels
    lines = [f"{loved} {films}", f"{disliked} {others}", *(f"{label} war" for label in labels)]
    return "\n".join(lines)


def items_table() -> pl.DataFrame:
    """The films as ITEMS."""
    rows = [(*film, len(FILMS) - place, place) for place, film in enumerate(FILMS)]
    return pl.DataFrame(rows, schema=dict(ITEMS), orient="row").sort("item")


def write_params(root: Path, text: str = "joint", **ranker: object) -> Params:
    """Write params.yaml: this repository's with smaller models and one round; the parameters."""
    values = OmegaConf.load(ROOT / "params.yaml")
    changes: dict[str, dict[str, Any]] = {
        "encoder": {"max_tokens": 24, "batch_size": 4},
        "llm": {"context": 2048},
        "knowledge": {"text": text},
        "sampling": {"slot_tokens": 4, "responses": SAMPLES, "responses_valid": SAMPLES},
        "ranker": asdict(small_ranker(**ranker)),
        "reward": {"folds": 2, "text": "response", "backbone": "dlcm"},
        "rerank": {"backbones": ["prm", "dlcm"], "seeds": [1]},
        "machine": {"threads": 1, "parallel_sequences": 4},
    }
    for block, own in changes.items():
        for key, value in own.items():
            OmegaConf.update(values, f"{block}.{key}", value)
    OmegaConf.update(values, "policies", ["0", "1"])
    OmegaConf.update(values, "rounds", {"1": "0"}, merge=False)
    OmegaConf.save(values, root / "params.yaml")
    return load_params(root / "params.yaml")


def write_project(root: Path, text: str = "joint") -> Path:
    """Write the project, with re-rankers that are told what `knowledge.text` says; its folder."""
    root.mkdir(parents=True, exist_ok=True)
    params = write_params(root, text)
    _write_llm(root)
    save_encoder(root / layout.RAW_ENCODER)
    write_tables(root, params)
    _write_responses(root)
    _write_vectors(root, params)
    _write_rerankers(root, params)
    return root


def write_tables(root: Path, params: Params) -> None:
    """Items, users, interactions, lists and prompts."""
    rng = np.random.default_rng(4)
    items = items_table()
    by_popularity = [film[0] for film in FILMS]
    interactions, lists, users = [], [], []
    for user, split in SPLITS.items():
        chosen = rng.choice(items["item"].to_list(), 12, replace=False).tolist()
        users.append((user, split, 6, LISTS_EACH))
        for place, item in enumerate(chosen):
            part = "profile" if place < 6 else "list"
            interactions.append((user, item, float(rng.integers(1, 6)), place, place, part))
        for number in range(LISTS_EACH):
            own = chosen[6 + 3 * number : 9 + 3 * number]
            others = [item for item in by_popularity if item not in chosen]
            shown = sorted(
                [*own, *rng.choice(others, SIZE - 3, replace=False)], key=by_popularity.index
            )
            labels = [int(item == own[0]) for item in shown]
            lists.append((f"{user}-{number}", user, split, 6 + 3 * number, shown, labels))
    tables: list[tuple[Path, Sequence[tuple[object, ...]], Schema]] = [
        (layout.USERS, users, USERS),
        (layout.INTERACTIONS, interactions, INTERACTIONS),
        (layout.LISTS, lists, LISTS),
    ]
    written = {
        path: pl.DataFrame(rows, schema=dict(schema), orient="row") for path, rows, schema in tables
    }
    for path, _, schema in tables:
        write_table(written[path], root / path, schema)
    write_table(items, root / layout.ITEMS, ITEMS)
    asked = user_prompts(
        written[layout.INTERACTIONS],
        items,
        written[layout.USERS],
        domain=params.data.domain,
        response=params.prompts.response,
        history=params.prompts.history,
        positive_rating=params.data.positive_rating,
    )
    write_table(asked, root / layout.PROMPTS, PROMPTS)


def _write_llm(root: Path) -> None:
    work = root / "tiny"
    tiny = make_tiny(work, "llama")
    (root / layout.LLM).mkdir(parents=True)
    shutil.move(tiny.gguf, root / layout.GGUF)
    shutil.copytree(tiny.hf, root / layout.HF)
    for policy, adapter in (("0", None), ("1", layout.ADAPTER)):
        write_json(
            root / layout.policy(policy) / "policy.json",
            {"adapter": adapter, "llm": "smollm2-135m"},
        )
    folder = root / layout.policy("1")
    save_lora(tiny, folder)
    export_adapter(folder, tiny.hf, folder / layout.ADAPTER)
    shutil.rmtree(work)


def _write_responses(root: Path) -> None:
    for policy, films in (("0", "Star Wars"), ("1", "Toy Story")):
        rows = [
            {
                "key": f"user:{user}",
                "sample": sample,
                "text": card(films, f"{user} {sample}"),
                "token_ids": [1],
                "prompt_tokens": 1,
                "response_tokens": 1,
                "finish_reason": "stop",
                "cut_slots": 0,
                "empty_slots": 0,
                "looping": False,
                "seed": 1,
            }
            for user in SPLITS
            for sample in range(SAMPLES)
        ]
        table = pl.DataFrame(rows, schema=dict(RESPONSES)).sort("key", "sample")
        write_table(table, root / layout.responses(policy), RESPONSES)


def _write_vectors(root: Path, params: Params) -> None:
    encoder = Encoder(root / layout.RAW_ENCODER, params.encoder.max_tokens, 4)
    schema = vectors_schema(encoder.dimension)
    items, prompts = items_table(), pl.read_parquet(root / layout.PROMPTS)
    texts = [item_text(*row) for row in items.select("title", "year", "categories").iter_rows()]

    def write(path: Path, keys: pl.Series, samples: Sequence[int], texts: Sequence[str]) -> None:
        table = vectors_table(keys.to_list(), samples, encoder.encode(texts))
        write_table(table, root / path, schema)

    write(layout.ITEM_VECTORS, items["item"], [0] * items.height, texts)
    histories = prompts["history"].to_list()
    write(layout.HISTORY_VECTORS, prompts["key"], [0] * len(histories), histories)
    read = dict(prompts.select("key", "history").iter_rows())
    for policy in ("0", "1"):
        told = pl.read_parquet(root / layout.responses(policy))
        joint = [f"{read[key]}\n{text}" for key, text in told.select("key", "text").iter_rows()]
        for path, written in (
            (layout.vectors(policy), told["text"].to_list()),
            (layout.joint_vectors(policy), joint),
        ):
            write(path, told["key"], told["sample"].to_list(), written)


def project_features(root: Path, params: Params) -> Features:
    """All lists of the project."""
    interactions, lists = (
        pl.read_parquet(root / path) for path in (layout.INTERACTIONS, layout.LISTS)
    )
    return build_features(items_table(), interactions, lists, params.ranker.history, (1.0, 5.0))


def project_knowledge(root: Path, features: Features, policy: str, text: str) -> Knowledge:
    """What is told of a policy's responses; `text` is `knowledge.text` or `reward.text`."""
    items = item_knowledge(features, pl.read_parquet(root / layout.ITEM_VECTORS))
    vectors = pl.read_parquet(root / told_vectors(policy, text))
    histories = None
    if text == "both":
        histories = pl.read_parquet(root / layout.HISTORY_VECTORS)
    prompts = pl.read_parquet(root / layout.PROMPTS)
    return user_knowledge(features, items, vectors, prompts, histories)


def _write_rerankers(root: Path, params: Params) -> None:
    features = project_features(root, params)
    texts = (params.knowledge.text, params.reward.text)
    told, judged = (project_knowledge(root, features, "0", text) for text in texts)
    (root / layout.reward(1)).mkdir(parents=True)
    for number, (variant, backbone) in enumerate(
        (variant, backbone) for variant in ("none", "0", "1") for backbone in ("prm", "dlcm")
    ):
        model = fresh(features, None if variant == "none" else told, backbone, params.ranker, 0.3)
        torch.manual_seed(number)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.3)
        path = root / layout.reranker(variant, backbone, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(model, path)
    for fold in range(params.reward.folds):
        judge = fresh(features, judged, params.reward.backbone, params.ranker, 0.2 + fold)
        save(judge, weights_path(root / layout.reward(1), fold))
    described = describe(params.seed, params.reward.folds, 1, [])
    write_json(root / layout.reward(1) / "reward.json", {**described, "policy": "0"})
