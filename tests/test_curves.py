"""rec.curves: the training curves of all policies as one flat table, through its CSV file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rec.curves import ALIGNMENT, ALIGNMENT_CURVES, alignment_curves, read_csv, write_csv
from rec.errors import RecError
from tests.aligned import alignment_table


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """The curves of two rounds and of the control."""
    found = {}
    for number, policy in enumerate(("1", "2", "sft"), start=1):
        found[policy] = tmp_path / policy / "curve.csv"
        write_csv(alignment_table(number, steps=number + 1), found[policy])
    return found


def test_policies_in_order_each_with_its_steps(paths: dict[str, Path]) -> None:
    table = alignment_curves(paths)
    assert dict(table.schema) == dict(ALIGNMENT_CURVES)
    policies = ["1"] * 2 + ["2"] * 3 + ["sft"] * 4
    assert table["policy"].to_list() == policies
    assert table["step"].to_list() == [1, 2, 1, 2, 3, 1, 2, 3, 4]
    assert table.filter(policy="sft").drop("policy").equals(read_csv(paths["sft"], ALIGNMENT))


@pytest.mark.parametrize("names", [[], ["1"], ["1", "2"], ["1", "2", "sft"]])
def test_a_table_comes_back_from_its_file(
    paths: dict[str, Path], tmp_path: Path, names: list[str]
) -> None:
    """With numbers alone for names, too."""
    table = alignment_curves({name: paths[name] for name in names})
    write_csv(table, tmp_path / "alignment.csv")
    assert read_csv(tmp_path / "alignment.csv", ALIGNMENT_CURVES).equals(table)


def test_a_column_that_is_missing(paths: dict[str, Path]) -> None:
    pl.read_csv(paths["1"]).drop("kl").write_csv(paths["1"])
    with pytest.raises(RecError, match=r"1/curve.csv: column 'kl' is missing"):
        alignment_curves(paths)
