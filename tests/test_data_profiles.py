"""conf/data: what each data set's profile says of its files, its ratings and its lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump
from omegaconf import OmegaConf

from rec.config import Data, Params
from rec.params import load_params

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "conf" / "data").glob("*.yaml"))
AMAZON = [name for name in NAMES if name.startswith("amazon-")]
MOVIELENS = [name for name in NAMES if name.startswith("ml-")]
#: Releases that GroupLens may replace, so that no digest holds for good.
CHANGING = ("ml-latest", "ml-latest-small")


def composed(folder: Path, *overrides: str) -> Params:
    path = folder / "params.yaml"
    compose_and_dump(str(path), str(ROOT / "conf"), None, "config", "", list(overrides))
    return load_params(path)


def data_of(folder: Path, name: str) -> Data:
    return composed(folder, f"data={name}").data


@pytest.mark.parametrize("name", NAMES)
def test_files_have_an_address_and_a_whole_digest(tmp_path: Path, name: str) -> None:
    sources = data_of(tmp_path, name).sources
    for file in (*sources.public, *sources.registry):
        assert re.fullmatch("([0-9a-f]{64})?", file.sha256)
        assert file.pieces or (
            file.url.startswith("https://") and file.url.endswith(f"/{file.name}")
        )


def stage_params() -> set[str]:
    """The keys that dvc.yaml names; without one of them in params.yaml DVC refuses to run."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    named = [key for stage in stages for key in stage.get("do", stage).get("params", [])]
    keys = [key for key in named if isinstance(key, str)]
    of_artifacts = {key.replace("${item}", item) for key in keys for item in ("data", "llm")}
    return {key for key in of_artifacts if "${" not in key}


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_has_the_keys_of_the_stages(tmp_path: Path, name: str) -> None:
    composed(tmp_path, f"data={name}")
    params = OmegaConf.load(tmp_path / "params.yaml")
    missing = [key for key in stage_params() if OmegaConf.select(params, key) is None]
    assert missing == []


@pytest.mark.parametrize("name", MOVIELENS)
def test_movielens(tmp_path: Path, name: str) -> None:
    data = data_of(tmp_path, name)
    (archive,) = data.sources.public
    assert archive.url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    assert bool(archive.sha256) == (name not in CHANGING)
    half_stars = name not in ("ml-100k", "ml-1m")
    assert data.rating_minimum == (0.5 if half_stars else 1)
    assert (data.rating_maximum, data.positive_rating) == (5, 4)
    assert (data.reader, data.domain) == ("movielens", "films")


def test_movielens_leaves_the_lists_alone(tmp_path: Path) -> None:
    plain = composed(tmp_path).prepare
    assert all(composed(tmp_path, f"data={name}").prepare == plain for name in MOVIELENS)


@pytest.mark.parametrize("profile", ["tiny", "quick", "cpu", "full", "paper"])
@pytest.mark.parametrize("name", AMAZON)
def test_amazon_has_lists_of_its_own(tmp_path: Path, name: str, profile: str) -> None:
    """A data set's profile sets them, whatever the profile of the run."""
    plain = composed(tmp_path, f"profile={profile}").prepare
    prepare = composed(tmp_path, f"profile={profile}", f"data={name}").prepare
    if "books" in name:
        assert (prepare.minimum_interactions, prepare.minimum_item_interactions) == (60, 40)
        assert (prepare.profile_interactions, prepare.list_interactions) == (15, 4)
    else:
        assert (prepare.minimum_interactions, prepare.list_interactions) == (5, 1)
        assert prepare.minimum_item_interactions == (5 if name.endswith("2023") else 1)
    for key in ("users", "lists_per_user", "negatives", "list_size", "valid_share", "test_share"):
        assert getattr(prepare, key) == getattr(plain, key)


def test_a_word_of_the_command_comes_last(tmp_path: Path) -> None:
    told = ("prepare.list_interactions=3", "data.bad_rows=0.2")
    params = composed(tmp_path, "data=amazon-gift-cards-2018", *told)
    assert (params.prepare.list_interactions, params.data.bad_rows) == (3, 0.2)
