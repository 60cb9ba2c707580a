"""rec.datasets.movielens: each published layout, titles, and faults in files."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rec.errors import RecError
from tests.datasets.reading import Relations, read_all

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
    "ml-latest": {
        "ratings.csv": (
            b"userId,movieId,rating,timestamp\n"
            b"7,12,5,881250949\n8,267,3,891717742\n7,59,1,881250949\n"
        ),
        "movies.csv": (
            "movieId,title,genres\n"
            '12,"Usual Suspects, The (1995)",Crime|Film-Noir\n'
            "267,unknown,(no genres listed)\n"
            '59,"Mépris, Le (Contempt) (1963)",Children\'s|Sci-Fi\n'
            "1412,Land Before Time III: The Time of the Great Giving (1995),Animation\n"
        ).encode(),
        "tags.csv": b"userId,movieId,tag,timestamp\n7,12,good,881250949\n",
    },
}
#: The two files of each layout, and the lines that their headers take.
NAMES = {
    "atomic": ("ml-100k.inter", "ml-100k.item", 1),
    "ml-100k": ("u.data", "u.item", 0),
    "ml-1m": ("ratings.dat", "movies.dat", 0),
    "ml-latest": ("ratings.csv", "movies.csv", 1),
}
RATINGS = pl.DataFrame(
    {
        "user": ["7", "8", "7"],
        "item": ["12", "267", "59"],
        "rating": ["5", "3", "1"],
        "timestamp": ["881250949", "891717742", "881250949"],
    }
)
ITEMS = pl.DataFrame(
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
        "about": [None] * 4,
    },
    schema_overrides={"year": pl.Int32, "about": pl.String},
)
#: White space of a blank line, as Unicode has it.
WHITE = r"[\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*"


def write(folder: Path, layout: str, **replaced: bytes) -> Path:
    """Write a layout's files; `ratings` or `items` replaces the content of that file."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = dict(FILES[layout])
    for name, content in zip(NAMES[layout], ("ratings", "items"), strict=False):
        contents[str(name)] = replaced.get(content, contents[str(name)])
    for name, written in contents.items():
        (folder / name).write_bytes(written)
    return folder


