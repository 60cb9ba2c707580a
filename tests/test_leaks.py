"""No list knows what lies ahead, whatever the data set and its layout; and who is learned from."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pytest
from dvc.utils.hydra import compose_and_dump

from rec.config import Data, Prepare, Tabular
from rec.datasets import Source, read
from rec.params import load_params
from rec.rerank.training import Trained, train
from rec.reward import fold_of, train_fold
from tests.datasets import reading
from tests.datasets.test_movielens import SHARED
from tests.leaks import check_leaks
from tests.prepared import Prepared, prepare_filled
from tests.rerank.builders import ranker, world

ROOT = Path(__file__).parents[1]


class Checked(NamedTuple):
    """A preparation that was checked, and user and item of all published rows."""

    result: Prepared
    raw: pl.DataFrame


def checked(data: Data, prepare: Prepare) -> Checked:
    """Prepare the files of a data set and assert that no list knows what lies ahead."""
    raw: list[pl.DataFrame] = []

    def fill(connection: duckdb.DuckDBPyConnection, work: Path) -> None:
        read(Source(Path(data.path), work, data, connection))
        raw.append(connection.sql("SELECT user, item FROM raw_ratings").pl())

    result = prepare_filled(fill, prepare, data, memory_limit="2GB")
    check_leaks(result, prepare, data, raw[0])
    return Checked(result, raw[0])


# One history in every layout


class Rating(NamedTuple):
    """A row of ratings as published."""

    user: str
    item: str
    rating: float
    time: int


ITEMS = [str(number) for number in range(1, 31)]
YEAR = 1999


def title(item: str) -> str:
    return f'Film, "{item}"'


def ratings_of_users(users: int = 40) -> list[Rating]:
    """Users with 10 to 16 items, many of one second, in no order; some rows are faulty.

    The faults: a rating out of range, an item without metadata, a row twice, a pair rated again.
    """
    chance = random.Random(5)
    rows = []
    for user in range(1, users + 1):
        items = chance.sample(ITEMS, chance.randrange(10, 17))
        rows += [
            Rating(f"{user}", item, chance.randrange(1, 6), 10**9 + chance.randrange(30))
            for item in items
        ]
    faulty = [
        *(row._replace(item=ITEMS[0], rating=9) for row in rows[::40] if row.item != ITEMS[0]),
        *(row._replace(item="999") for row in rows[::50]),
        *rows[::45],
        *(row._replace(rating=6 - row.rating, time=row.time - 5) for row in rows[::55]),
    ]
    rows += faulty
    chance.shuffle(rows)
    return rows


ROWS = ratings_of_users()
Writer = Callable[[Path, list[Rating]], None]


def lines(path: Path, rows: Iterable[Iterable[object]], separator: str, header: str = "") -> None:
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    path.write_text(header + text)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def write_atomic(folder: Path, rows: list[Rating]) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    lines(folder / "toy.inter", rows, "\t", header)
    films = [(item, title(item), YEAR, "Drama War") for item in ITEMS]
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    lines(folder / "toy.item", films, "\t", header)


def write_100k(folder: Path, rows: list[Rating]) -> None:
    lines(folder / "u.data", rows, "\t")
    flags = ["1" if place in (8, 17) else "0" for place in range(19)]
    films = [(item, f"{title(item)} ({YEAR})", "", "", "", *flags) for item in ITEMS]
    lines(folder / "u.item", films, "|")


def write_1m(folder: Path, rows: list[Rating]) -> None:
    lines(folder / "ratings.dat", rows, "::")
    films = [(item, f"{title(item)} ({YEAR})", "Drama|War") for item in ITEMS]
    lines(folder / "movies.dat", films, "::")


def write_latest(folder: Path, rows: list[Rating]) -> None:
    lines(folder / "ratings.csv", rows, ",", "userId,movieId,rating,timestamp\n")
    films = [(item, quoted(f"{title(item)} ({YEAR})"), "Drama|War") for item in ITEMS]
    lines(folder / "movies.csv", films, ",", "movieId,title,genres\n")


def packed(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_2014(folder: Path, rows: list[Rating]) -> None:
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    packed(folder / "reviews_X_5.json.gz", (dict(zip(names, row, strict=True)) for row in rows))
    meta = [{"asin": item, "title": title(item), "categories": [["A", "B"]]} for item in ITEMS]
    text = "".join(f"{row!r}\n" for row in meta)
    (folder / "meta_X.json.gz").write_bytes(gzip.compress(text.encode()))


def write_2018(folder: Path, rows: list[Rating]) -> None:
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    packed(folder / "X_5.json.gz", (dict(zip(names, row, strict=True)) for row in rows))
    meta = [{"asin": item, "title": title(item), "category": ["A", "B"]} for item in ITEMS]
    packed(folder / "meta_X.json.gz", meta)


def write_2023(folder: Path, rows: list[Rating]) -> None:
    names = ("user_id", "parent_asin", "rating", "timestamp")
    later = (row._replace(time=row.time * 1000 + 7) for row in rows)
    packed(folder / "X.jsonl.gz", (dict(zip(names, row, strict=True)) for row in later))
    meta = [{"parent_asin": i, "title": title(i), "categories": ["A", "B"]} for i in ITEMS]
    packed(folder / "meta_X.jsonl.gz", meta)


def tables(rows: list[Rating]) -> dict[str, pl.DataFrame]:
    """A shop's two tables."""
    names = ["user", "item", "rating", "timestamp"]
    orders = pl.DataFrame(rows, schema=names, orient="row")
    titles = [title(item) for item in ITEMS]
    return {"orders": orders, "items": pl.DataFrame({"item": ITEMS, "title": titles})}


