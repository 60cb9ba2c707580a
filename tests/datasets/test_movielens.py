"""rec.datasets.movielens: each published layout, titles, and faults in files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import polars as pl
import pytest

from rec.datasets import read
from rec.datasets.movielens import article_first
from rec.errors import RecError
from rec.tables import ITEMS, RATINGS

SHARED = Path(
    os.environ.get("REC_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)
FILES: dict[str, dict[str, bytes]] = {
    "atomic": {
        "ml-100k.inter": (
            b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            b"7\t12\t5\t881250949\n8\t267\t3\t891717742\n7\t59\t1\t881250949\n"
        ),
        "ml-100k.item": (
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "12\tUsual Suspects, The\t1995\tCrime Film-Noir\n"
            "267\tunkonwn\tunkonwn\tunknown\n"
            "59\tMépris, Le (Contempt)\t1963\tChildren's Sci-Fi\n"
            "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation\n"
        ).encode(),
    },
    "ml-100k": {
        "u.data": b"7\t12\t5\t881250949\n8\t267\t3\t891717742\n7\t59\t1\t881250949\n",
        "u.item": (
            "12|Usual Suspects, The (1995)|14-Aug-1995||http://x|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0|0|0\n"
            "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
            "59|Mépris, Le (Contempt) (1963)|1963||http://x|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|1|0|0|0\n"
            "1412|Land Before Time III: The Time of the Great Giving (1995) (V)|1995||u"
            "|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        ).encode("latin-1"),
    },
    "ml-1m": {
        "ratings.dat": b"7::12::5::881250949\n8::267::3::891717742\n7::59::1::881250949\n",
        "movies.dat": (
            "12::Usual Suspects, The (1995)::Crime|Film-Noir\n"
            "267::unknown::unknown\n"
            "59::Mépris, Le (Contempt)(1963)::Children's|Sci-Fi\n"
            "1412::Land Before Time III: The Time of the Great Giving (1995)::Animation\n"
        ).encode("latin-1"),
        "README": b"not read",
    },
}
EXPECTED_RATINGS = pl.DataFrame(
    {
        "user": ["7", "8", "7"],
        "item": ["12", "267", "59"],
        "rating": [5.0, 3.0, 1.0],
        "timestamp": [881250949, 891717742, 881250949],
    },
    schema=dict(RATINGS),
)
EXPECTED_ITEMS = pl.DataFrame(
    {
        "item": ["12", "267", "59", "1412"],
        "title": [
            "The Usual Suspects",
            "unknown",
            "Le Mépris (Contempt)",
            "Land Before Time III: The Time of the Great Giving",
        ],
        "year": [1995, None, 1963, 1995],
        "categories": [["Crime", "Film-Noir"], [], ["Children's", "Sci-Fi"], ["Animation"]],
    },
    schema=dict(ITEMS),
)


def write(folder: Path, layout: str, **replaced: bytes) -> Path:
    """Write a layout's files; a keyword such as u_data replaces the file u.data."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES[layout].items():
        (folder / name).write_bytes(replaced.get(name.replace(".", "_"), content))
    return folder


def error(folder: Path) -> str:
    with pytest.raises(RecError) as caught:
        read("movielens", folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", ["folder", "subfolder", "zip"])
@pytest.mark.parametrize("layout", FILES)
def test_every_layout_reads_the_same(tmp_path: Path, layout: str, form: str) -> None:
    if form == "zip":
        with zipfile.ZipFile(tmp_path / f"{layout}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES[layout].items():
                archive.writestr(f"{layout}/{name}", content)
    else:
        write(tmp_path if form == "folder" else tmp_path / layout, layout)
    ratings, items = read("movielens", tmp_path)
    assert ratings.equals(EXPECTED_RATINGS)
    assert items.equals(EXPECTED_ITEMS)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Tin Drum, The (Blechtrommel, Die)", "The Tin Drum (Die Blechtrommel)"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Enfer, L'", "L'Enfer"),
        ("Hate (Haine, La)", "Hate (La Haine)"),
        ("Convent, The (Convento, O)", "The Convent (O Convento)"),
        ("White Balloon, The (Badkonake Sefid )", "The White Balloon (Badkonake Sefid)"),
        ("American in Paris, An", "An American in Paris"),
        ("I, Worst of All (Yo, la peor de todas)", "I, Worst of All (Yo, la peor de todas)"),
        ("Paris, Texas", "Paris, Texas"),
        ("Bye Bye, Theodore", "Bye Bye, Theodore"),
        ("Seven (Se7en)", "Seven (Se7en)"),
    ],
)
def test_article_moves_to_the_front(published: str, expected: str) -> None:
    table = pl.DataFrame({"title": [published]})
    assert table.select(article_first(pl.col("title"))).item() == expected


