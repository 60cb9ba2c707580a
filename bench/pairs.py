"""Real preference pairs for benches: MovieLens histories, and two texts of the LLM for each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from bench.data import paths
from bench.models import ROOT, WORK, Imported
from rec.align.pairs import TokenPair
from rec.config import Machine, Params, source_files
from rec.download import fetch_files
from rec.files import atomic_path, write_json
from rec.llm.backends import Policy
from rec.llm.form import by_policy
from rec.llm.model import Model
from rec.params import load_params
from rec.preparation import prepare_data
from rec.prompts import user_prompts
from rec.responses import response_form
from rec.sampling import sample
from rec.tables import INTERACTIONS, ITEMS, USERS, read_table

SHORTEST, LONGEST = 300, 450  # tokens of a prompt
HISTORY = 45  # interactions in a prompt
SLOT_TOKENS = 16  # a card of seven such slots has about a hundred tokens


def real_pairs(model: Imported, count: int) -> list[TokenPair]:
    """Pairs of `count` users whose prompts have SHORTEST to LONGEST tokens, made once and kept."""
    kept = WORK / "pairs" / f"{model.folder.parent.name}-{count}.json"
    if not kept.is_file():
        params = load_params(ROOT / "params.yaml")
        write_json(kept, [_fields(pair) for pair in _make(model, _prompts(params), params, count)])
    return [TokenPair(*fields) for fields in json.loads(kept.read_text(encoding="utf-8"))]


def _fields(pair: TokenPair) -> list[list[int]]:
    masks = [list(map(int, pair.chosen_by_policy)), list(map(int, pair.rejected_by_policy))]
    return [list(pair.prompt), list(pair.chosen), list(pair.rejected), *masks]


def _prompts(params: Params) -> pl.DataFrame:
    """Prompts with long histories; all users are train users here."""
    folder = WORK / "pairs" / "tables"
    if not folder.is_dir():
        raw = WORK / "ml-100k"
        if not raw.is_dir():
            fetch_files(source_files(params.data), raw)
        prepare = replace(params.prepare, users=None, profile_interactions=HISTORY)
        data = replace(params.data, path=str(raw))
        with atomic_path(folder) as temporary:
            prepare_data(data, prepare, params.seed, paths(temporary), WORK / "pairs" / "work")
    interactions, items, users = (
        read_table(folder / f"{name}.parquet", schema)
        for name, schema in (("interactions", INTERACTIONS), ("items", ITEMS), ("users", USERS))
    )
    return user_prompts(
        interactions,
        items,
        users.with_columns(split=pl.lit("train")),
        domain=params.data.domain,
        response="card",
        history=HISTORY,
        positive_rating=params.data.positive_rating,
    )


def _make(model: Imported, table: pl.DataFrame, params: Params, count: int) -> list[TokenPair]:
    with Model(model.gguf, vocabulary_only=True) as vocabulary:
        ids = [vocabulary.chat(messages) for messages in table["messages"]]
        fits = pl.Series([SHORTEST <= len(one) <= LONGEST for one in ids])
        table = table.filter(fits).head(count)
        form = response_form(vocabulary, params.data.domain, "card", SLOT_TOKENS, 1)
        responses = _sample(model, table, params)
        found = []
        for key, messages in table.select("key", "messages").iter_rows():
            own = responses.filter(pl.col("key") == key).sort("sample")["token_ids"].to_list()
            (chosen, first), (rejected, second) = (by_policy(form, one) for one in own)
            prompt = list(vocabulary.chat(messages))
            found.append(TokenPair(prompt, chosen, rejected, first, second))
        return found


def _sample(model: Imported, table: pl.DataFrame, params: Params) -> pl.DataFrame:
    settings = replace(params.sampling, backend="llama_cpp", responses=2, slot_tokens=SLOT_TOKENS)
    with TemporaryDirectory() as store:
        responses, _ = sample(
            table,
            Policy("0", model.gguf, model.hf),
            domain=params.data.domain,
            response="card",
            settings=settings,
            context=1024,
            seed=1,
            machine=Machine(parallel_sequences=None),
            store=Path(store),
        )
    return responses
