"""rec.tables: a stage meets a wrong table at its door."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from rec.errors import RecError
from rec.files import sha256
from rec.tables import (
    MESSAGES,
    PAIRS,
    PROMPTS,
    RESPONSES,
    SCORES,
    USERS,
    Schema,
    check_schema,
    read_table,
    vectors_schema,
    write_table,
)

ROOT = Path(__file__).parents[1]
ROWS = {
    "user": ["a", "b"],
    "split": ["train", "test"],
    "profile_interactions": [3, 4],
    "lists": [1, 0],
}


def users() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=dict(USERS))


def error(path: Path, schema: Schema = USERS) -> str:
    with pytest.raises(RecError) as caught:
        read_table(path, schema)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "users.parquet"
    write_table(users(), path, USERS)
    assert read_table(path, USERS).equals(users())
    assert list(path.parent.iterdir()) == [path]


def test_same_table_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_table(users(), tmp_path / name, USERS)
    assert sha256(tmp_path / "first") == sha256(tmp_path / "second")


def test_columns_come_in_the_order_of_the_schema(tmp_path: Path) -> None:
    write_table(users().select(*reversed(users().columns)), tmp_path / "t", USERS)
    assert pl.read_parquet(tmp_path / "t").columns == list(USERS)


@pytest.mark.parametrize("schema", [PROMPTS, RESPONSES, SCORES, PAIRS, vectors_schema(3)])
def test_empty_tables_keep_their_types(tmp_path: Path, schema: Schema) -> None:
    write_table(pl.DataFrame(schema=dict(schema)), tmp_path / "t", schema)
    assert read_table(tmp_path / "t", schema).schema == pl.Schema(schema)


def test_missing_column(tmp_path: Path) -> None:
    users().drop("lists").write_parquet(tmp_path / "t")
    assert error(tmp_path / "t") == "column 'lists' is missing; it must hold Int32"


def test_wrong_type(tmp_path: Path) -> None:
    users().cast({"lists": pl.Int64}).write_parquet(tmp_path / "t")
    assert error(tmp_path / "t") == "column 'lists' holds Int64; it must hold Int32"


def test_wrong_type_inside(tmp_path: Path) -> None:
    table = pl.DataFrame({"messages": [[{"role": "user", "text": "x"}]]})
    schema = {"messages": MESSAGES}
    table.write_parquet(tmp_path / "t")
    assert "column 'messages' holds List(Struct({'role': String, 'text': String}))" in error(
        tmp_path / "t", schema
    )


def test_wrong_vector_width(tmp_path: Path) -> None:
    write_table(pl.DataFrame(schema=dict(vectors_schema(3))), tmp_path / "t", vectors_schema(3))
    assert "column 'vector' holds" in error(tmp_path / "t", vectors_schema(4))


def test_extra_column(tmp_path: Path) -> None:
    users().with_columns(age=pl.lit(3)).write_parquet(tmp_path / "t")
    assert error(tmp_path / "t").startswith("column 'age' is not one of user, split,")


def test_check_names_the_table() -> None:
    with pytest.raises(RecError, match=r"^the users: column 'user' is missing"):
        check_schema(pl.DataFrame(), USERS, "the users")


def test_wrong_table_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RecError, match="column 'lists' is missing"):
        write_table(users().drop("lists"), tmp_path / "t", USERS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PAR1", b"user,split\n", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_not_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    assert error(tmp_path / "t").startswith("not a readable Parquet file")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    write_table(users(), tmp_path / "t", USERS)
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[: int(len(whole) * share)])
    assert error(tmp_path / "t").startswith("not a readable Parquet file")


def test_missing(tmp_path: Path) -> None:
    assert error(tmp_path / "t") == "no such file; run the stage that writes it (`dvc repro`)"


KILLED = """
import os, signal, sys
from pathlib import Path
import polars as pl
from rec.tables import USERS, write_table
pl.DataFrame.write_parquet = lambda self, path, **_: (
    Path(path).write_bytes(b"PAR1 half"), os.kill(os.getpid(), signal.SIGKILL)
)
write_table(pl.DataFrame(schema=dict(USERS)), Path(sys.argv[1]), USERS)
"""


def test_a_killed_writer_leaves_the_table_before(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_table(users(), path, USERS)
    done = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert read_table(path, USERS).equals(users())
    write_table(users().head(1), path, USERS)
    assert read_table(path, USERS).height == 1
