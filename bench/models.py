"""The models and prompts that benches take, made as the pipeline makes them, in .cache/bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import polars as pl
from omegaconf import OmegaConf

from rec.config import LLM, source_files
from rec.download import fetch_files
from rec.files import atomic_path
from rec.llm.weights import import_weights
from rec.machine import cores
from rec.tables import PROMPTS, read_table

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".cache" / "bench"


@dataclass(frozen=True)
class Imported:
    """An LLM: the file as published, and what the stage import-llm makes of it."""

    source: Path
    folder: Path

    @property
    def gguf(self) -> Path:
        """The file that is sampled from."""
        return self.folder / "model.gguf"

    @property
    def hf(self) -> Path:
        """The same weights for transformers."""
        return self.folder / "hf"


def imported(name: str, weights: str = "auto") -> Imported:
    """The LLM of conf/llm/NAME.yaml, fetched and imported once."""
    path = ROOT / "conf" / "llm" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.yaml")))
        raise click.ClickException(f"conf/llm has no {name}.yaml; it has {known}")
    llm = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(LLM), OmegaConf.load(path)))
    assert isinstance(llm, LLM)
    found = Imported(WORK / name / "source" / "model.gguf", WORK / name / weights)
    if not found.source.is_file():
        fetch_files(source_files(llm), found.source.parent)
    if not found.folder.is_dir():
        with atomic_path(found.folder) as folder:
            import_weights(found.source, folder, weights, cores())
    return found


def prompts(count: int) -> pl.DataFrame:
    """The first prompts of the pipeline's table."""
    path = ROOT / "data" / "prompts.parquet"
    if not path.is_file():
        raise click.ClickException(f"{path}: no such file; run `dvc repro prompts` first")
    return read_table(path, PROMPTS).head(count)
