"""rec.datasets.tabular: every format, every option, faults with their lines, and mangled files."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.config import Impressions, Tabular
from rec.datasets import Source
from rec.datasets.tabular import read
from rec.errors import RecError
from tests.datasets import reading
from tests.datasets.reading import Relations, read_all

ROWS: list[dict[str, Any]] = [
    {"user": "u1", "item": "a", "rating": 5, "timestamp": 10, "title": "Ant", "tags": "x| y||"},
    {"user": "u2", "item": "b", "rating": 3, "timestamp": 20, "title": None, "tags": None},
    {"user": "u1", "item": "b", "rating": 1, "timestamp": 30, "title": "Bee, or not", "tags": "z"},
    {"user": "u3", "item": "a", "rating": 4, "timestamp": 40, "title": "Other", "tags": "w"},
]
NAMES = list(ROWS[0])


def delimited(rows: list[dict[str, Any]], separator: str = ",") -> bytes:
    def field(value: Any) -> str:
        text = "" if value is None else str(value)
        quote = separator in text or '"' in text or "\n" in text
        return '"' + text.replace('"', '""') + '"' if quote else text

    names: list[Any] = list(rows[0])
    lines = [names, *([row.get(name) for name in names] for row in rows)]
    return "".join(separator.join(map(field, line)) + "\n" for line in lines).encode()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
        return path
    content = json_lines(rows) if name.endswith(("jsonl", "ndjson")) else None
    content = content or delimited(rows, "\t" if name.endswith(".tsv") else ",")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def shop(path: Path, **columns: Any) -> Relations:
    values: dict[str, Any] = {"title": "", **columns}
    return read_all(path, "tabular", tabular=Tabular(**values))


def error(path: Path, **columns: Any) -> str:
    with pytest.raises(RecError) as caught:
        shop(path, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def impressions(path: Path, **columns: Any) -> tuple[list[tuple[Any, ...]], Relations]:
    """The rows of raw_impressions, and the other relations."""
    tabular = Tabular(**{"title": "", **columns})
    data = reading.settings(path, "tabular", tabular=tabular)
    with TemporaryDirectory() as work, duckdb.connect() as connection:
        read(Source(path, Path(work), data, connection))
        names = [name for name, *_ in connection.sql("DESCRIBE raw_impressions").fetchall()]
        expected = ["list", "user", "item", "place", "label", "timestamp", "file", "row"]
        assert names == expected
        rows = connection.sql("FROM raw_impressions ORDER BY file, row").fetchall()
    return rows, read_all(path, "tabular", tabular=tabular)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "name",
    ["s.csv", "s.tsv", "s.jsonl", "s.ndjson", "s.parquet", "s.csv.gz", "s.tsv.gz", "s.jsonl.gz"],
)
def test_every_format_leaves_the_same(tmp_path: Path, name: str, zipped: bool) -> None:
    path = write(tmp_path / "in" / name)
    if zipped:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.write(path, f"folder/{name}")
        path = tmp_path / "s.zip"
    ratings, items, faults = shop(path, title="title", categories=["tags"])
    assert ratings.select("user", "item").rows() == [(r["user"], r["item"]) for r in ROWS]
    assert ratings["rating"].cast(pl.Float64).to_list() == [5, 3, 1, 4]
    assert ratings["timestamp"].cast(pl.Int64).to_list() == [10, 20, 30, 40]
    assert ratings["file"].unique().to_list() == [f"s.zip:folder/{name}" if zipped else name]
    first = 2 if name.startswith(("s.csv", "s.tsv")) else 1
    assert ratings["row"].to_list() == list(range(first, first + 4))
    assert items.sort("item").select("item", "title", "year", "categories", "row").rows() == [
        ("a", "Ant", None, ["x", "y"], first),
        ("b", "Bee, or not", None, ["z"], first + 1),
    ]
    assert faults.is_empty()


def test_a_pattern_names_several_parts(tmp_path: Path) -> None:
    write(tmp_path / "part-2.parquet", [{"user": 7, "item": 1, "rating": 2.0, "timestamp": 5}])
    write(tmp_path / "part-1.parquet", [{"item": "x", "user": "p", "rating": 1.0, "timestamp": 4}])
    ratings, items, _ = shop(tmp_path, interactions="part-*.parquet", timestamp="")
    assert ratings.rows() == [
        ("p", "x", 1.0, 1, "part-1.parquet", 1),
        ("7", "1", 2.0, 2, "part-2.parquet", 1),
    ]
    assert sorted(items["title"]) == ["1", "x"]


def test_parts_of_text_have_their_own_columns_and_rows(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(b"user,item\n\nu,a\n")
    (tmp_path / "2.csv.gz").write_bytes(gzip.compress(b"item,more,user\nb,?,v\n"))
    ratings, _, _ = shop(tmp_path, interactions="*.csv*", rating="", timestamp="")
    assert ratings.rows() == [
        ("u", "a", 5.0, 3, "1.csv", 3),
        ("v", "b", 5.0, 5, "2.csv.gz", 2),
    ]


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl", "s.parquet"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_time_round_down(tmp_path: Path, name: str, unit: str) -> None:
    ticks = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = [1_700_000_000 * ticks + ticks - 1, 0, -1, 1_700_000_001 * ticks]
    path = write(tmp_path / name, [{**ROWS[0], "timestamp": time} for time in times])
    found = shop(path, time_unit=unit).ratings["timestamp"].cast(pl.Int64).to_list()
    assert found == [1_700_000_000, 0, -1, 1_700_000_001]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-31", "1706659200"),
        ("2024-01-31T12:00:00", "1706702400"),
        ("2024-01-31 12:00", "1706702400"),
        ("2024-01-31T12:00:00.999Z", "1706702400"),
        ("2024-01-31T12:00:00+02:00", "1706695200"),
        ("2024-01-31T12:00:00-0230", "1706711400"),
        ("2024-01-31 12:00:00 UTC", "1706702400"),
        ("2024-02-31", "2024-02-31"),
        ("31/01/2024", "31/01/2024"),
        ("yesterday", "yesterday"),
        ("2024", None),
        ("1706702400", None),
    ],
)
@pytest.mark.parametrize("name", ["s.csv", "s.parquet"])
def test_dates(tmp_path: Path, name: str, text: str, seconds: str | None) -> None:
    path = write(tmp_path / name, [{**ROWS[0], "timestamp": text}])
    assert shop(path, time_unit="text").ratings["timestamp"].to_list() == [seconds]


def test_times_of_parquet_are_what_they_say(tmp_path: Path) -> None:
    times = [date(2024, 1, 31), datetime(2024, 1, 31, 12), datetime(2024, 1, 31, 12, tzinfo=UTC)]
    found = [
        shop(write(tmp_path / f"{i}.parquet", [{**ROWS[0], "timestamp": time}])).ratings
        for i, time in enumerate(times)
    ]
    assert [f["timestamp"][0] for f in found] == [1706659200, 1706702400, 1706702400]


def test_text_that_is_no_number_stays(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "timestamp": "soon", "rating": "good"}, {**ROWS[0], "timestamp": "12.7"}]
    ratings = shop(write(tmp_path / "s.csv", rows)).ratings
    assert ratings.select("rating", "timestamp").rows() == [("good", "soon"), ("5", "12")]


def test_ids_of_parquet_are_text_without_a_decimal_point(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "user": 12.0, "item": 3}, {**ROWS[0], "user": None, "item": 4}]
    ratings = shop(write(tmp_path / "s.parquet", rows)).ratings
    assert ratings.select("user", "item").rows() == [("12", "3"), (None, "4")]


def test_items_of_their_own_file(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv")
    rows: list[dict[str, Any]] = [
        {"sku": "a", "name": "Ant", "since": "on 2001-02-03", "c1": "x>y", "c2": "z", "text": "t"},
        {"sku": "b", "name": None, "since": "soon", "c1": None, "c2": " ", "text": None},
    ]
    files: dict[str, Any] = {
        "interactions": "orders.csv",
        "items": "items.jsonl",
        "title": "name",
    }
    write(tmp_path / "items.jsonl", [{**row, "item": row["sku"]} for row in rows])
    further: dict[str, Any] = {
        "year": "since",
        "categories": ["c1", "c2"],
        "category_separator": ">",
    }
    items = shop(tmp_path, **files, **further, about="text").items
    assert items.rows() == [
        ("a", "Ant", 2001, ["x", "y", "z"], "t", "items.jsonl", 1),
        ("b", None, None, [], None, "items.jsonl", 2),
    ]


@pytest.mark.parametrize("name", ["s.jsonl", "s.parquet"])
def test_lists_of_categories(tmp_path: Path, name: str) -> None:
    rows = [{**ROWS[0], "tags": ["x|y", " z ", "", None], "year": 1999}]
    items = shop(write(tmp_path / name, rows), categories=["tags"], year="year").items
    assert items.select("title", "year", "categories").rows() == [("a", 1999, ["x|y", "z"])]


# Faults


def test_faults_of_csv_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(
        b"\xef\xbb\xbfuser,item,rating,timestamp\r\n\r\n"
        b"u,a,1,1\n"  # 3
        b"u,a,1\n"  # 4: a field too few
        b"u,a,1,1,1\r"  # 5: one too many
        b"u,\xff,1,1\n"  # 6: no UTF-8
        b'u,"b\nc ""d""",2,2\n'  # 7 and 8
        b'u,"open,1,1\n'  # 9: its quote is never closed
        b"v,a,1,1\n"  # 10
        b'v,"b"x,1,1\n'  # 11: text after the quote
        b"v,nul\x00,1,1\n"  # 12
        b'v,5" disk,1,1\n'  # 13
        b"w,a,1,1"  # 14
    )
    ratings, _, faults = shop(path)
    assert ratings.select("user", "item", "row").rows() == [
        ("u", "a", 3),
        ("u", 'b c "d"', 7),
        ("v", "a", 10),
        ("v", '5" disk', 13),
        ("w", "a", 14),
    ]
    assert faults.rows() == [
        ("ratings", "unparseable", "s.csv", 4, "u,a,1"),
        ("ratings", "unparseable", "s.csv", 5, "u,a,1,1,1"),
        ("ratings", "wrong encoding", "s.csv", 6, "u,\ufffd,1,1"),
        ("ratings", "unparseable", "s.csv", 9, 'u,"open,1,1'),
        ("ratings", "unparseable", "s.csv", 11, 'v,"b"x,1,1'),
        ("ratings", "unparseable", "s.csv", 12, "v,nul\x00,1,1"),
    ]