def write_csv(folder: Path, rows: list[Rating]) -> None:
    for name, table in tables(rows).items():
        table.write_csv(folder / f"{name}.csv")


def write_tsv(folder: Path, rows: list[Rating]) -> None:
    for name, table in tables(rows).items():
        table.write_csv(folder / f"{name}.tsv", separator="\t", quote_style="never")


def write_jsonl(folder: Path, rows: list[Rating]) -> None:
    for name, table in tables(rows).items():
        table.write_ndjson(folder / f"{name}.jsonl")


def write_parquet(folder: Path, rows: list[Rating]) -> None:
    for name, table in tables(rows).items():
        table.write_parquet(folder / f"{name}.parquet")


LAYOUTS: dict[str, tuple[str, Writer]] = {
    "atomic": ("movielens", write_atomic),
    "ml-100k": ("movielens", write_100k),
    "ml-1m": ("movielens", write_1m),
    "ml-latest": ("movielens", write_latest),
    "2014": ("amazon", write_2014),
    "2018": ("amazon", write_2018),
    "2023": ("amazon", write_2023),
    "csv": ("tabular", write_csv),
    "tsv": ("tabular", write_tsv),
    "jsonl": ("tabular", write_jsonl),
    "parquet": ("tabular", write_parquet),
}
PREPARE = Prepare(
    users=None,
    minimum_interactions=5,
    minimum_item_interactions=1,
    profile_interactions=5,
    list_interactions=2,
    list_size=6,
    lists_per_user=None,
    negatives=["popularity", "uniform"],
    popularity_exponent=0.75,
    valid_share=0.2,
    test_share=0.3,
)


def written(folder: Path, layout: str, rows: list[Rating] = ROWS, **data: Any) -> Data:
    """A layout's files in the folder, and the settings to read them."""
    reader, write = LAYOUTS[layout]
    write(folder, rows)
    tabular = {"interactions": f"orders.{layout}", "items": f"items.{layout}"}
    named = {"tabular": Tabular(**{**tabular, **data.pop("tabular", {})})}
    return reading.settings(folder, reader, **(named if reader == "tabular" else {}), **data)


def published(rows: list[Rating]) -> set[tuple[str, str]]:
    return {(row.user, row.item) for row in rows}


KNOBS: dict[str, dict[str, Any]] = {
    "blocks of two": {},
    "a list for each": {"list_interactions": 1},
    "uniform": {"negatives": ["uniform"], "minimum_item_interactions": 12},
}


