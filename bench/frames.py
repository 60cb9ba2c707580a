"""The transformation of the stage prepare in pandas: the other side of `bench.data`.

Vectorised as a careful user of pandas would write it: ids numbered at once, no loop over rows but
for SHA-256 of users and items, C parsers, joins and group-bys of pandas, negatives drawn in arrays
and checked by a join. It reads ML-1M alone and trusts its lines to be records. Its tables equal
those of the stage but for which negatives a list has.

Ids are texts to the stage, and so they are here; `integers` uses what is known of ML-1M alone.
"""

from __future__ import annotations

import hashlib
import html
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from rec.cleaning import FIRST_SECOND, KEPT, LAST_SECOND
from rec.config import Data, Prepare
from rec.hashing import Keys, mixed
from rec.interactions import tie_keys
from rec.titles import ARTICLES, ELIDED


def prepare(
    archive: Path, folder: Path, data: Data, settings: Prepare, seed: int, integers: bool = False
) -> None:
    """Read ml-1m.zip and write the tables of the stage, its rejects too, into `folder`."""
    ratings, items = read(archive, integers)
    user_ids, item_ids = (number_by_text(ratings, name) for name in ("user", "item"))
    place = pd.Series(np.arange(len(item_ids)), index=item_ids)
    items["item"] = items["item"].map(place)
    items = items.dropna(subset="item").astype({"item": "int64"}).drop_duplicates("item")
    ratings["fault"] = judge(ratings, items, data)
    rejects = [ratings[ratings["fault"] > 0]]
    ratings = ratings[ratings["fault"] == 0]
    ratings = ratings.sort_values(["user", "item", "timestamp", "rating"])
    last = ~ratings.duplicated(["user", "item"], keep="last")
    again = ratings.duplicated(["user", "item", "timestamp", "rating"], keep="last")
    rejects += [ratings[again].assign(fault=7), ratings[~last & ~again].assign(fault=8)]
    ratings = ratings[last].drop(columns="fault")
    seen = ratings[["user", "item"]]
    ratings = core(ratings, settings.minimum_interactions, settings.minimum_item_interactions)
    items = items[items["item"].isin(ratings["item"])].sort_values("item")
    users = pd.DataFrame({"user": np.sort(ratings["user"].unique())})
    users["split"] = split(user_ids[users["user"]], settings, seed)
    interactions = order(
        ratings, settings.profile_interactions, *(by_id(ids, seed) for ids in (user_ids, item_ids))
    )
    blocks = cut(interactions, settings, data.positive_rating)
    train = interactions["user"].isin(users.loc[users["split"] == "train", "user"])
    counts = interactions.loc[train, "item"].value_counts().reindex(items["item"], fill_value=0)
    items = items.assign(popularity=counts.to_numpy())
    items["rank"] = rank(item_ids[items["item"]], items["popularity"], seed)
    interactions = interactions[interactions["user"].isin(blocks["user"])]
    lists, cells = fill(blocks, counts + 1, seen, users, settings, seed)
    profile = interactions["part"].eq("profile").groupby(interactions["user"]).sum()
    users = users[users["user"].isin(blocks["user"])].copy()
    users["profile_interactions"] = users["user"].map(profile).astype("int32")
    users["lists"] = users["user"].map(lists["user"].value_counts()).astype("int32")
    lists["list"] = user_ids[lists["user"]] + "-" + lists.pop("block").astype("str")
    lists["items"] = list(item_ids[cells])
    for table in (interactions, users, lists):
        table["user"] = user_ids[table["user"]]
    for table in (interactions, items):
        table["item"] = item_ids[table["item"].astype("int64")]
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"interactions": interactions, "items": items, "users": users, "lists": lists}
    tables["rejects"] = first_of_each(rejects, user_ids, item_ids)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)


