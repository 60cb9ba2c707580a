"""Preparing data: `python -m bench.data [--quick] [--ml-1m PATH]`.

MovieLens-1M from its archive to all tables of the stage prepare, beside the same in pandas
(`bench/frames.py`); then made data of 1, 10 and 100 million interactions under a memory limit. Each
run is a process of its own. `--quick` takes 1 and 5 million.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import polars as pl
from omegaconf import OmegaConf

from bench import frames
from bench.measure import measured, peak_megabytes, print_figures
from bench.models import ROOT, WORK
from rec.config import Data, File, Params, Tabular
from rec.download import fetch_files
from rec.files import atomic_path
from rec.params import load_params
from rec.preparation import prepare_data
from rec.tables import INTERACTIONS, ITEMS, USERS, TablePaths

SIZES = (1, 10, 100)  # millions of interactions
QUICK_SIZES = (1, 5)
LIMIT = "4GB"
TABLES = WORK / "data"  # of ML-1M, by both sides
PART = 2_000_000  # interactions of a part of the made data
TIMES = 3  # of the small runs; the best counts


def settings() -> Params:
    """The committed parameters, all users kept, with the one protocol that pandas makes too."""
    params = load_params(ROOT / "params.yaml")
    prepare = replace(params.prepare, users=None, lists_per_user=None, negatives=["popularity"])
    return replace(params, prepare=prepare)


def archive(given: Path | None) -> Path:
    """ml-1m.zip: the given one, or GroupLens's, fetched once."""
    if given is not None:
        return given.resolve()
    path = WORK / "ml-1m" / "ml-1m.zip"
    if not path.is_file():
        published = OmegaConf.load(ROOT / "conf" / "data" / "ml-1m.yaml").sources.public
        fetch_files([File(**entry) for entry in published], path.parent)
    return path


def movielens(path: Path) -> Data:
    """ML-1M as a data set of the pipeline."""
    told = OmegaConf.load(ROOT / "conf" / "data" / "ml-1m.yaml")
    data = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Data), told))
    assert isinstance(data, Data)
    return replace(data, path=str(path))


def made(path: Path) -> Data:
    """What `make` wrote as a data set of the pipeline."""
    columns = Tabular(interactions="part-*.parquet", items="items.parquet")
    return replace(movielens(path), name="made", reader="tabular", tabular=columns)


