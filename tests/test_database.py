"""rec.database: what the connection is limited to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rec.database import connect
from rec.errors import RecError


def test_limits_and_folder(tmp_path: Path) -> None:
    with connect(tmp_path, "300MB", 1) as connection:
        query = "SELECT current_setting('threads'), current_setting('temp_directory')"
        assert connection.sql(query).fetchall() == [(1, str(tmp_path / "spill"))]
        limit = connection.sql("SELECT current_setting('memory_limit')").fetchall()[0][0]
        assert limit in ("286.1 MiB", "300.0 MB")
    assert (tmp_path / "tables.duckdb").is_file()


def test_default_is_half_of_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec.database.available_memory", lambda: 2**30)
    monkeypatch.setattr("rec.database.cores", lambda: 3)
    with connect(tmp_path) as connection:
        query = "SELECT current_setting('threads'), current_setting('memory_limit')"
        assert connection.sql(query).fetchall() == [(3, "488.2 MiB")]


@pytest.mark.parametrize("limit", ["much", "4 parsecs", "-", "-1GB", "9" * 30 + "TB"])
def test_unknown_limit_names_the_key(tmp_path: Path, limit: str) -> None:
    with (
        pytest.raises(RecError, match=r"^machine\.memory_limit: '.*' must be such as 4GB$"),
        connect(tmp_path, limit),
    ):
        pass


def test_a_limit_that_is_too_little_names_the_key(tmp_path: Path) -> None:
    with (
        pytest.raises(RecError, match=r"^machine\.memory_limit: 5MB is too little \(.*\)$"),
        connect(tmp_path, "5MB", 2) as connection,
    ):
        connection.execute("CREATE TABLE t AS SELECT list(range) AS n FROM range(3000000)")


def test_more_than_the_limit_spills(tmp_path: Path) -> None:
    with connect(tmp_path, "60MB", 1) as connection:
        connection.execute("CREATE TABLE big AS SELECT range AS n FROM range(8000000)")
        connection.execute("CREATE TABLE sorted AS FROM big ORDER BY hash(n)")
        assert connection.sql("SELECT count(*) FROM sorted").fetchall() == [(8000000,)]