def read(archive: Path, integers: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings and films of the archive as published."""
    ids = "int64" if integers else "str"
    with zipfile.ZipFile(archive) as published:
        with published.open("ml-1m/ratings.dat") as file:  # "::" as ":" twice: the C parser
            ratings = pd.read_csv(
                file,
                sep=":",
                header=None,
                usecols=[0, 2, 4, 6],
                names=["user", "a", "item", "b", "rating", "c", "timestamp"],
                dtype={"rating": "float32", "user": ids, "item": ids},
            )
        with published.open("ml-1m/movies.dat") as file:
            lines = pd.Series(file.read().decode("latin-1").splitlines(), dtype="str")
    films = lines.str.split("::", expand=True)
    ending = r"\s*\((\d{4})\)\s*$"
    title = films[1].str.replace(ending, "", regex=True).map(html.unescape)
    title = title.str.replace(r"\s+\)", ")", regex=True)
    title = title.str.replace(rf"^([^()]+), ({ARTICLES})(\s*\(|$)", r"\2 \1\3", regex=True)
    title = title.str.replace(rf"\(([^()]+), ({ARTICLES})\)", r"(\2 \1)", regex=True)
    title = title.str.replace(rf"^([^()]+), ({ELIDED})(\s*\(|$)", r"\2\1\3", regex=True)
    title = title.str.replace(rf"\(([^()]+), ({ELIDED})\)", r"(\2\1)", regex=True)
    items = pd.DataFrame(
        {
            "item": films[0],
            "title": title.str.replace(r"\s+", " ", regex=True).str.strip(),
            "year": films[1].str.extract(ending)[0].astype("Int32"),
            "categories": films[2].str.split("|"),
        }
    )
    return ratings, items


def number_by_text(ratings: pd.DataFrame, column: str) -> npt.NDArray[np.object_]:
    """Number a column of ids in the order of their texts, in place; the texts in that order."""
    codes, values = pd.factorize(ratings[column])
    texts: npt.NDArray[np.object_] = values.astype(str).to_numpy(dtype=object)
    order = np.argsort(texts, kind="stable")
    numbers = np.empty(len(values), dtype=np.int64)
    numbers[order] = np.arange(len(values))
    ratings[column] = numbers[codes]
    ordered: npt.NDArray[np.object_] = texts[order]
    return ordered


def judge(ratings: pd.DataFrame, items: pd.DataFrame, data: Data) -> npt.NDArray[np.int64]:
    """The number of each rating's fault, 0 where there is none."""
    faults = [
        (ratings["user"] < 0) | (ratings["item"] < 0),
        ~ratings["item"].isin(items["item"]),
        ratings["rating"].isna(),
        ~ratings["rating"].between(data.rating_minimum, data.rating_maximum),
        ratings["timestamp"].isna(),
        ~ratings["timestamp"].between(FIRST_SECOND, LAST_SECOND),
    ]
    return np.select(faults, range(1, len(faults) + 1), 0)


def first_of_each(
    rejects: list[pd.DataFrame], users: npt.NDArray[np.object_], items: npt.NDArray[np.object_]
) -> pd.DataFrame:
    """The first rejected rows of each fault, with the number of their line."""
    rows = pd.concat(rejects).sort_index().groupby("fault").head(KEPT)
    return rows.assign(user=users[rows["user"]], item=items[rows["item"]], row=rows.index + 1)


def rank(items: npt.NDArray[np.object_], popularity: pd.Series, seed: int) -> npt.NDArray[np.int64]:
    """The place of each item by popularity, of one popularity by the hash that the stage takes."""
    ties = hashed(f"{seed}:rank:", items)
    found = np.empty(len(items), dtype=np.int64)
    found[np.lexsort((ties, -popularity.to_numpy()))] = np.arange(len(items))
    return found


def hashed(prefix: str, ids: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each id: the first 52 bits of the SHA-256 of prefix and id."""
    digests = [hashlib.sha256(f"{prefix}{name}".encode()).hexdigest()[:13] for name in ids]
    return np.array([int(digest, 16) for digest in digests]) * 2.0**-52


def core(ratings: pd.DataFrame, of_user: int, of_item: int) -> pd.DataFrame:
    """The interactions of the k-core."""
    while True:
        enough_user = ratings.groupby("user")["item"].transform("size") >= of_user
        enough_item = ratings.groupby("item")["user"].transform("size") >= of_item
        kept = ratings[enough_user & enough_item]
        if len(kept) == len(ratings):
            return ratings
        ratings = kept


def split(users: npt.NDArray[np.object_], settings: Prepare, seed: int) -> pd.Series:
    """The split of each user by the hash that the stage takes."""
    place = hashed(f"{seed}:split:", users)
    held_out = settings.test_share + settings.valid_share
    names = np.where(place < held_out, "valid", "train")
    return pd.Series(np.where(place < settings.test_share, "test", names), dtype="str")


def by_id(ids: npt.NDArray[np.object_], seed: int) -> Keys:
    """The keys of users or items that break ties in time."""
    return tie_keys(pl.Series(ids.tolist(), dtype=pl.String), seed)


def order(ratings: pd.DataFrame, profile: int, users: Keys, items: Keys) -> pd.DataFrame:
    """Each interaction with its place in the user's time and its part."""
    tie = mixed(users[ratings["user"]] ^ mixed(items[ratings["item"]]))
    ordered = ratings.assign(tie=tie).sort_values(["user", "timestamp", "tie"], ignore_index=True)
    ordered = ordered.drop(columns="tie")
    of_user = ordered.groupby("user")["item"]
    ordered["position"] = of_user.cumcount().astype("int32")
    last = np.minimum((of_user.transform("size") + 1) // 2, profile)
    ordered["part"] = np.where(ordered["position"] < last, "profile", "list")
    return ordered


def cut(interactions: pd.DataFrame, settings: Prepare, positive: float) -> pd.DataFrame:
    """Blocks of later interactions, a row for each own item."""
    later = interactions[interactions["part"] == "list"].copy()
    later["label"] = (later["rating"] >= positive).astype("int8")
    later["block"] = later.groupby("user").cumcount() // settings.list_interactions
    of_block = later.groupby(["user", "block"])["label"]
    whole = of_block.transform("size") == settings.list_interactions
    return later[whole & (of_block.transform("max") > 0)]


def fill(
    own: pd.DataFrame,
    counts: pd.Series,
    seen: pd.DataFrame,
    users: pd.DataFrame,
    settings: Prepare,
    seed: int,
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """The lists with negatives by popularity, and their items in the initial ranker's order."""
    heads = own.groupby(["user", "block"])["position"].min().reset_index()
    heads["list"] = np.arange(len(heads))
    count = settings.list_size - settings.list_interactions
    chances = counts.to_numpy() ** settings.popularity_exponent
    cumulative = np.cumsum(chances / chances.sum())
    generator = np.random.default_rng(seed)
    found: list[pd.DataFrame] = []
    short = heads
    for draws in (2 * count, 8 * count, 32 * count, 256 * count):
        places = np.searchsorted(cumulative, generator.random(len(short) * draws))
        drawn = pd.DataFrame(
            {
                "list": np.repeat(short["list"].to_numpy(), draws),
                "user": np.repeat(short["user"].to_numpy(), draws),
                "item": counts.index.to_numpy()[places.clip(max=len(counts) - 1)],
            }
        ).drop_duplicates(["list", "item"])
        drawn = drawn.merge(seen, on=["user", "item"], how="left", indicator=True)
        drawn = drawn[drawn["_merge"] == "left_only"]
        drawn = drawn[drawn.groupby("list").cumcount() < count]
        full = drawn.groupby("list")["item"].transform("size") == count
        found.append(drawn.loc[full, ["list", "item"]])
        short = short[~short["list"].isin(found[-1]["list"])]
    negatives = pd.concat(found).assign(label=np.int8(0))
    own = own.merge(heads[["user", "block", "list"]], on=["user", "block"])
    cells = pd.concat([own[["list", "item", "label"]], negatives])
    cells["count"] = cells["item"].map(counts)
    cells = cells.sort_values(["list", "count"], ascending=[True, False])
    lists = heads.drop(columns="list").merge(users, on="user")
    lists["labels"] = list(cells["label"].to_numpy().reshape(-1, settings.list_size))
    columns = ["user", "block", "split", "position", "labels"]
    return lists[columns], cells["item"].to_numpy().reshape(-1, settings.list_size)