def make(published: Path, folder: Path, millions: int) -> None:
    """Resample the users of ML-1M, each with the whole history, as Parquet files.

    Popularity of items and lengths of histories are those of ML-1M.
    """
    ratings, items = frames.read(published)
    ratings = ratings.sort_values("user", kind="stable")
    columns = {name: ratings[name].to_numpy() for name in ("rating", "timestamp")}
    names, item = np.unique(ratings["item"].to_numpy(dtype=str), return_inverse=True)
    starts = np.flatnonzero(np.diff(ratings["user"].factorize()[0], prepend=-1))
    lengths = np.diff(np.append(starts, len(ratings)))
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    pl.from_pandas(items[["item", "title"]]).write_parquet(folder / "items.parquet")
    left, user, part = millions * 1_000_000, 0, 0
    while left > 0:
        chosen = generator.integers(len(starts), size=PART // int(lengths.mean()))
        count = lengths[chosen]
        chosen, count = chosen[np.cumsum(count) <= left], count[np.cumsum(count) <= left]
        if not len(chosen):
            break
        rows = np.repeat(starts[chosen] - np.cumsum(count) + count, count) + np.arange(count.sum())
        pl.DataFrame(
            {
                "user": np.repeat(np.arange(user, user + len(chosen)), count),
                "item": names[item[rows]],
                **{name: values[rows] for name, values in columns.items()},
            }
        ).write_parquet(folder / f"part-{part:04}.parquet", compression="lz4")
        left, user, part = left - len(rows), user + len(chosen), part + 1


def stage_figures(data: Data, limit: str, keep: Path | None = None) -> dict[str, Any]:
    """Prepare a data set: seconds, interactions and peak memory."""
    params = settings()
    with TemporaryDirectory(dir=WORK) as folder:
        tables, work = keep or Path(folder) / "tables", Path(folder) / "work"
        started = time.perf_counter()
        counts, _ = prepare_data(data, params.prepare, params.seed, paths(tables), work, limit)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": counts["ratings"], "peak_rss_mb": peak_megabytes()}


def paths(folder: Path) -> TablePaths:
    """Tables in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("interactions", "items", "users", "lists")
    return TablePaths(*(folder / f"{name}.parquet" for name in names))


def pandas_figures(published: Path, integers: bool) -> dict[str, Any]:
    """Prepare ML-1M in pandas: seconds and peak memory."""
    params, data = settings(), movielens(published)
    started = time.perf_counter()
    frames.prepare(published, TABLES / "pandas", data, params.prepare, params.seed, integers)
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": peak_megabytes()}


def same_tables() -> bool:
    """Whether pandas made the tables of the stage, up to the negatives of the lists."""
    for name, schema in (("interactions", INTERACTIONS), ("items", ITEMS), ("users", USERS)):
        ours, other = (read(side, name) for side in ("stage", "pandas"))
        if not other.select(list(schema)).cast(ours.schema).equals(ours):
            return False
    ours, other = (
        read(side, "lists")
        .select("list", "user", "split", "position", own=pl.col("labels").list.sum())
        .cast({"position": pl.Int32, "own": pl.Int64})
        for side in ("stage", "pandas")
    )
    return other.equals(ours)


def read(side: str, name: str) -> pl.DataFrame:
    """A table that one side wrote."""
    return pl.read_parquet(TABLES / side / f"{name}.parquet")


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The fastest of some runs."""
    return min(runs, key=lambda run: float(run["seconds"]))


def sizes(published: Path, millions: tuple[int, ...]) -> dict[str, Any]:
    """Seconds per million and peak memory of made data, by size."""
    seconds, memory = {}, {}
    for size in millions:
        folder = WORK / "made" / str(size)
        if not folder.is_dir():
            with atomic_path(folder) as temporary:
                make(published, temporary, size)
        times = TIMES if size <= min(QUICK_SIZES) else 1
        runs = [
            measured("bench.data", "made", **{"ml-1m": published, "millions": size})
            for _ in range(times)
        ]
        found = best(runs)
        seconds[f"{size}M"] = round(found["seconds"] / found["rows"] * 1e6, 3)
        memory[f"{size}M"] = round(found["peak_rss_mb"])
    first, last = (seconds[f"{size}M"] for size in (millions[0], millions[-1]))
    return {
        "memory_limit": LIMIT,
        "seconds_per_million": seconds,
        "growth": last / first,
        "made_peak_rss_mb": memory,
    }


@click.command()
@click.option("--quick", is_flag=True, help="1 and 5 million interactions.")
@click.option("--ml-1m", type=click.Path(path_type=Path, exists=True), help="ml-1m.zip, if here.")
@click.option("--part", type=click.Choice(["stage", "pandas", "integers", "made"]), hidden=True)
@click.option("--millions", type=int, default=1, hidden=True)
def main(quick: bool, ml_1m: Path | None, part: str | None, millions: int) -> None:
    """Print the figures of data preparation as JSON."""
    WORK.mkdir(parents=True, exist_ok=True)
    published = archive(ml_1m)
    if part == "stage":
        print(json.dumps(stage_figures(movielens(published), "", TABLES / "stage")))
    elif part in ("pandas", "integers"):
        print(json.dumps(pandas_figures(published, part == "integers")))
    elif part == "made":
        print(json.dumps(stage_figures(made(WORK / "made" / str(millions)), LIMIT)))
    else:
        given = {"ml-1m": published}
        integers, other, stage = (
            best([measured("bench.data", side, **given) for _ in range(TIMES)])
            for side in ("integers", "pandas", "stage")
        )
        print_figures(
            {
                "ml1m_seconds": stage["seconds"],
                "ml1m_pandas_seconds": other["seconds"],
                "ratio_pandas": other["seconds"] / stage["seconds"],
                "ml1m_pandas_integer_ids_seconds": integers["seconds"],
                "same_tables": same_tables(),
                "peak_rss_mb": stage["peak_rss_mb"],
                "pandas_peak_rss_mb": other["peak_rss_mb"],
                **sizes(published, QUICK_SIZES if quick else SIZES),
            }
        )


if __name__ == "__main__":
    main()
