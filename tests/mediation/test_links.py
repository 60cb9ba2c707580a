from pathlib import Path
from typing import Any

import pytest

from rec.errors import RecError
from rec.files import read_json, write_json
from rec.mediation.links import (
    CORRELATION,
    FRESH_REWARD,
    IDENTIFIABILITY,
    POINTS,
    RANK,
    Link,
    as_json,
    link,
    read_links,
)
from rec.mediation.resampling import Estimate

FOUND = Estimate(0.0123456789, -0.001, 0.02, 40)


def some(found: Estimate = FOUND, unit: str = POINTS, null: float = 0.0) -> Link:
    return link(FRESH_REWARD, "gain", "Gain", "valid", found, unit=unit, null=null, chain=True)


def test_differences_become_points() -> None:
    assert (some().value, some().low, some().high, some().users) == (1.234568, -0.1, 2.0, 40)
    assert some(unit=CORRELATION).value == 0.012346


@pytest.mark.parametrize(
    ("null", "holds"), [(-0.002, True), (-0.001, False), (0.0, False), (0.5, False)]
)
def test_a_link_holds_where_the_whole_interval_is_above_null(null: float, holds: bool) -> None:
    assert some(unit=CORRELATION, null=null).holds is holds
    assert some(Estimate(None, None, None, 1), null=null).holds is None


def test_round_trip(tmp_path: Path) -> None:
    links = [
        some(),
        some(Estimate(None, None, None, 0)),
        link(IDENTIFIABILITY, "mrr", "MRR", "test", FOUND, unit=RANK, null=0.004),
    ]
    write_json(tmp_path / "1.json", {"round": 1, **as_json(links)})
    assert read_links(tmp_path / "1.json") == links


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "hope"}, "step 'hope'"),
        ({"unit": "miles"}, "unit 'miles'"),
        ({"low": None}, "without its interval"),
        ({"value": "much"}, "not links"),
        ({"null": None}, "not links"),
    ],
)
def test_broken_links(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "1.json"
    write_json(path, {"links": [as_json([some()])["links"][0] | change]})
    with pytest.raises(RecError, match=reason):
        read_links(path)


def test_a_key_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    write_json(path, as_json([some()]))
    values = read_json(path)
    del values["links"][0]["users"]
    write_json(path, values)
    with pytest.raises(RecError, match=r"1\.json: not links of the chain \('users' is missing\)"):
        read_links(path)
