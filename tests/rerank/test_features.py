import polars as pl
import pytest
import torch

from rec.errors import RecError
from rec.rerank.features import build_features, item_knowledge
from tests.rerank.builders import World, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=10, lists=3, samples=2)


def test_history_is_the_last_interactions_before_the_list(made: World) -> None:
    features = made.features(history=5)
    rows = made.lists.with_row_index("row").iter_rows(named=True)
    for row in rows:
        own = made.interactions.filter(
            (pl.col("user") == row["user"]) & (pl.col("position") < row["position"])
        ).sort("position")
        past = own["item"].to_list()[-5:]
        numbers = [features.catalogue.index(item) + 1 for item in past]
        padding = [0] * (5 - len(past))
        assert features.history[row["row"]].tolist() == padding + numbers
        ratings = [(rating - 3) / 2 for rating in own["rating"].to_list()[-5:]]
        assert features.ratings[row["row"]].tolist() == padding + ratings


def test_the_future_is_not_seen(made: World) -> None:
    last = made.lists["position"].max()
    later = pl.col("position") >= last
    other = made.interactions.with_columns(
        rating=pl.when(later).then(1.0).otherwise("rating").cast(pl.Float32)
    )
    changed = build_features(made.items, other, made.lists, 5, (1.0, 5.0))
    torch.testing.assert_close(changed.ratings, made.features().ratings)


def test_order_of_interactions_in_the_table_does_not_matter(made: World) -> None:
    mixed = made.interactions.sample(fraction=1.0, shuffle=True, seed=3)
    features = build_features(made.items, mixed, made.lists, 5, (1.0, 5.0))
    torch.testing.assert_close(features.history, made.features().history)
    torch.testing.assert_close(features.ratings, made.features().ratings)


def test_user_without_interactions_has_an_empty_history(made: World) -> None:
    none = made.interactions.clear()
    features = build_features(made.items, none, made.lists, 5, (1.0, 5.0))
    assert not features.history.any()


def test_items_labels_and_padding(made: World) -> None:
    short = made.lists.with_columns(
        items=pl.when(pl.col("list") == "u000-0")
        .then(pl.col("items").list.head(4))
        .otherwise("items"),
        labels=pl.when(pl.col("list") == "u000-0")
        .then(pl.col("labels").list.head(4))
        .otherwise("labels"),
    )
    features = build_features(made.items, made.interactions, short, 5, (1.0, 5.0))
    for row, (items, labels) in enumerate(zip(short["items"], short["labels"], strict=True)):
        names = [features.catalogue[n - 1] for n in features.items[row].tolist() if n]
        assert names == items.to_list()
        assert features.labels[row].tolist()[: len(labels)] == labels.to_list()
    assert features.items[0].tolist()[4:] == [0, 0]


def test_categories_sum_to_one(made: World) -> None:
    features = made.features()
    assert features.categories[0].tolist() == [0.0, 0.0]
    assert features.categories[1].tolist() == [0.5, 0.5]
    assert features.categories[2].tolist() == [0.0, 1.0]


def test_user_knowledge_lies_by_user_and_sample(made: World) -> None:
    features = made.features()
    shuffled = made.user_vectors.sample(fraction=1.0, shuffle=True, seed=1)
    knowledge = made.knowledge(features, shuffled)
    assert knowledge.users is not None and knowledge.first is not None
    for number, user in enumerate(features.users):
        for sample in range(2):
            row = made.user_vectors.filter(
                (pl.col("key") == f"user:{user}") & (pl.col("sample") == sample)
            )
            found = knowledge.users[knowledge.first[number] + sample]
            assert found.tolist() == row["vector"][0].to_list()


class TestBadInput:
    def test_unknown_item_in_a_list(self, made: World) -> None:
        with pytest.raises(RecError, match="lists: item 'i023' is unknown"):
            build_features(made.items.head(23), made.interactions, made.lists, 5, (1.0, 5.0))

    def test_item_without_vector(self, made: World) -> None:
        with pytest.raises(RecError, match="item vectors: item 'i000' is unknown"):
            item_knowledge(made.features(), made.item_vectors.tail(-1))

    def test_user_without_response(self, made: World) -> None:
        with pytest.raises(RecError, match="user 'u000' has lists but no text"):
            made.knowledge(made.features(), made.user_vectors.tail(-2))

    def test_labels_that_do_not_match(self, made: World) -> None:
        broken = made.lists.with_columns(labels=pl.col("labels").list.head(2))
        with pytest.raises(RecError, match="more or fewer labels"):
            build_features(made.items, made.interactions, broken, 5, (1.0, 5.0))

    def test_empty_list(self, made: World) -> None:
        broken = made.lists.with_columns(pl.col("items", "labels").list.head(0))
        with pytest.raises(RecError, match="no items"):
            build_features(made.items, made.interactions, broken, 5, (1.0, 5.0))
