"""Does the order of interactions of one time tell which items come next?

`python -m bench.ties [FOLDER ...]` reads prepared tables (`data/tables` where none is named) and
ranks the test lists by a rule without a model: the items whose ids follow the last one of the
history, the nearest first, then those before it. Where ties stand in an order of ids, positives of
lists that begin in a tie follow the last item more often than negatives do, and the rule is better
there than in other lists. Where their order is drawn, it is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from bench.measure import print_figures
from rec.rerank.metrics import ndcg
from rec.tables import INTERACTIONS, LISTS, read_table

K = 5


def cells(folder: Path) -> pl.DataFrame:
    """A row per item of a test list: list, user, label, `tied` (the list begins at the time of the
    interaction before it) and `steps` (ids from that one's item to this one)."""
    lists = read_table(folder / "lists.parquet", LISTS).filter(pl.col("split") == "test")
    taken = read_table(folder / "interactions.parquet", INTERACTIONS)
    place = taken.select("user", "position", "timestamp", "item")
    last = place.select(
        "user", pl.col("position") + 1, before=pl.col("timestamp"), last=pl.col("item")
    )
    begun = lists.join(place.drop("item"), on=["user", "position"]).join(
        last, on=["user", "position"]
    )
    rows = begun.select(
        "list",
        "user",
        "last",
        tied=pl.col("before") == pl.col("timestamp"),
        item="items",
        label="labels",
    ).explode("item", "label")
    ids = pl.concat([rows["item"], rows["last"]]).unique().sort()
    number = {name: at for at, name in enumerate(ids)}
    at, start = (np.array([number[name] for name in rows[column]]) for column in ("item", "last"))
    return rows.with_columns(steps=pl.Series(at - start))


def figures(rows: pl.DataFrame) -> dict[str, Any]:
    """Shares of lists and of items, and the NDCG@5 of the rule and of popularity."""
    lists = rows.group_by("list", maintain_order=True).agg(
        pl.col("user", "tied").first(), "label", "steps"
    )
    values = []
    for user, begins_tied, labels, steps in lists.drop("list").iter_rows():
        away = np.abs(steps)
        rule = _ndcg(np.where(np.array(steps) > 0, away.max() + 1, 0) - away, labels)
        values.append((user, begins_tied, rule, _ndcg(-np.arange(len(labels)), labels)))
    judged = pl.DataFrame(values, schema=["user", "tied", "rule", "popularity"], orient="row")
    tied = rows.filter("tied")
    return {
        "lists_tied": round(float(judged["tied"].to_numpy().mean()), 3),
        "positives_after_the_last": _after(tied.filter(pl.col("label") > 0)),
        "negatives_after_the_last": _after(tied.filter(pl.col("label") == 0)),
        "ndcg@5": _means(judged),
        "ndcg@5_tied": _means(judged.filter("tied")),
    }


def _ndcg(scores: Any, labels: Any) -> float:
    return float(ndcg([scores], [labels], K)[0])


def _after(rows: pl.DataFrame) -> float | None:
    return round(float((rows["steps"].to_numpy() > 0).mean()), 3) if len(rows) else None


def _means(judged: pl.DataFrame) -> dict[str, float | None]:
    """Means over users of the mean over a user's lists; None without lists."""
    users = judged.group_by("user").agg(pl.col("rule", "popularity").mean())
    return {
        name: round(float(users[name].to_numpy().mean()), 4) if len(users) else None
        for name in ("rule", "popularity")
    }


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="Nothing: it takes seconds.")
def main(folders: tuple[Path, ...], quick: bool) -> None:
    """Print what the rule reaches, by folder of prepared tables."""
    print_figures({str(f): figures(cells(f)) for f in folders or (Path("data/tables"),)})


if __name__ == "__main__":
    main()
