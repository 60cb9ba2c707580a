"""stages.prepare: the same tables byte for byte; faults are one line and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from omegaconf import OmegaConf

from rec import layout
from rec.files import read_json, sha256
from rec.tables import INTERACTIONS, ITEMS, LISTS, REJECTS, USERS, read_table
from stages.prepare import main

ROOT = Path(__file__).parents[2]
TABLES = (
    layout.INTERACTIONS,
    layout.ITEMS,
    layout.USERS,
    layout.LISTS,
    layout.protocol_lists("uniform"),
    layout.REJECTS,
    layout.PREPARED,
)
RATING_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"


def write_raw(users: int = 60, interactions: int = 24, items: int = 80, extra: str = "") -> None:
    """Write a data set in RecBole's atomic files: users with distinct items, many ties in time."""
    random = np.random.default_rng(7)
    chosen = random.random((users, items)).argsort(axis=1)[:, :interactions]
    table = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), interactions),
            "item": chosen.reshape(-1),
            "rating": random.integers(1, 6, users * interactions),
            "time": 10**9 + random.integers(0, 40, users * interactions),
        }
    )
    layout.RAW_DATA.mkdir(parents=True, exist_ok=True)
    rows = table.write_csv(separator="\t", include_header=False)
    (layout.RAW_DATA / "toy.inter").write_text(RATING_HEADER + rows + extra)
    films = "".join(f"{item}\tFilm {item}, The\t1999\tDrama War\n" for item in range(items))
    (layout.RAW_DATA / "toy.item").write_text(ITEM_HEADER + films)


def write_params(**prepare: Any) -> None:
    params = OmegaConf.load(ROOT / "params.yaml")
    params.data = OmegaConf.load(ROOT / "conf" / "data" / "ml-100k.yaml")
    params.prepare = {
        "users": None,
        "minimum_interactions": 20,
        "minimum_item_interactions": 1,
        "profile_interactions": 8,
        "list_interactions": 4,
        "list_size": 10,
        "lists_per_user": None,
        "negatives": ["popularity", "uniform"],
        "popularity_exponent": 0.75,
        "valid_share": 0.2,
        "test_share": 0.25,
        **prepare,
    }
    OmegaConf.save(params, "params.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working copy with a toy data set."""
    monkeypatch.chdir(tmp_path)
    write_params()
    write_raw()


def run() -> Result:
    result = CliRunner().invoke(main, [])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def error() -> str:
    result = run()
    assert result.exit_code == 1
    assert not any(path.exists() for path in TABLES)
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    return line


def test_all_tables_agree() -> None:
    assert run().exit_code == 0
    interactions = read_table(layout.INTERACTIONS, INTERACTIONS)
    items = read_table(layout.ITEMS, ITEMS)
    users = read_table(layout.USERS, USERS)
    lists = read_table(layout.LISTS, LISTS)
    prepared = read_json(layout.PREPARED)
    assert items["title"].str.starts_with("The Film ").all()
    assert prepared["items"] == len(items) == 80
    assert prepared["interactions"] == len(interactions) == 24 * len(users)
    assert sum(prepared["users"].values()) == len(users)
    assert sum(prepared["lists"].values()) == len(lists) == users["lists"].sum()
    assert set(prepared["users"]) == set(prepared["lists"]) == {"train", "valid", "test"}
    assert interactions.equals(interactions.sort("user", "position"))
    assert lists.equals(lists.sort("user", "position"))
    assert users.equals(users.sort("user"))
    assert prepared["protocols"] == ["popularity", "uniform"]
    uniform = read_table(layout.protocol_lists("uniform"), LISTS)
    same = ["list", "user", "split", "position"]
    assert uniform.select(same).equals(lists.select(same))
    assert not uniform["items"].equals(lists["items"])
    assert uniform["labels"].list.sum().equals(lists["labels"].list.sum())
    split = lists.select("user", "split").unique().sort("user")
    assert split.equals(users.select("user", "split"))


def test_lists_of_a_protocol_that_was_left_out_are_gone() -> None:
    assert run().exit_code == 0
    kept = sha256(layout.protocol_lists("uniform"))
    write_params(negatives=["uniform"])
    assert run().exit_code == 0
    assert sha256(layout.LISTS) == kept
    assert list(layout.TABLES.glob("lists-*")) == []


def test_bytes_do_not_depend_on_threads_or_order_of_rows() -> None:
    write_raw(users=2500, interactions=60, items=300)
    assert run().exit_code == 0
    first = {path: sha256(path) for path in TABLES}
    path = layout.RAW_DATA / "toy.inter"
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(header + "".join(reversed(rows)))
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "stages.prepare"], env=environment, check=True)
    assert {path: sha256(path) for path in TABLES} == first


def test_missing_file() -> None:
    (layout.RAW_DATA / "toy.item").unlink()
    assert "the file toy.item is missing" in error()


def test_nothing_fetched() -> None:
    layout.RAW_DATA.rename("elsewhere")
    assert "data/raw/data: no such file or folder; check data.path" in error()


@pytest.mark.parametrize("content", ["", RATING_HEADER])
def test_empty_ratings_file(content: str) -> None:
    (layout.RAW_DATA / "toy.inter").write_text(content)
    assert "toy.inter: the file is empty" in error()


def test_rejects_name_file_and_row() -> None:
    write_raw(extra="1\t2\tfive\t3\nshort\t1\n")
    assert run().exit_code == 0
    rejects = read_table(layout.REJECTS, REJECTS).filter(relation="ratings")
    assert rejects.rows() == [
        ("ratings", "rating missing or not a number", "toy.inter", 1442, "1, 2, five, 3"),
        ("ratings", "unparseable", "toy.inter", 1443, "short\t1"),
    ]


def test_few_faults_are_counted() -> None:
    short = "".join(f"short\t{i}\t4\t{i + 1}\n" for i in range(19))
    write_raw(extra="0\t999\t4\t3\n0\t998\t4\t3\n1\t1\t7\t3\n1\t2\t0\t3\n1\t3\t-1\t3\n" + short)
    assert run().exit_code == 0
    dropped = read_json(layout.PREPARED)["dropped"]
    assert dropped["ratings"] == {
        "rating out of range": 3,
        "item without metadata": 2,
    }
    assert dropped["users"]["too few interactions"] == 1


def test_all_ids_without_metadata() -> None:
    (layout.RAW_DATA / "toy.item").write_text(ITEM_HEADER + "film-1\tAlien\t1979\tHorror\n")
    assert "1440 of 1440 ratings are faulty (item without metadata 1440)" in error()


def test_all_ratings_out_of_range() -> None:
    path = layout.RAW_DATA / "toy.inter"
    table = pl.read_csv(path, separator="\t").with_columns(pl.lit(80).alias("rating:float"))
    table.write_csv(path, separator="\t")
    message = error()
    assert "rating out of range 1440" in message and "data.rating_maximum" in message


def test_all_histories_too_short() -> None:
    write_params(minimum_interactions=25)
    message = error()
    assert "none of 60 users has 25 interactions" in message
    assert "prepare.minimum_interactions" in message


def test_too_few_users_for_the_splits() -> None:
    write_params(users=2)
    assert "keep more users (prepare.users)" in error()


def test_catalogue_too_small_for_the_lists() -> None:
    write_params(list_size=70)
    message = error()
    assert "too few items left as negatives" in message and "prepare.list_size" in message