def pack(path: Path, layout: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir(layout)
        for name, content in FILES[layout].items():
            archive.writestr(f"{layout}/{name}", content)
            archive.writestr(f"__MACOSX/{layout}/._{name}", b"\0")
    return path


def read(path: Path) -> Relations:
    return read_all(path, "movielens")


def error(path: Path) -> str:
    with pytest.raises(RecError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def check(relations: Relations, layout: str, prefix: str = "") -> None:
    """The rows are those of FILES, and their places are right."""
    ratings, items, faults = relations
    first, second, skip = NAMES[layout]
    assert ratings.drop("file", "row").equals(RATINGS)
    assert items.drop("file", "row").equals(ITEMS)
    assert ratings.select("file", "row").rows() == [
        (f"{prefix}{first}", skip + i) for i in (1, 2, 3)
    ]
    assert items.select("file", "row").rows() == [
        (f"{prefix}{second}", skip + i) for i in (1, 2, 3, 4)
    ]
    assert faults.is_empty()


@pytest.mark.parametrize("form", ["folder", "subfolder", "zip", "folder with a zip", "both"])
@pytest.mark.parametrize("layout", FILES)
def test_every_layout_reads_the_same(tmp_path: Path, layout: str, form: str) -> None:
    archive = tmp_path / f"{layout}.zip"
    if form in ("zip", "folder with a zip", "both"):
        pack(archive, layout)
    if form in ("folder", "subfolder", "both"):
        write(tmp_path if form == "folder" else tmp_path / layout, layout)
    prefixes = {
        "folder": "",
        "subfolder": f"{layout}/",
        "both": f"{layout}/",
        "zip": f"{layout}.zip:{layout}/",
        "folder with a zip": f"{layout}.zip:{layout}/",
    }
    check(read(archive if form == "zip" else tmp_path), layout, prefixes[form])


@pytest.mark.parametrize("end", [b"\r\n", b"\n\n", b"\r\n \t\r\n"])
@pytest.mark.parametrize("layout", FILES)
def test_line_ends_blank_lines_and_no_last_line_end(
    tmp_path: Path, layout: str, end: bytes
) -> None:
    first, second, skip = NAMES[layout]
    ratings, items = (FILES[layout][name].rstrip().replace(b"\n", end) for name in (first, second))
    relations = read(write(tmp_path, layout, ratings=ratings, items=items))
    assert relations.ratings.drop("file", "row").equals(RATINGS)
    assert relations.items.drop("file", "row").equals(ITEMS)
    step = end.count(b"\n")
    assert relations.ratings["row"].to_list() == [1 + step * (skip + i) for i in (0, 1, 2)]
    assert relations.faults.is_empty()


@pytest.mark.parametrize("layout", FILES)
def test_byte_order_mark(tmp_path: Path, layout: str) -> None:
    ratings, items = (b"\xef\xbb\xbf" + FILES[layout][name] for name in NAMES[layout][:2])
    check(read(write(tmp_path, layout, ratings=ratings, items=items)), layout)


@pytest.mark.parametrize(
    ("published", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Death Note (2006–2007)", "Death Note", 2006),
        ("Office, The (2005- )", "The Office", 2005),
        ('""Great Performances"" Cats (1998)', '"Great Performances" Cats', 1998),
        ("2001: A Space Odyssey (1968) ", "2001: A Space Odyssey", 1968),
        ("1984", "1984", None),
        ("Year in Arabic (١٩٨٤)", "Year in Arabic (١٩٨٤)", None),
        ("(1995)", None, 1995),
        ("", None, None),
    ],
)
def test_title_and_year(
    tmp_path: Path, published: str, title: str | None, year: int | None
) -> None:
    content = f'movieId,title,genres\n1,"{published}",Drama\n'.encode()
    items = read(write(tmp_path, "ml-latest", items=content)).items
    assert items.select("title", "year").rows() == [(title, year)]


def test_empty_values_are_null(tmp_path: Path) -> None:
    folder = write(tmp_path, "ml-1m", ratings=b"7::12::::881250949\n::12::4::\n", items=b"::::\n")
    ratings, items, faults = read(folder)
    assert ratings.drop("file", "row").rows() == [
        ("7", "12", None, "881250949"),
        (None, "12", "4", None),
    ]
    assert items.drop("file", "row").rows() == [(None, None, None, [], None)]
    assert faults.is_empty()


def test_values_stay_as_published(tmp_path: Path) -> None:
    folder = write(tmp_path, "ml-1m", ratings=b"7::12::good::yesterday\n 7 ::12::nan::-1.5e9\n")
    assert read(folder).ratings.drop("file", "row").rows() == [
        ("7", "12", "good", "yesterday"),
        (" 7 ", "12", "nan", "-1.5e9"),
    ]


#: What else the archives of the later releases hold.
RELEASES: dict[str, tuple[str, ...]] = {
    "ml-latest-small": ("links.csv", "tags.csv", "README.txt"),
    "ml-latest": ("genome-scores.csv", "genome-tags.csv", "links.csv", "tags.csv", "README.txt"),
    "ml-20m": ("genome-scores.csv", "genome-tags.csv", "links.csv", "tags.csv", "README.txt"),
    "ml-25m": ("genome-scores.csv", "genome-tags.csv", "links.csv", "tags.csv", "README.txt"),
    "ml-32m": ("checksums.txt", "links.csv", "tags.csv", "README.txt"),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("release", RELEASES)
def test_releases_with_half_stars(tmp_path: Path, release: str, end: str) -> None:
    ratings = [
        "userId,movieId,rating,timestamp",
        "1,1,4.0,964982703",
        "1,11,0.5,964981247",
        "2,171495,3.5,1445714835",
        "2,163949,5.0,1445714835",
    ]
    films = [
        "movieId,title,genres",
        "1,Toy Story (1995),Adventure|Animation|Children|Comedy|Fantasy",
        '11,"American President, The (1995)",Comedy|Drama|Romance',
        "171495,Cosmos,(no genres listed)",
        '163949,"The Beatles: Eight Days a Week, ""Live"" (2016)",Documentary',
        "140956,Ready Player One,Action|Sci-Fi|Thriller",
    ]
    path = tmp_path / f"{release}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in (("ratings.csv", ratings), ("movies.csv", films)):
            archive.writestr(f"{release}/{name}", "".join(row + end for row in rows))
        for name in RELEASES[release]:
            archive.writestr(f"{release}/{name}", 'not,"read')
    relations = read_all(tmp_path, "movielens", rating_minimum=0.5)
    assert relations.faults.is_empty()
    assert relations.ratings.drop("file", "row").rows() == [
        ("1", "1", "4.0", "964982703"),
        ("1", "11", "0.5", "964981247"),
        ("2", "171495", "3.5", "1445714835"),
        ("2", "163949", "5.0", "1445714835"),
    ]
    assert relations.items.select("item", "title", "year", "categories").rows() == [
        ("1", "Toy Story", 1995, ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]),
        ("11", "The American President", 1995, ["Comedy", "Drama", "Romance"]),
        ("171495", "Cosmos", None, []),
        ("163949", 'The Beatles: Eight Days a Week, "Live"', 2016, ["Documentary"]),
        ("140956", "Ready Player One", None, ["Action", "Sci-Fi", "Thriller"]),
    ]


def test_ml_10m_has_utf8_titles(tmp_path: Path) -> None:
    content = FILES["ml-1m"]["movies.dat"].decode("latin-1").encode()
    check(read(write(tmp_path, "ml-1m", items=content)), "ml-1m")


@pytest.mark.parametrize("layout", FILES)
def test_each_missing_file_is_named(tmp_path: Path, layout: str) -> None:
    for missing in NAMES[layout][:2] if layout != "atomic" else NAMES[layout][1:2]:
        folder = write(tmp_path, layout)
        (folder / str(missing)).unlink()
        assert f"the file {missing} is missing; found " in error(folder)


def test_folder_without_files_says_what_is_expected(tmp_path: Path) -> None:
    assert "ratings.dat and movies.dat" in error(tmp_path)
    assert "no such file or folder" in error(tmp_path / "absent")


def test_single_file_that_is_no_archive(tmp_path: Path) -> None:
    folder = write(tmp_path, "ml-1m")
    assert "movies.dat is missing; found ratings.dat" in error(folder / "ratings.dat")


def test_more_than_one_data_set(tmp_path: Path) -> None:
    write(tmp_path / "a", "ml-1m")
    write(tmp_path / "b", "ml-1m")
    assert "more than one file ratings.dat: a/ratings.dat, b/ratings.dat" in error(tmp_path)
    shutil.rmtree(tmp_path / "b")
    write(tmp_path / "c", "ml-latest")
    assert "more than one data set: ratings.dat, movies.dat, ratings.csv" in error(tmp_path)


@pytest.mark.parametrize("layout", FILES)
@pytest.mark.parametrize("content", [b"", b"\n\n", b" \r\n\t\n"])
@pytest.mark.parametrize("which", [0, 1])
def test_empty_file_is_named(tmp_path: Path, layout: str, content: bytes, which: int) -> None:
    replaced = {("ratings", "items")[which]: content}
    message = error(write(tmp_path, layout, **replaced))
    assert message.startswith(f"{NAMES[layout][which]}: the file is empty")


@pytest.mark.parametrize("layout", ["atomic", "ml-latest"])
def test_header_without_rows(tmp_path: Path, layout: str) -> None:
    name = str(NAMES[layout][0])
    header = FILES[layout][name].splitlines()[0]
    assert error(write(tmp_path, layout, ratings=header)) == f"{name}: the file is empty"


@pytest.mark.parametrize("layout", ["atomic", "ml-latest"])
def test_header_columns_are_named(tmp_path: Path, layout: str) -> None:
    content = FILES[layout][str(NAMES[layout][0])]
    message = error(write(tmp_path, layout, ratings=content.replace(b"timestamp", b"time")))
    assert "row 1: no column 'timestamp'; found " in message and "rating, time" in message
    message = error(write(tmp_path, layout, ratings=content.replace(b"timestamp", b"rating")))
    assert "row 1: more than one column 'rating'; found " in message


def test_columns_in_another_order_and_further_ones(tmp_path: Path) -> None:
    content = b"timestamp,tag,movieId,userId,rating\n881250949,a,12,7,5\n"
    ratings = read(write(tmp_path, "ml-latest", ratings=content)).ratings
    assert ratings.drop("file", "row").rows() == RATINGS.rows()[:1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"7::12::5", "unparseable"),
        (b"7::12::5::1::2", "unparseable"),
        (b"7,12,5,881250949", "unparseable"),
        (b"7::1\xff2::5::881250949", "wrong encoding"),
        (b"\xff", "wrong encoding"),
    ],
)
def test_line_that_is_no_record_is_a_fault(tmp_path: Path, line: bytes, reason: str) -> None:
    content = b"7::12::5::881250949\n\n" + line + b"\r\n7::59::1::881250949\n"
    ratings, items, faults = read(write(tmp_path, "ml-1m", ratings=content))
    assert ratings["row"].to_list() == [1, 4]
    assert len(items) == 4
    shown = line.decode("utf-8", "replace")
    assert faults.rows() == [("ratings", reason, "ratings.dat", 3, shown)]


