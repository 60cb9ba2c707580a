"""rec.datasets.text and rec.datasets.files: lines, their numbers, and files that are damaged."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from rec.datasets import Source, files, text
from rec.datasets.files import Found, find, required
from rec.errors import RecError
from tests.datasets import reading


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with duckdb.connect() as connection:
        data = reading.settings(tmp_path, "movielens")
        yield Source(tmp_path, tmp_path / "work", data, connection)


def found(source: Source, content: bytes, name: str = "it's.txt") -> Found:
    path = source.path / name
    path.write_bytes(content)
    return Found(name, path)


def lines(source: Source, content: bytes, encoding: str = "utf-8") -> list[tuple[int, str]]:
    """The lines of a file, records or not, by their numbers."""
    view = text.delimited(source, found(source, content), ("one",), "\x1e", "r", encoding)
    query = f"SELECT row, one FROM {view} UNION ALL SELECT row, value FROM raw_faults"
    rows = source.connection.sql(f"FROM ({query}) ORDER BY row").fetchall()
    source.connection.execute("DELETE FROM raw_faults")
    return rows


def test_lines_have_the_numbers_of_the_file(source: Source) -> None:
    content = b"\n \t\r\n one \r\n\n\xe2\x80\xaf\ntwo\rthree\x0b\n\x00"
    assert lines(source, content) == [(3, " one "), (6, "two\rthree\x0b"), (7, "\x00")]


def test_names_that_mean_something_to_sql_or_globs(source: Source) -> None:
    for name in ("a[1]*.txt", 'it\'s "x".txt', "{y}?.txt"):
        view = text.delimited(source, found(source, b"1,2\n", name), ("a", "b"), ",", "r")
        assert source.connection.sql(f"FROM {view}").fetchall() == [("1", "2", name, 1)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 20])
def test_conversion_in_chunks(source: Source, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("rec.datasets.text.CHUNK_BYTES", chunk)
    content = "\ufeffé€😀\n\n".encode() + b"\xff\xfe\nx\xe2\x82"
    assert lines(source, content) == [(1, "é€😀"), (3, "\ufffd\ufffd"), (4, "x\ufffd")]
    assert not list(source.work.glob("*.utf8"))


def test_another_encoding_only_where_it_is_not_utf8(source: Source) -> None:
    assert lines(source, "é".encode(), "latin-1") == [(1, "é")]
    assert lines(source, "é".encode("latin-1"), "latin-1") == [(1, "é")]


def test_a_second_try_writes_elsewhere(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars may go on writing to a file after it has failed."""
    paths, sink = [], text._sink

    def recorded(file: Path, path: Path, steps: text.Steps, skip: int) -> None:
        paths.append(path)
        sink(file, path, steps, skip)

    monkeypatch.setattr(text, "_sink", recorded)
    assert lines(source, b"\xe9", "latin-1") == [(1, "é")]
    assert len(set(paths)) == 2


@pytest.mark.parametrize("content", [b"1\xe9\n\n2\n", b"1\n\n2\n"])
def test_gzip(source: Source, content: bytes) -> None:
    assert [row for row, _ in lines(source, gzip.compress(content))] == [1, 3]


@pytest.mark.parametrize("cut", [3, 12, -9, -1])
def test_gzip_that_is_cut(source: Source, cut: int) -> None:
    packed = gzip.compress(b"".join(b"%d::\xff\n" % number for number in range(999)))
    file = found(source, packed[:cut], "ratings.gz")
    with pytest.raises(RecError, match=r"^ratings\.gz: cannot be read \(.+\)$"):
        text.delimited(source, file, ("a", "b"), "::", "ratings")
    with pytest.raises(RecError, match=r"^ratings\.gz: cannot be read \(.+\)$"):
        text.header(Found(file.name, found(source, packed[:12], "b.gz").path), ",", {})


def test_fields_passed_over_and_header(source: Source) -> None:
    file = found(source, b"\xef\xbb\xbfx:token\tuser:token\ty\n1\t2\t\n\t\t3\n4\t5\n")
    fields = text.header(file, "\t", {"y": "second", "x": "first"})
    assert fields == ["first", "", "second"]
    view = text.delimited(source, file, fields, "\t", "ratings", skip=1)
    assert source.connection.sql(f"SELECT first, second, row FROM {view}").fetchall() == [
        ("1", None, 2),
        (None, "3", 3),
    ]
    faults = source.connection.sql("FROM raw_faults").fetchall()
    assert faults == [("ratings", "unparseable", "it's.txt", 4, "4\t5")]


def test_many_lines_in_order(source: Source) -> None:
    number = 300_000
    content = b"".join(b"%d::%d\n" % (i, i) if i % 1000 else b"%d\n" % i for i in range(1, number))
    view = text.delimited(source, found(source, content), ("a", "b"), "::", "ratings")
    wrong = source.connection.sql(f"SELECT count(*) FROM {view} WHERE row::VARCHAR != a OR a != b")
    assert wrong.fetchall() == [(0,)]
    good = source.connection.sql(f"SELECT count(*) FROM {view}").fetchall()
    assert good == [(number - 1 - 299,)]
    faults = source.connection.sql("SELECT count(*), sum(row) FROM raw_faults").fetchall()
    assert faults == [(299, sum(range(1000, number, 1000)))]


def test_find_passes_over_hidden_files_and_names_what_is_there(source: Source) -> None:
    found(source, b"", ".hidden.csv")
    found(source, b"not a zip", ".partial.zip")
    found(source, b"", "b.csv")
    present = find(source.path, source.work)
    assert list(present) == ["b.csv"]
    with pytest.raises(RecError, match=r"the file a\.csv is missing; found b\.csv$"):
        required(present, "a.csv", source.path)


def test_names_are_one_line() -> None:
    assert files.one_line("a\nb\udcff\u2028c") == "a b? c"
    assert "\n" not in str(files.unreadable("a", ValueError("x\ny")))