def test_line_ends_of_windows_and_no_last_line_end(tmp_path: Path) -> None:
    ratings_dat, movies_dat = (
        FILES["ml-1m"][name].replace(b"\n", b"\r\n").rstrip()
        for name in ("ratings.dat", "movies.dat")
    )
    write(tmp_path, "ml-1m", ratings_dat=ratings_dat, movies_dat=movies_dat)
    ratings, items = read("movielens", tmp_path)
    assert ratings.equals(EXPECTED_RATINGS)
    assert items.equals(EXPECTED_ITEMS)


def test_empty_values_are_null(tmp_path: Path) -> None:
    folder = write(tmp_path, "ml-1m", ratings_dat=b"7::12::::881250949\n::12::4::\n")
    ratings, _ = read("movielens", folder)
    assert ratings.rows() == [("7", "12", None, 881250949), (None, "12", 4.0, None)]


@pytest.mark.parametrize("layout", FILES)
def test_each_missing_file_is_named(tmp_path: Path, layout: str) -> None:
    items = next(name for name in FILES[layout] if "item" in name or "movies" in name)
    folder = write(tmp_path, layout)
    (folder / items).unlink()
    assert f"the file {items} is missing" in error(folder)


def test_folder_without_files_says_what_is_expected(tmp_path: Path) -> None:
    assert "ratings.dat and movies.dat" in error(tmp_path)
    assert "no such folder" in error(tmp_path / "absent")


@pytest.mark.parametrize(
    ("layout", "name"),
    [("atomic", "ml-100k_inter"), ("ml-1m", "ratings_dat"), ("ml-100k", "u_data")],
)
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_empty_ratings_file(tmp_path: Path, layout: str, name: str, content: bytes) -> None:
    message = error(write(tmp_path, layout, **{name: content}))
    assert name.replace("_", ".") in message and "empty" in message


def test_header_without_rows(tmp_path: Path) -> None:
    header = FILES["atomic"]["ml-100k.inter"].splitlines()[0]
    folder = write(tmp_path, "atomic")
    (folder / "ml-100k.inter").write_bytes(header)
    assert "ml-100k.inter: the file is empty" in error(folder)


def test_missing_header_column_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, "atomic")
    content = FILES["atomic"]["ml-100k.inter"].replace(b"timestamp:float", b"time:float")
    (folder / "ml-100k.inter").write_bytes(content)
    assert "no column 'timestamp'; found user_id, item_id, rating, time" in error(folder)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"7::12::5", "row 2: '7::12::5' has 3 fields; expected 4: user, item, rating, timestamp"),
        (b"7::12::good::881250949", "row 2: rating 'good' is not a number"),
        (b"7::12::5::yesterday", "row 2: timestamp 'yesterday' is not a number"),
        (b"7::12::nan::881250949", "row 2: rating 'nan' is not a number"),
    ],
)
def test_unparseable_row_is_shown(tmp_path: Path, line: bytes, expected: str) -> None:
    folder = write(tmp_path, "ml-1m", ratings_dat=b"7::12::5::881250949\n" + line + b"\n")
    assert error(folder) == f"{folder / 'ratings.dat'}: {expected}"


def test_genre_flag_other_than_0_and_1(tmp_path: Path) -> None:
    content = FILES["ml-100k"]["u.item"].replace(b"|1|0|0|0\n", b"|2|0|0|0\n")
    assert "row 3: item '59' has a genre flag" in error(write(tmp_path, "ml-100k", u_item=content))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    folder = write(tmp_path, "atomic")
    (folder / "ml-100k.item").write_bytes("é".encode("latin-1"))
    assert "ml-100k.item: not utf-8-sig text at byte 0" in error(folder)


@pytest.mark.parametrize("damage", ["cut", "not a zip", "flipped"])
def test_bad_zip(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES["ml-1m"].items():
            archive.writestr(f"ml-1m/{name}", content)
    whole = path.read_bytes()
    flipped = whole.replace(b"7::12::5", b"7::12::4", 1)
    path.write_bytes({"cut": whole[:-40], "not a zip": b"<html>", "flipped": flipped}[damage])
    message = error(tmp_path)
    assert message.startswith(str(path))
    assert "zip" in message or "cannot be read" in message


def test_unknown_reader(tmp_path: Path) -> None:
    with pytest.raises(RecError, match=r"data\.reader: 'netflix' is not one of movielens"):
        read("netflix", tmp_path)


def test_the_real_ml_1m(tmp_path: Path) -> None:
    archive = SHARED / "ml-1m.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent (set REC_SHARED_DATA to the folder that holds ml-1m.zip)")
    (tmp_path / "ml-1m.zip").symlink_to(archive.resolve())
    ratings, items = read("movielens", tmp_path)
    assert (len(ratings), ratings["user"].n_unique(), len(items)) == (1_000_209, 6_040, 3_883)
    assert ratings.null_count().sum_horizontal().item() == 0
    assert items["year"].null_count() == 0
    assert items["year"].is_between(1900, 2000).all()
    assert items.filter(pl.col("title").str.contains(r", (The|A|An)$|\(\d{4}\)")).is_empty()
    assert items["categories"].explode().n_unique() == 18
