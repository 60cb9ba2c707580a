import polars as pl
import pytest
import torch

from rec.errors import RecError
from rec.rerank.features import (
    batch,
    build_features,
    item_knowledge,
    of_other_users,
    random_knowledge,
    user_knowledge,
)
from tests.rerank.builders import DIMENSION, World, world


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
            assert found.tolist() == [row["vector"][0].to_list()]


def test_a_response_comes_with_the_history_of_its_user(made: World) -> None:
    features = made.features()
    histories = made.history_vectors.sample(fraction=1.0, shuffle=True, seed=1)
    responses = made.user_vectors.sample(fraction=1.0, shuffle=True, seed=2)
    knowledge = user_knowledge(
        features, made.item_knowledge(features), responses, made.prompts, histories
    )
    alone = made.knowledge(features)
    assert knowledge.users is not None and alone.users is not None
    assert (knowledge.texts, alone.texts, made.item_knowledge(features).texts) == (2, 1, 0)
    assert knowledge.users.shape == (20, 2, DIMENSION)
    assert torch.equal(knowledge.users[:, :1], alone.users)
    for row in range(20):
        user = features.users[row // 2]
        own = histories.filter(key=f"user:{user}")["vector"][0]
        assert knowledge.users[row, 1].tolist() == own.to_list()


def test_the_first_responses_are_those_of_the_lowest_sample(made: World) -> None:
    """Whatever number that has."""
    features = made.features()
    later = made.user_vectors.filter((pl.col("sample") > 0) | (pl.col("key") != "user:u001"))
    first = made.knowledge(features, later).first_responses()
    assert first.users is not None and first.first is not None and first.samples is not None
    assert first.count is not None and first.count.tolist() == [1] * 10
    assert first.samples[first.first].tolist() == [0, 1, *[0] * 8]
    items = made.item_knowledge(features)
    assert items.first_responses() is items


def test_users_without_lists_are_left_out(made: World) -> None:
    lists = made.lists.filter(pl.col("user") != "u003")
    features = build_features(made.items, made.interactions, lists, 5, (1.0, 5.0))
    knowledge = made.knowledge(features)
    assert knowledge.users is not None and len(knowledge.users) == 18
    assert knowledge.first is not None and knowledge.first.tolist() == list(range(0, 18, 2))


def test_a_batch_holds_the_response_that_is_asked_for(made: World) -> None:
    features = made.features()
    knowledge = made.told(features, "both")
    assert knowledge is not None and knowledge.users is not None
    rows, responses = torch.tensor([4, 0, 4]), torch.tensor([17, 3, 2])
    lists = batch(features, knowledge, rows, responses)
    assert lists.user_vectors is not None
    assert torch.equal(lists.user_vectors, knowledge.users[responses])
    assert torch.equal(lists.items, features.items[rows])
    assert torch.equal(lists.labels, features.labels[rows])
    assert torch.equal(lists.history, features.history[rows])
    assert torch.equal(lists.ratings, features.ratings[rows])
    assert torch.equal(lists.mask, lists.items > 0)
    assert lists.item_vectors is knowledge.items
    assert batch(features, None, rows, None).item_vectors is None


class TestRandomKnowledge:
    """The control: it has the form of knowledge, and says nothing."""

    def test_unit_vectors_of_any_direction(self, made: World) -> None:
        features = made.features()
        found = random_knowledge(features, 384, seed=1)
        assert (found.dimension, found.texts) == (384, 1)
        assert found.users is not None and found.users.shape == (10, 1, 384)
        assert found.items.shape == (25, 384) and found.items.dtype == torch.float16
        assert (found.items[0] == 0).all()
        vectors = torch.cat([found.items[1:], found.users[:, 0]]).float()
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(34), atol=2e-3, rtol=0)
        cosines = vectors @ vectors.T - torch.eye(34)
        assert cosines.abs().max() < 5 / 384**0.5
        assert vectors.mean().abs() < 5 / (34 * 384**2) ** 0.5

    def test_one_response_of_every_user(self, made: World) -> None:
        features = made.features()
        found = random_knowledge(features, 8, seed=1)
        assert found.first is not None and found.count is not None and found.samples is not None
        assert found.first.tolist() == list(range(10))
        assert found.count.tolist() == [1] * 10 and found.samples.tolist() == [0] * 10

    def test_the_seed_says_which(self, made: World) -> None:
        features = made.features()
        first, again, other = (random_knowledge(features, 8, seed) for seed in (1, 1, 2))
        assert first.users is not None and again.users is not None
        assert torch.equal(first.items, again.items) and torch.equal(first.users, again.users)
        assert not torch.equal(first.items, other.items)