def test_value_of_a_fault_is_cut(tmp_path: Path) -> None:
    faults = read(write(tmp_path, "ml-1m", ratings=b"1::2::3::4\n" + b"x" * 999)).faults
    assert faults["value"].to_list() == ["x" * 200]


def test_faults_of_items(tmp_path: Path) -> None:
    content = (
        b"movieId,title,genres\n1,One, two,Drama\n"
        b'2,"Two, ""three"" (1999)",Drama\n3,"Three,Drama\n4,caf\xe9,Drama\n5,Five,Drama\n'
    )
    _, items, faults = read(write(tmp_path, "ml-latest", items=content))
    assert items.select("item", "title", "row").rows() == [
        ("2", 'Two, "three"', 3),
        ("5", "Five", 6),
    ]
    assert faults.rows() == [
        ("items", "unparseable", "movies.csv", 2, "1,One, two,Drama"),
        ("items", "unparseable", "movies.csv", 4, '3,"Three,Drama'),
        ("items", "wrong encoding", "movies.csv", 5, "4,caf\ufffd,Drama"),
    ]


@pytest.mark.parametrize("flag", [b"2", b"", b"x"])
def test_genre_flag_other_than_0_and_1(tmp_path: Path, flag: bytes) -> None:
    content = FILES["ml-100k"]["u.item"].replace(b"|1|0|0|0\n", b"|" + flag + b"|0|0|0\n")
    _, items, faults = read(write(tmp_path, "ml-100k", items=content))
    assert items["item"].to_list() == ["12", "267", "1412"]
    assert faults.drop("value").rows() == [("items", "unparseable", "u.item", 3)]
    assert faults["value"].item().startswith("59|Mépris, Le (Contempt)")


