"""Whether each re-ranker learns what is there to be learned, and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rec.config import BACKBONES, Ranker
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import judge, user_means
from tests.rerank.builders import KINDS, World, fit, random_vectors, ranker, rows_of_test, world


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def reached(
    features: Features, knowledge: Knowledge | None, backbone: str, config: Ranker
) -> float:
    """NDCG@5 on test users of a re-ranker trained on the train users."""
    model = fit(features, knowledge, config, backbone=backbone).model
    judged = judge(model, features, knowledge, rows_of_test(features))
    return float(user_means(features, judged).mean())


class TestPlantedTaste:
    """In these worlds chance reaches an NDCG@5 of about 0.5, and who knows the taste 1."""

    @pytest.fixture(scope="class")
    def made(self) -> World:
        return world(users=250, lists=6)

    def test_told_by_texts_alone(self, backbone: str, made: World) -> None:
        features, config = made.features(), ranker(similarity=False)
        knowledge = {kind: made.told(features, kind) for kind in KINDS}
        knowledge["random"] = made.knowledge(features, random_vectors(made))
        scores = {
            kind: reached(features, told, backbone, config) for kind, told in knowledge.items()
        }
        assert min(scores["users"], scores["both"]) > 0.95
        assert max(scores["none"], scores["items"], scores["random"]) < 0.65
        plain = ranker(similarity=False, adaptor="mlp")
        assert reached(features, knowledge["users"], backbone, plain) > 0.95

    def test_the_similarity_of_texts_is_enough(self, backbone: str, made: World) -> None:
        """With an adaptor too narrow to carry the taste."""
        features = made.features()
        narrow = ranker(knowledge=1, adaptor_hidden=1, adaptor="mlp", learning_rate=0.02)
        with_similarity, without = (
            reached(features, made.knowledge(features), backbone, config)
            for config in (narrow, replace(narrow, similarity=False))
        )
        assert with_similarity > 0.95
        assert without < 0.9

    @pytest.mark.parametrize("loss", ["listwise", "original"])
    def test_told_by_the_history_alone(self, backbone: str, loss: str) -> None:
        """Without knowledge: who rated what is enough for every backbone."""
        features = world(users=250, lists=6, loyal=True).features()
        assert reached(features, None, backbone, ranker(loss=loss, epochs=25)) > 0.9
