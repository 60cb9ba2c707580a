from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rec.config import BACKBONES, Ranker
from rec.errors import RecError
from rec.rerank.inputs import Shape
from rec.rerank.losses import listwise
from rec.rerank.ranking import judge, positive_rows
from rec.rerank.reranker import MODELS, Reranker, load, save
from tests.rerank.builders import KINDS, World, fresh, ranker, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=15, lists=3, samples=2)


class TestChoice:
    def test_every_backbone_is_there(self) -> None:
        assert tuple(MODELS) == BACKBONES
        for backbone in BACKBONES:
            model = Reranker(Shape(3, 1), ranker(), backbone)
            assert isinstance(model.model, MODELS[backbone])

    @pytest.mark.parametrize("name", ["", "PRM", "gru", "shown"])
    def test_no_other(self, name: str) -> None:
        with pytest.raises(RecError, match="does not exist; use dlcm, prm, setrank, mir"):
            Reranker(Shape(3, 1), ranker(), name)

    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_losses(self, backbone: str) -> None:
        assert Reranker(Shape(3, 1), ranker(loss="listwise"), backbone).loss is listwise
        own = Reranker(Shape(3, 1), ranker(loss="original"), backbone).loss
        assert own is MODELS[backbone].loss


class TestFiles:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_round_trip(self, made: World, tmp_path: Path, backbone: str, kind: str) -> None:
        features = made.features()
        knowledge = made.told(features, kind)
        config = ranker(adaptor="mlp" if kind == "items" else "hea", precision="auto")
        model = fresh(features, knowledge, backbone, config, disturbed=0.1)
        path = tmp_path / "folder" / "model.safetensors"
        save(model, path)
        again = load(path, "cpu")
        assert (again.shape, again.config, again.backbone) == (model.shape, config, backbone)
        assert not again.training
        rows = positive_rows(features, features.users_of("test"), "test")
        found, expected = (judge(m, features, knowledge, rows) for m in (again, model))
        assert found.log_likelihood.tolist() == expected.log_likelihood.tolist()
        names = {file.name for file in path.parent.iterdir()}
        assert names == {"model.safetensors", "model.json"}

    def test_the_same_model_is_the_same_bytes(self, made: World, tmp_path: Path) -> None:
        for name in ("a", "b"):
            model = fresh(made.features(), None, "prm")
            save(model, tmp_path / f"{name}.safetensors")
        for suffix in ("safetensors", "json"):
            first, second = (tmp_path / f"{name}.{suffix}" for name in ("a", "b"))
            assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def saved(made: World, tmp_path: Path) -> Path:
    features = made.features()
    path = tmp_path / "model.safetensors"
    save(fresh(features, made.told(features, "both"), "dlcm"), path)
    return path


class TestDamage:
    """Whatever is wrong with the files is one line that names them."""

    def refused(self, path: Path, reason: str = "not a re-ranker that this code can read") -> None:
        with pytest.raises(RecError, match=reason) as found:
            load(path, "cpu")
        assert "\n" not in str(found.value) and "model." in str(found.value)

    @pytest.mark.parametrize("length", [0, 7, 100, -1])
    def test_cut_weights(self, saved: Path, length: int) -> None:
        saved.write_bytes(saved.read_bytes()[:length])
        self.refused(saved)

    def test_other_bytes(self, saved: Path) -> None:
        saved.write_bytes(b"\xff" * 4000)
        self.refused(saved)

    def test_a_folder(self, saved: Path) -> None:
        saved.unlink()
        saved.mkdir()
        self.refused(saved)

    def test_no_weights(self, saved: Path) -> None:
        saved.unlink()
        self.refused(saved)

    def test_no_description(self, saved: Path) -> None:
        saved.with_suffix(".json").unlink()
        self.refused(saved, "no such file")

    def test_a_description_that_is_no_json(self, saved: Path) -> None:
        saved.with_suffix(".json").write_text("{")
        self.refused(saved, "not valid JSON")

    @pytest.mark.parametrize("value", [None, [], 3, "text", {}, {"backbone": "prm"}])
    def test_a_description_of_something_else(self, saved: Path, value: Any) -> None:
        saved.with_suffix(".json").write_text(json.dumps(value))
        self.refused(saved)

    @pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
    @pytest.mark.parametrize("value", [-1, 0, 1, 2.5, "8", None, [], "???"])
    @pytest.mark.parametrize(
        ("part", "name"),
        [
            ("shape", "items"),
            ("shape", "categories"),
            ("shape", "dimension"),
            ("shape", "texts"),
            ("ranker", "embedding"),
            ("ranker", "hidden"),
            ("ranker", "knowledge"),
            ("ranker", "adaptor_hidden"),
            ("ranker", "experts_shared"),
            ("ranker", "experts_specific"),
        ],
    )
    def test_other_sizes(self, saved: Path, part: str, name: str, value: Any) -> None:
        described = saved.with_suffix(".json")
        values = json.loads(described.read_text())
        if values[part][name] == value:
            return
        values[part][name] = value
        described.write_text(json.dumps(values))
        self.refused(saved)

    @pytest.mark.parametrize("name", ["items", "texts"])
    def test_a_missing_size(self, saved: Path, name: str) -> None:
        described = saved.with_suffix(".json")
        values = json.loads(described.read_text())
        del values["shape"][name]
        described.write_text(json.dumps(values))
        self.refused(saved)

    @pytest.mark.parametrize("name", Ranker.__dataclass_fields__)
    def test_a_missing_setting(self, saved: Path, name: str) -> None:
        described = saved.with_suffix(".json")
        values = json.loads(described.read_text())
        del values["ranker"][name]
        described.write_text(json.dumps(values))
        self.refused(saved)

    def test_a_setting_that_is_not_known(self, saved: Path) -> None:
        described = saved.with_suffix(".json")
        values = json.loads(described.read_text())
        values["ranker"]["depth"] = 3
        described.write_text(json.dumps(values))
        self.refused(saved)

    def test_a_backbone_that_is_not_known(self, saved: Path) -> None:
        described = saved.with_suffix(".json")
        values = json.loads(described.read_text())
        values["backbone"] = "gru"
        described.write_text(json.dumps(values))
        self.refused(saved)

    def test_the_weights_of_another_backbone(self, made: World, saved: Path) -> None:
        described = saved.with_suffix(".json")
        values = json.loads(described.read_text())
        values["backbone"] = "setrank"
        described.write_text(json.dumps(values))
        self.refused(saved)

    def test_numbers_that_are_not_finite_are_not_hidden(self, made: World, saved: Path) -> None:
        """They are the trainer's to refuse; a file with them is read as it is."""
        model = load(saved, "cpu")
        with torch.no_grad():
            model.inputs.item.weight[1] = torch.nan
        save(model, saved)
        assert load(saved, "cpu").inputs.item.weight[1].isnan().all()