@pytest.mark.parametrize("damage", ["cut", "not a zip", "flipped", "empty"])
@pytest.mark.parametrize("given_as", ["file", "folder"])
def test_bad_zip(tmp_path: Path, damage: str, given_as: str) -> None:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES["ml-1m"].items():
            archive.writestr(f"ml-1m/{name}", content)
    whole = path.read_bytes()
    flipped = whole.replace(b"7::12::5", b"7::12::4", 1)
    damaged = {"cut": whole[:-40], "not a zip": b"<html>", "flipped": flipped, "empty": b""}
    path.write_bytes(damaged[damage])
    message = error(path if given_as == "file" else tmp_path)
    assert message.startswith("ml-1m.zip")
    assert "zip" in message or "cannot be read" in message


def test_members_never_leave_the_work_folder(tmp_path: Path) -> None:
    path = tmp_path / "in" / "ml.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES["ml-1m"].items():
            archive.writestr(f"../../{name}", content)
    before = sorted(tmp_path.rglob("*"))
    check(read(path), "ml-1m", "ml.zip:../../")
    assert sorted(tmp_path.rglob("*")) == before


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "delete", "insert", "truncate"]),
        st.floats(0, 1),
        st.one_of(
            st.binary(max_size=4), st.sampled_from([b"\n", b"\r", b'"', b"::", b"\t", b"\0"])
        ),
    ),
    min_size=1,
    max_size=6,
)