@pytest.mark.parametrize("knob", KNOBS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_leaks_in_any_layout(tmp_path: Path, layout: str, knob: str) -> None:
    data, prepare = written(tmp_path, layout), replace(PREPARE, **KNOBS[knob])
    result, raw = checked(data, prepare)
    assert set(raw.iter_rows()) == published(ROWS)
    assert len(result.users) > 30
    dropped = result.summary["dropped"]["ratings"]
    assert all(dropped[why] > 5 for why in ("rating out of range", "item without metadata"))
    assert dropped["exact duplicate"] > 5 and dropped["repeated user and item"] > 5


def test_all_layouts_give_the_same_lists(tmp_path: Path) -> None:
    found = []
    for layout in LAYOUTS:
        (tmp_path / layout).mkdir()
        result, _ = checked(written(tmp_path / layout, layout), PREPARE)
        found.append((result.lists, result.users, result.interactions))
    for one, other in itertools.pairwise(found):
        assert all(a.equals(b) for a, b in zip(one, other, strict=True))


def test_half_stars(tmp_path: Path) -> None:
    """As in MovieLens 10M and later: 0.5 is a rating, and 3.5 is not liked."""
    rows = [row._replace(rating=min(row.rating, 5.5) - 0.5) for row in ROWS]
    data = written(tmp_path, "ml-latest", rows, rating_minimum=0.5)
    result, _ = checked(data, PREPARE)
    assert result.interactions["rating"].min() == 0.5
    cells = result.lists.explode("items", "labels").join(
        result.interactions, left_on=["user", "items"], right_on=["user", "item"]
    )
    assert set(cells.filter(pl.col("rating") == 3.5)["labels"]) == {0}
    assert set(cells.filter(pl.col("rating") == 4.5)["labels"]) == {1}


@pytest.mark.parametrize("layout", ["csv", "tsv", "jsonl", "parquet"])
def test_implicit_feedback(tmp_path: Path, layout: str) -> None:
    result, _ = checked(written(tmp_path, layout, tabular={"rating": ""}), PREPARE)
    own = result.lists["labels"].list.sum()
    assert (own == PREPARE.list_interactions).all()


def test_popularity_is_what_train_users_did(tmp_path: Path) -> None:
    """The initial order, and the negatives, must not tell what a test user chose."""
    result, _ = checked(written(tmp_path, "csv", positive_rating=1.0), PREPARE)
    train = result.users.filter(split="train")
    counted = result.interactions.join(train, on="user", how="semi")["item"].value_counts()
    expected = result.items.select("item").join(
        counted, on="item", how="left", maintain_order="left"
    )
    assert result.items["popularity"].equals(
        expected["count"].fill_null(0).cast(pl.Int64).alias("popularity")
    )
    assert 0 < len(train) < len(result.users) == 40


# The real files

REAL = {
    "ml-1m": "ml-1m.zip",
    "amazon-gift-cards-2018": "amazon-2018/gift_cards",
    "amazon-magazines-2018": "amazon-2018/magazine_subscriptions",
}


@pytest.mark.parametrize("name", REAL)
def test_no_leaks_in_real_files(tmp_path: Path, name: str) -> None:
    """With all users, and what the profile of the data set says of its lists."""
    path = SHARED / REAL[name]
    if not path.exists():
        pytest.skip(f"{path} is absent (set REC_SHARED_DATA to the folder that holds {REAL[name]})")
    composed = tmp_path / "params.yaml"
    compose_and_dump(str(composed), str(ROOT / "conf"), None, "config", "", [f"data={name}"])
    params = load_params(composed)
    prepare = replace(params.prepare, users=None, lists_per_user=None)
    result, raw = checked(replace(params.data, path=str(path)), prepare)
    lists = result.summary["lists"]
    assert min(lists.values()) > 50
    assert len(raw) == result.summary["ratings"]


# Who is learned from


def test_reward_models_learn_from_train_users_of_other_folds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Validation users only stop the training, and test users are not even looked at."""
    made = world(users=60)
    features = made.features()
    learned: list[tuple[list[str], list[str]]] = []

    def spy(*arguments: Any) -> Trained:
        learned.append((arguments[5], arguments[6]))
        return train(*arguments)

    monkeypatch.setattr("rec.reward.train", spy)
    splits = {split: set(rows["user"]) for (split,), rows in made.lists.group_by("split")}
    for fold in range(3):
        train_fold(features, made.knowledge(features), ranker(epochs=1), "mir", 7, fold, 3)
        users, valid = map(set, learned[-1])
        assert users == {user for user in splits["train"] if fold_of(7, user, 3) != fold}
        assert valid == splits["valid"]
        assert not (users | valid) & splits["test"] and not users & valid