class TestOfOtherUsers:
    def test_everyone_has_the_text_of_another_and_each_text_has_one(self, made: World) -> None:
        own = random_knowledge(made.features(), 8, seed=1)
        other = of_other_users(own, seed=2)
        assert own.users is not None and other.users is not None
        texts = [tuple(row) for row in own.users[:, 0].tolist()]
        given = [tuple(row) for row in other.users[:, 0].tolist()]
        assert sorted(given) == sorted(texts)
        assert all(mine != theirs for mine, theirs in zip(texts, given, strict=True))
        assert torch.equal(own.items, other.items) and other.first is own.first

    def test_the_seed_says_whose(self, made: World) -> None:
        own = random_knowledge(made.features(), 8, seed=1)
        first, again, other = (of_other_users(own, seed).users for seed in (1, 1, 2))
        assert first is not None and again is not None and other is not None
        assert torch.equal(first, again) and not torch.equal(first, other)


class TestUsers:
    def test_rows_are_the_lists_of_the_users_in_table_order(self, made: World) -> None:
        features = made.features()
        found = features.rows(["u004", "u001"])
        assert [features.lists[row] for row in found.tolist()] == [
            f"{user}-{number}" for user in ("u001", "u004") for number in range(3)
        ]
        assert features.rows([]).tolist() == []

    def test_splits(self, made: World) -> None:
        features = made.features()
        assert features.users_of("test") == ["u004", "u009"]
        with pytest.raises(RecError, match="no user of split 'later' has lists"):
            features.users_of("later")

    def test_lists_with_a_positive(self, made: World) -> None:
        features = made.features()
        assert features.positive.tolist() == [max(labels) > 0 for labels in made.lists["labels"]]
        assert 0 < features.positive.sum() < len(features.lists)


def test_ratings_are_scaled_from_their_range(made: World) -> None:
    narrow = build_features(made.items, made.interactions, made.lists, 5, (0.0, 10.0))
    real = narrow.history > 0
    expected = (made.features().ratings * 2 + 3) / 5 - 1
    torch.testing.assert_close(narrow.ratings[real], expected[real])
    assert (narrow.ratings[~real] == 0).all()
    implicit = build_features(made.items, made.interactions, made.lists, 5, (1.0, 1.0))
    assert (implicit.ratings == real.float()).all()


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

    def test_user_without_history_as_text(self, made: World) -> None:
        features = made.features()
        with pytest.raises(RecError, match="history vectors: key 'user:u000' is unknown"):
            user_knowledge(
                features,
                made.item_knowledge(features),
                made.user_vectors,
                made.prompts,
                made.history_vectors.tail(-1),
            )

    def test_two_histories_as_text(self, made: World) -> None:
        features = made.features()
        twice = pl.concat([made.history_vectors, made.history_vectors.head(1)])
        with pytest.raises(RecError, match="history vectors: key numbers are ambiguous"):
            user_knowledge(
                features, made.item_knowledge(features), made.user_vectors, made.prompts, twice
            )

    def test_two_vectors_of_an_item(self, made: World) -> None:
        twice = pl.concat([made.item_vectors, made.item_vectors.head(1)])
        with pytest.raises(RecError, match="an item has several vectors"):
            item_knowledge(made.features(), twice)

    def test_user_in_two_splits(self, made: World) -> None:
        split = pl.when(pl.col("list") == "u000-0").then(pl.lit("test")).otherwise("split")
        with pytest.raises(RecError, match="a user has lists in two splits"):
            build_features(
                made.items, made.interactions, made.lists.with_columns(split=split), 5, (1.0, 5.0)
            )

    def test_labels_that_do_not_match(self, made: World) -> None:
        broken = made.lists.with_columns(labels=pl.col("labels").list.head(2))
        with pytest.raises(RecError, match="more or fewer labels"):
            build_features(made.items, made.interactions, broken, 5, (1.0, 5.0))

    def test_empty_list(self, made: World) -> None:
        broken = made.lists.with_columns(pl.col("items", "labels").list.head(0))
        with pytest.raises(RecError, match="no items"):
            build_features(made.items, made.interactions, broken, 5, (1.0, 5.0))