def mangled(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for edit, place, piece in edits:
        at = int(place * len(content))
        rest = {
            "replace": piece + content[at + len(piece) :],
            "delete": content[at + 1 + len(piece) :],
            "insert": piece + content[at:],
            "truncate": b"",
        }
        content = content[:at] + rest[edit]
    return content


def rows_of(content: bytes, skip: int) -> list[int]:
    """The numbers of the lines that are neither blank nor header, the first that is not blank."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    written = [
        row
        for row, line in enumerate(lines, 1)
        if not re.fullmatch(WHITE, line.decode("utf-8", "replace"))
    ]
    return written[skip:]


@pytest.mark.parametrize("layout", FILES)
@settings(
    max_examples=int(os.environ.get("REC_FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(first=EDITS, second=st.one_of(st.just([]), EDITS))
@example(first=[], second=[("insert", 0.0, b"\n")])
def test_mangled_files_lose_no_line(
    tmp_path: Path,
    layout: str,
    first: list[tuple[str, float, bytes]],
    second: list[tuple[str, float, bytes]],
) -> None:
    ratings_name, items_name, skip = NAMES[layout]
    ratings = mangled(FILES[layout][str(ratings_name)], first)
    items = mangled(FILES[layout][str(items_name)], second)
    write(tmp_path, layout, ratings=ratings, items=items)
    try:
        relations = read(tmp_path)
    except RecError as caught:
        assert len(str(caught).splitlines()) == 1
        return
    for name, content, good in (
        (ratings_name, ratings, relations.ratings),
        (items_name, items, relations.items),
    ):
        faults = relations.faults.filter(pl.col("file") == name)
        if name == ratings_name or layout in ("atomic", "ml-latest"):
            assert sorted([*good["row"], *faults["row"]]) == rows_of(content, int(skip))


@settings(
    max_examples=int(os.environ.get("REC_FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=EDITS)
def test_mangled_zip_is_read_or_named(
    tmp_path: Path, edits: list[tuple[str, float, bytes]]
) -> None:
    path = pack(tmp_path / "ml-1m.zip", "ml-1m")
    path.write_bytes(mangled(path.read_bytes(), edits))
    try:
        read(path)
    except RecError as caught:
        assert len(str(caught).splitlines()) == 1


def test_the_real_ml_1m() -> None:
    archive = SHARED / "ml-1m.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent (set REC_SHARED_DATA to the folder that holds ml-1m.zip)")
    ratings, items, faults = read(archive)
    assert (len(ratings), ratings["user"].n_unique(), len(items)) == (1_000_209, 6_040, 3_883)
    assert faults.is_empty()
    assert ratings["row"].equals(pl.Series("row", range(1, 1_000_210)))
    assert ratings.null_count().sum_horizontal().item() == 0
    assert items["year"].null_count() == 0
    assert items["year"].is_between(1900, 2000).all()
    assert items.filter(pl.col("title").str.contains(r", (The|A|An)$|\(\d{4}\)")).is_empty()
    assert items["categories"].explode().n_unique() == 18