def test_quotes_of_tsv_hold_no_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "s.tsv"
    path.write_bytes(b'user\titem\tname\nu\ta\t"Big" one\nv\tb\t"Open\nw\tc\t"x\ty"\n')
    items = shop(path, rating="", timestamp="", title="name").items
    assert items["title"].sort().to_list() == ['"Big" one', '"Open', "x\ty"]


def test_faults_of_json_lines_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    good = b'{"user": "u", "item": 1, "rating": 2.5, "timestamp": 3}'
    bad = [b"{", b"3", b"[1]", b'"x"', b"null", good + good, b'{"user": "\xff"}']
    path.write_bytes(b"\n\n".join([good, *bad, good]))
    ratings, _, faults = shop(path)
    assert ratings["row"].to_list() == [1, 17]
    assert ratings["rating"].to_list() == ["2.5", "2.5"]
    assert faults["row"].to_list() == [3, 5, 7, 9, 11, 13, 15]
    assert faults["reason"].to_list() == ["unparseable"] * 6 + ["wrong encoding"]


def test_values_of_faults_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"user,item\nu,a\n" + b"x" * 1000 + b"\n")
    assert shop(path, rating="", timestamp="").faults["value"][0] == "x" * 200


@pytest.mark.parametrize("size", [4, 7, 64])
def test_blocks_of_any_size_read_the_same(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec.datasets.records.CHUNK_BYTES", size)
    test_faults_of_csv_have_their_lines(tmp_path)
    test_quotes_of_tsv_hold_no_line_ends(tmp_path)
    test_faults_of_json_lines_have_their_lines(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_utf_16_is_an_error(tmp_path: Path, name: str, encoding: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_text().encode(encoding))
    assert "s." in error(path)


# Impressions

LOG = [
    {"list": 1, "user": "u", "item": "a", "position": 1, "clicked": 0, "timestamp": 7},
    {"list": 1, "user": "u", "item": "b", "position": 2, "clicked": 1, "timestamp": 7},
    {"list": 2, "user": "v", "item": "c", "position": 1, "clicked": 1, "timestamp": 9},
]


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl", "log.parquet"])
def test_impressions_alone(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, LOG)
    rows, relations = impressions(tmp_path, impressions=Impressions(file=name))
    first = 2 if name[-3:] in ("csv", "tsv") else 1
    assert [(*row[:3], *map(float, row[3:6]), *row[6:]) for row in rows] == [
        (str(r["list"]), r["user"], r["item"], r["position"], r["clicked"], r["timestamp"], name, i)
        for i, r in enumerate(LOG, first)
    ]
    clicked = relations.ratings.select("user", "item", "rating").rows()
    assert clicked == [("u", "b", 5.0), ("v", "c", 5.0)]
    assert relations.items.sort("item").select("item", "title", "row").rows() == [
        (item, item, first + i) for i, item in enumerate("abc")
    ]
    assert path.exists()


def test_labels_that_are_ratings_stay(tmp_path: Path) -> None:
    labels = ["0", "4", "nan"]
    rows = [{**row, "clicked": label} for row, label in zip(LOG, labels, strict=True)]
    write(tmp_path / "log.csv", [*rows, {**LOG[0], "clicked": "?", "position": "top"}])
    log = Impressions(file="log.csv", labels="ratings")
    rows_read, relations = impressions(tmp_path, impressions=log)
    assert [(place, label) for *_, place, label, _, _, _ in rows_read] == [
        ("1", "0"),
        ("2", "4"),
        ("1", "nan"),
        ("top", "?"),
    ]
    assert relations.ratings.select("item", "rating").rows() == [("b", 4.0)]


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_labels_that_are_true_or_false(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{**row, "clicked": row["clicked"] == 1} for row in LOG])
    rows, relations = impressions(tmp_path, impressions=Impressions(file=name))
    assert [float(row[4]) for row in rows] == [0, 1, 1]
    assert relations.ratings["rating"].to_list() == [5.0, 5.0]


def test_impressions_beside_interactions(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv")
    write(tmp_path / "log.csv", LOG)
    log = Impressions(file="log.csv", place="")
    _, relations = impressions(tmp_path, interactions="orders.csv", title="title", impressions=log)
    assert relations.ratings.height == len(ROWS)
    assert relations.items.sort("item").select("item", "title", "file").rows() == [
        ("a", "Ant", "orders.csv"),
        ("b", "Bee, or not", "orders.csv"),
        ("c", None, "log.csv"),
    ]


def test_impressions_alone_may_stand_in_the_order_of_time(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", LOG)
    log = Impressions(file="log.csv", place="", timestamp="")
    rows, relations = impressions(tmp_path, timestamp="", impressions=log)
    assert [(row[3], row[5]) for row in rows] == [(None, 2), (None, 3), (None, 4)]
    assert relations.ratings["timestamp"].to_list() == [3, 4]


@pytest.mark.parametrize(
    ("columns", "empty"),
    [
        ({"timestamp": ""}, "timestamp"),
        (
            {"impressions": Impressions(file="log.csv", timestamp="")},
            "impressions.timestamp",
        ),
    ],
)
def test_two_files_need_a_time_each(tmp_path: Path, columns: dict[str, Any], empty: str) -> None:
    write(tmp_path / "orders.csv")
    write(tmp_path / "log.csv", LOG)
    files = {"interactions": "orders.csv", "impressions": Impressions(file="log.csv")}
    assert error(tmp_path, **{**files, **columns}).startswith(
        f'data.tabular.{empty}: "" is not possible; interactions and impressions of two files'
    )


def test_faults_of_impressions(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(delimited(LOG) + b"x\n")
    _, relations = impressions(tmp_path, impressions=Impressions(file="log.csv"))
    assert relations.faults.rows() == [("impressions", "unparseable", "log.csv", 5, "x")]


def test_parts_of_one_name_in_folders(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write(tmp_path / f"year={year}" / "part-0.csv", [{**row, "user": year} for row in ROWS])
    pattern = "year=*/part-*.csv"
    ratings, *_ = shop(tmp_path, interactions=pattern)
    assert ratings["user"].to_list() == ["2023"] * len(ROWS) + ["2024"] * len(ROWS)
    assert set(ratings["file"]) == {"year=2023/part-0.csv", "year=2024/part-0.csv"}


@pytest.mark.parametrize("kind", [pl.Float64, pl.Decimal(20, 2)])
def test_ids_that_are_numbers(tmp_path: Path, kind: Any) -> None:
    numbers = pl.DataFrame({"user": [12, 2**53 - 1, 2**53 + 1]}).with_columns(
        pl.col("user").cast(kind), item=pl.lit("a")
    )
    numbers.write_parquet(tmp_path / "orders.parquet")
    ratings, *_ = shop(tmp_path, rating="", timestamp="", title="")
    last = None if kind == pl.Float64 else str(2**53 + 1)
    assert ratings["user"].to_list() == ["12", str(2**53 - 1), last]


# Names and values of strangers

STRANGE = ['a"b', "x; DROP TABLE t; --", "it's", "a/b~c", "*", "$.a", "0", "ü [1]", "row", "file"]


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_strange_names_and_values(tmp_path: Path, suffix: str, strange: str) -> None:
    rows = [{strange: strange, "item": f"{strange}'", "tags": strange}]
    name = f"{strange.replace('/', '')}.{suffix}"
    path = write(tmp_path / "f [a]*?'" / name, rows)
    options = {"rating": "", "timestamp": "", "categories": ["tags"], "category_separator": "'"}
    ratings, items, _ = shop(path, user=strange, title=strange, **options)
    assert ratings.select("user", "item", "file").rows() == [(strange, f"{strange}'", name)]
    categories = [part for part in strange.split("'") if part]
    assert items.select("title", "categories").rows() == [(strange, categories)]


# Errors


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_missing_column_is_named(tmp_path: Path, suffix: str) -> None:
    message = error(write(tmp_path / f"s.{suffix}"), item="sku")
    assert message.startswith(f"s.{suffix}: no column 'sku'; found ")
    assert "title" in message
    assert message.endswith(": set data.tabular.item")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", b"", "s.csv: the file is empty"),
        ("s.csv", b"\n \n", "s.csv: the file is empty"),
        ("s.jsonl", b"", "s.jsonl: the file is empty"),
        ("s.jsonl", b"[]\n", "s.jsonl: no line is a JSON object"),
        ("s.parquet", b"", "s.parquet: the file is empty"),
        ("s.parquet", b"user,item\n" * 9, "s.parquet: not a whole Parquet file"),
        ("s.csv.gz", b"user,item\n", "s.csv.gz: no column 'rating'"),
        ("s.csv.gz", gzip.compress(b"user,item\n" * 99)[:30], "s.csv.gz: cannot be read"),
        ("s.txt", b"user,item\n", "s.txt: unknown format; expected .csv, .tsv"),
        ("s.parquet.gz", b"", "s.parquet.gz: unknown format"),
        ("s.csv", b"user,item,user,rating,timestamp\n", "s.csv: more than one column 'user'"),
        ("s.csv", b"user,\xff\n", "s.csv: line 1: no names of columns (wrong encoding)"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert error(tmp_path / name).startswith(message)


def test_columns_of_parquet_that_differ_in_case(tmp_path: Path) -> None:
    path = write(tmp_path / "s.parquet", [{**ROWS[0], "User": "x"}])
    assert "'user' in two ways" in error(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "no such file" in error(tmp_path / "none.csv")
    write(tmp_path / "a.csv")
    write(tmp_path / "b.csv")
    assert error(tmp_path).endswith("found a.csv, b.csv: set data.tabular.interactions")
    assert "no file 'c*.csv'; found a.csv, b.csv" in error(tmp_path, interactions="c*.csv")
    message = error(tmp_path, interactions="a.csv", items="i.csv")
    assert message.endswith("set data.tabular.items")
    message = error(tmp_path, impressions=Impressions(file="log.csv"))
    assert message.endswith("set data.tabular.impressions.file")


def test_parts_in_two_formats(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    write(tmp_path / "a.tsv")
    assert "two formats" in error(tmp_path, interactions="a.*")


def test_a_setting_that_must_name_a_column(tmp_path: Path) -> None:
    assert error(write(tmp_path / "s.csv"), user="").startswith("data.tabular.user is empty")


def test_parquet_is_not_copied(tmp_path: Path) -> None:
    path = write(tmp_path / "s.parquet")
    data = reading.settings(path, "tabular", tabular=Tabular())
    with duckdb.connect() as connection:
        read(Source(path, tmp_path / "work", data, connection))
        views = connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert ("raw_ratings",) in views
    assert not (tmp_path / "work").exists()


# Mangled files


def mangled(content: bytes, seed: int, changes: int) -> bytes:
    """`content` with some bytes changed, put in, taken out, or its end cut off."""
    chance = random.Random(seed)
    mangled = bytearray(content)
    for _ in range(changes):
        at = chance.randrange(len(mangled) + 1)
        byte = chance.choice([*b'"\r\n\t,{}[]\\\x00\x1f\xff\xc3 0', chance.randrange(256)])
        action = chance.randrange(5)
        if action < 2:
            mangled[at : at + 1] = bytes([byte])
        elif action == 2:
            mangled[at:at] = bytes([byte]) * chance.randrange(1, 4)
        elif action == 3:
            del mangled[at : at + chance.randrange(1, 9)]
        elif chance.random() < 0.1:
            del mangled[at:]
    return bytes(mangled)


MANY = [{**row, "user": f"u{i}", "tags": "ü|y"} for i in range(10) for row in ROWS]


@pytest.mark.parametrize("name", ["s.csv", "s.tsv", "s.jsonl", "s.parquet", "s.csv.gz"])
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 12))
def test_mangled_files_lose_no_line(name: str, seed: int, changes: int) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / name, MANY)
        path.write_bytes(content := mangled(path.read_bytes(), seed, changes))
        try:
            ratings, _, faults = shop(path, title="title", categories=["tags"])
        except RecError as caught:
            assert "\n" not in str(caught)
            return
    rows = [*ratings["row"], *faults["row"]]
    assert len(rows) == len(set(rows))
    if name == "s.parquet":
        assert len(rows) <= len(MANY)
        return
    if name == "s.csv.gz":
        return
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    expected = {i for i, line in enumerate(lines, 1) if line.strip(b" \t")}
    header = set() if name == "s.jsonl" else {min(expected)}
    blank = {i for i in expected if not lines[i - 1].strip(b' \t"')}
    whole = {*rows, *header}
    assert set(rows) <= expected
    for missing in expected - whole - blank:
        before = max(row for row in whole if row < missing)
        assert name == "s.csv"
        assert before in {*ratings["row"], *header}
        assert b'"' in lines[before - 1]
