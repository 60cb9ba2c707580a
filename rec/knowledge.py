"""Knowledge: texts to vectors, by a frozen sentence encoder.

The encoder is a BERT-like model with mean pooling (all-MiniLM-L6-v2 by default), read from a local
folder. KAR (arXiv 2306.10933, section 4.2, "knowledge encoder") pools the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from tokenizers import Tokenizer

from rec import layout
from rec.errors import RecError
from rec.machine import device, fast_bf16
from rec.progress import bar
from rec.tables import read_table, vectors_schema

Vectors = npt.NDArray[np.float16]

FILES = ("config.json", "model.safetensors", "tokenizer.json")


class Encoder:
    """A frozen text encoder: `encode(texts)` gives one L2-normalised vector per text.

    `folder` holds config.json, model.safetensors and tokenizer.json. Texts are cut at `max_tokens`
    tokens, the two control tokens included. Computes in bf16 where that is fast, on CUDA where
    there is one. Raises RecError for a missing or damaged file and for a `max_tokens` that the
    model cannot hold.
    """

    def __init__(self, folder: Path, max_tokens: int, batch_size: int) -> None:
        for name in FILES:
            if not (folder / name).is_file():
                raise RecError(f"{folder / name}: no such file; the text encoder needs it")
        self._tokenizer = _tokenizer(folder / "tokenizer.json", max_tokens)
        self._device = device()
        self._model = _model(folder).to(self._device)
        config = self._model.config
        if max_tokens > config.max_position_embeddings:
            raise RecError(
                f"encoder.max_tokens: {max_tokens} is too many for {folder}; "
                f"the model holds {config.max_position_embeddings}"
            )
        if self._tokenizer.get_vocab_size() > config.vocab_size:
            raise RecError(f"{folder}: tokenizer.json has more tokens than the model's vocabulary")
        self._batch_size = batch_size
        self.dimension = int(config.hidden_size)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids as the model reads them: control tokens around, never from inside a text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def cut(self, texts: Sequence[str]) -> float:
        """The share of texts that are longer than `max_tokens` and lose their end."""
        found = self._tokenizer.encode_batch(list(texts))
        return sum(bool(one.overflowing) for one in found) / max(1, len(texts))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors float16 [texts, dimension], in order; equal texts are encoded once.

        Raises RecError where the model gives a vector that is not finite.
        """
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        tokens = self.token_ids(distinct)
        order = sorted(range(len(distinct)), key=lambda row: len(tokens[row]))
        vectors = np.zeros((len(distinct), self.dimension), dtype=np.float16)
        with torch.inference_mode(), bar("encode", len(distinct), "text") as counter:
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                vectors[rows] = self._pool([tokens[row] for row in rows])
                counter.update(len(rows))
        if not np.isfinite(vectors).all():
            raise RecError("the text encoder gave vectors that are not finite; is its file whole?")
        return vectors[[place[text] for text in texts]]

    def _pool(self, tokens: list[list[int]]) -> Vectors:
        length = max(map(len, tokens))
        ids = torch.zeros((len(tokens), length), dtype=torch.long)
        mask = torch.zeros((len(tokens), length), dtype=torch.long)
        for row, values in enumerate(tokens):
            ids[row, : len(values)] = torch.tensor(values)
            mask[row, : len(values)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        means = (states * weights).sum(1) / weights.sum(1)
        pooled: Vectors = torch.nn.functional.normalize(means, dim=-1).half().cpu().numpy()
        return pooled


def _tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain Exception
        raise RecError(f"{path}: not a readable tokenizer ({_reason(error)})") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    tokenizer.encode_special_tokens = True  # "[SEP]" inside a text is text
    return tokenizer


def _model(folder: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, info = AutoModel.from_pretrained(
            folder,
            dtype=torch.bfloat16 if fast_bf16() else torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, JSON and configuration errors share no base
        raise RecError(f"{folder}: the text encoder cannot be read ({_reason(error)})") from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise RecError(f"{folder / 'model.safetensors'}: weight {missing[0]!r} is missing")
    return model.eval().requires_grad_(False)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def joint_texts(responses: pl.DataFrame, prompts: pl.DataFrame) -> pl.Series:
    """Each response behind the history that it was written about, as one text (KAR's code).

    `responses` and `prompts` are the tables of these names. The encoder cuts long texts at their
    end, so that of a long history with its response the end of the response is lost: `Encoder.cut`
    says of how many.
    """
    histories = prompts.select("key", "history")
    told = responses.select("key", "text").join(
        histories, on="key", how="left", maintain_order="left"
    )
    return told.select(pl.concat_str("history", "text", separator="\n")).to_series()


def item_text(title: str, year: int | None, categories: Sequence[str]) -> str:
    """What is known of an item without an LLM, as one line.

    >>> item_text("The Usual Suspects", 1995, ["Crime", "Thriller"])
    'The Usual Suspects (1995). Crime, Thriller'
    >>> item_text("Untitled", None, [])
    'Untitled'
    """
    name = title if year is None else f"{title} ({year})"
    return f"{name}. {', '.join(categories)}" if categories else name


def vectors_table(keys: Sequence[str], samples: Sequence[int], vectors: Vectors) -> pl.DataFrame:
    """A table of vectors (`rec.tables.vectors_schema`), sorted by key, sample."""
    dimension = int(vectors.shape[1])
    table = pl.DataFrame(
        {
            "key": pl.Series(keys, dtype=pl.String),
            "sample": pl.Series(samples, dtype=pl.Int32),
            "vector": pl.Series(vectors, dtype=pl.Array(pl.Float16, dimension)),
        }
    )
    return table.sort("key", "sample")


def told_vectors(policy: str, text: str) -> Path:
    """Where the vectors of a policy lie for `knowledge.text` or `reward.text`."""
    return layout.joint_vectors(policy) if text == "joint" else layout.vectors(policy)


def read_vectors(path: Path) -> pl.DataFrame:
    """Read a table of vectors of any dimension. Raises RecError where it is missing or wrong."""
    if not path.is_file():
        return read_table(path, {})
    try:
        dtype = pl.read_parquet_schema(path).get("vector")
    except (pl.exceptions.PolarsError, OSError):
        return read_table(path, {})
    dimension = dtype.size if isinstance(dtype, pl.Array) else 0
    return read_table(path, vectors_schema(dimension))


def matrix(table: pl.DataFrame) -> Vectors:
    """The vectors of a table as float16 [rows, dimension]."""
    values: Vectors = table["vector"].to_numpy()
    return values
