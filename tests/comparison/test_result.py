from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rec.comparison.result import read_comparison, write_comparison
from rec.errors import RecError
from tests.comparison.made import random_comparison


def test_what_is_written_is_read(tmp_path: Path) -> None:
    comparison = random_comparison(["popularity", "none", "history", "0", "1"], told=2)
    write_comparison(tmp_path / "differences.json", comparison)
    assert read_comparison(tmp_path / "differences.json") == comparison


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("families", [], r"families: the first must be the primary one"),
        ("families", [{"kind": "primary"}], r"families\.0\.protocol: Field required"),
        ("test_users", "many", r"test_users: Input should be a valid integer"),
        ("slices", 3, r"slices: Input should be a valid list"),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = tmp_path / "differences.json"
    write_comparison(path, random_comparison(["none", "0"]))
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RecError, match=message) as caught:
        read_comparison(path)
    assert str(caught.value).startswith(f"{path}: not a comparison") and "\n" not in str(
        caught.value
    )


def test_a_family_that_is_not_there_is_named() -> None:
    comparison = random_comparison(["none", "0"])
    assert comparison.family("uniform", "map@5").protocol == "uniform"
    with pytest.raises(RecError, match="no family of protocol shown, ndcg@5"):
        comparison.family("shown", "ndcg@5")
