"""rec.datasets.amazon: the three layouts, Python literals, and faults in files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.datasets import json_lines
from rec.errors import RecError
from tests.datasets.reading import Relations, read_all

SHARED = (
    Path(os.environ.get("REC_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    / "amazon-2018"
)

REVIEWS_2014 = [
    b'{"reviewerID": "U1", "asin": "0001", "helpful": [0, 1], "overall": 5.0,'
    b' "unixReviewTime": 1252800000, "reviewText": "a \\"b\\" \\u00e9"}',
    b'{"reviewerID": "U2", "asin": "0002", "overall": "4", "unixReviewTime": null}',
    b'{"asin": "0003", "overall": 3}',
]
#: Lines of metadata as Python writes them; the titles are what makes them hard.
META_2014 = [
    rb"{'asin': '0001', 'categories': [['Books', 'Fiction'], ['Books', 'Fiction', 'Crime']],"
    rb" 'title': 'Plain', 'price': 1.2, 'related': {'also_bought': ['0002']}, 'brand': ''}",
    rb"""{'asin': '0002', 'title': "It's here", 'description': "He said 'title': 'x'. More"}""",
    rb"""{'asin': '0003', 'title': 'A "quoted" one', 'categories': [['Books']]}""",
    rb"""{'asin': '0004', 'title': 'It\'s "both"', 'brand': 'Acme', 'categories': [[]]}""",
    rb"{'asin': '0005', 'title': 'Caf\xe9 \\ back', 'categories': [['Books', 'A &amp; B']]}",
    rb"{'asin': '0006', 'title': '\u201cnone\u201d, None, [None, true', 'brand': None}",
    rb"{'asin': '0007', 'title': 'None of us: null', 'price': None, 'ok': True}",
    rb"{u'asin': u'0008', 'title': 'Two \ud83d\ude00 halves', 'description': ('',)}",
    rb"{'asin': '0009', 'title': 'Tail' ' joined', 'sold': 0x10,}",
    "{'asin': '0010', 'title': 'Éclair\tau café', 'description': 'Short. No. Rest'}".encode(),
]
REVIEWS_2018 = [
    b'{"overall": 4.0, "verified": true, "reviewerID": "U1", "asin": "B1", "style": {"a": "b"},'
    b' "unixReviewTime": 1393372800}',
    b'{"overall": 5.0, "reviewerID": "U2", "asin": "B2", "unixReviewTime": 1078531200}',
]
META_2018 = [
    b'{"category": ["Gift Cards", "Gift Cards", "No fees."], "description": [],'
    b' "title": " Card &#39;A&#39;", "brand": "Amazon", "asin": "B1", "main_cat": "Gift Cards"}',
    b'{"category": ["Magazines", "Arts &amp; Music", "</span></span>", "", "Music"],'
    b' "description": ["", "<p>Good  &amp; long enough as a start. Then more</p>"],'
    b' "title": "<span class=", "brand": "Hearst", "asin": "B2"}',
]
REVIEWS_2023 = [
    b'{"rating": 5.0, "title": "t", "asin": "C0", "parent_asin": "C1", "user_id": "U1",'
    b' "timestamp": 1588615855070}',
    b'{"rating": 1, "parent_asin": "C2", "user_id": "U2", "timestamp": "soon"}',
]
META_2023 = [
    b'{"main_category": "All Beauty", "title": "Spray", "categories": [], "store": "Acme",'
    b' "description": [], "parent_asin": "C1", "details": {"x": "\\ud83d\\ude00"}}',
    b'{"main_category": "Books", "title": null, "categories": ["Books", "History"],'
    b' "store": null, "description": ["' + b"word " * 40 + b'"], "parent_asin": "C2"}',
]
LAYOUTS = {
    "2014": {"reviews_Books_5.json.gz": REVIEWS_2014, "meta_Books.json.gz": META_2014},
    "2018": {"Gift_Cards_5.json.gz": REVIEWS_2018, "meta_Gift_Cards.json.gz": META_2018},
    "2023": {"All_Beauty.jsonl.gz": REVIEWS_2023, "meta_All_Beauty.jsonl.gz": META_2023},
}


def write(folder: Path, layout: str, **replaced: bytes) -> Path:
    """Write a layout's files; the keywords reviews and meta replace a file's text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in LAYOUTS[layout].items():
        kind = "meta" if name.startswith("meta_") else "reviews"
        text = replaced.get(kind, b"\n".join(lines) + b"\n")
        (folder / name).write_bytes(gzip.compress(text))
    return folder


def error(folder: Path) -> str:
    with pytest.raises(RecError) as caught:
        read_all(folder, "amazon")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(frame: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return frame.select(columns).rows()


def test_the_layout_of_2014(tmp_path: Path) -> None:
    ratings, items, faults = read_all(write(tmp_path, "2014"), "amazon")
    assert values(ratings, "user", "item", "rating", "timestamp", "row") == [
        ("U1", "0001", "5.0", "1252800000", 1),
        ("U2", "0002", "4", None, 2),
        (None, "0003", "3", None, 3),
    ]
    assert faults.is_empty()
    assert values(items, "item", "title", "categories") == [
        ("0001", "Plain", ["Fiction", "Crime"]),
        ("0002", "It's here", []),
        ("0003", 'A "quoted" one', ["Books"]),
        ("0004", 'It\'s "both"', []),
        ("0005", "Café \\ back", ["A & B"]),
        ("0006", "“none”, None, [None, true", []),
        ("0007", "None of us: null", []),
        ("0008", "Two 😀 halves", []),
        ("0009", "Tail joined", []),
        ("0010", "Éclair\tau café", []),
    ]
    abouts = ["He said 'title': 'x'", "Acme", "Short. No. Rest"]
    assert items["about"].drop_nulls().to_list() == abouts
    assert items["year"].null_count() == len(items)


def test_the_layout_of_2018(tmp_path: Path) -> None:
    ratings, items, faults = read_all(write(tmp_path, "2018"), "amazon")
    assert values(ratings, "user", "item", "rating", "timestamp", "file", "row") == [
        ("U1", "B1", "4.0", "1393372800", "Gift_Cards_5.json.gz", 1),
        ("U2", "B2", "5.0", "1078531200", "Gift_Cards_5.json.gz", 2),
    ]
    assert faults.is_empty()
    assert values(items, "item", "title", "categories", "about", "row") == [
        ("B1", " Card &#39;A&#39;", ["Gift Cards"], "Amazon, Gift Cards", 1),
        ("B2", "<span class=", ["Arts & Music", "Music"], "Good & long enough as a start", 2),
    ]


def test_the_layout_of_2023(tmp_path: Path) -> None:
    ratings, items, faults = read_all(write(tmp_path, "2023"), "amazon")
    assert values(ratings, "user", "item", "rating", "timestamp") == [
        ("U1", "C1", "5.0", "1588615855"),
        ("U2", "C2", "1", "soon"),
    ]
    assert faults.is_empty()
    assert values(items, "item", "title", "categories", "about") == [
        ("C1", "Spray", ["All Beauty"], "Acme, All Beauty"),
        ("C2", None, ["History"], " ".join(["word"] * 16)),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpacked_files_and_those_in_a_subfolder(tmp_path: Path, layout: str) -> None:
    expected = read_all(write(tmp_path / "packed", layout), "amazon")
    for name, lines in LAYOUTS[layout].items():
        path = tmp_path / "unpacked" / "folder" / name.removesuffix(".gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\r\n".join(lines))
    found = read_all(tmp_path / "unpacked", "amazon")
    for one, other in zip(expected, found, strict=True):
        assert one.drop("file").equals(other.drop("file"))


def test_json_metadata_beside_reviews_of_2014(tmp_path: Path) -> None:
    meta = b'{"asin": "1", "title": "It\'s", "categories": [["Books", "Art"]]}\n'
    items = read_all(write(tmp_path, "2014", meta=meta), "amazon").items
    assert values(items, "item", "title", "categories") == [("1", "It's", ["Art"])]


@pytest.mark.parametrize("exchange", [True, False])
def test_literals_are_what_python_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """The fast way and `ast.literal_eval` give the same."""
    expected = read_all(write(tmp_path, "2014"), "amazon").items
    if not exchange:
        monkeypatch.setattr(json_lines, "_exchanged", lambda line: None)
    assert read_all(tmp_path, "amazon").items.equals(expected)


BAD = [
    b"nothing",
    b'{"asin": "1"} {"asin": "2"}',
    b'"text"',
    b"null",
    b"[1, 2]",
    b'{"asin": "\xff\xfe"}',
    b'{"asin": "cut',
    b'{"asin": "\\ud83d"}',
    b"\0",
    b"{" * 100_000,
]


@pytest.mark.parametrize("kind", ["reviews", "meta"])
def test_faults_have_their_row_and_text(tmp_path: Path, kind: str) -> None:
    good = b'{"asin": "B1", "reviewerID": "U1"}'
    lines = [good, b"", b"  \t", *(line for bad in BAD for line in (bad, good))]
    folder = write(tmp_path, "2018", **{kind: b"\n".join(lines)})
    ratings, items, faults = read_all(folder, "amazon")
    assert faults["row"].to_list() == list(range(4, 4 + 2 * len(BAD), 2))
    assert faults["value"].to_list() == [bad.decode(errors="replace")[:200] for bad in BAD]
    assert set(faults["reason"]) == {"unparseable"}
    assert set(faults["relation"]) == {"ratings" if kind == "reviews" else "items"}
    read = ratings if kind == "reviews" else items
    assert read["row"].to_list() == [1, *range(5, 5 + 2 * len(BAD), 2)]


@pytest.mark.parametrize(
    "bad",
    [
        b"{'asin': __import__('os').getcwd()}",
        b"{'asin': null}",
        b"{'asin': nan}",
        b"{'asin': 'cut",
        b"['asin']",
        b"'asin'",
        b"{[]: 1}",
        b"{'asin': " + b"-" * 200_000 + b"1}",
        b"{'asin': " + b"[" * 200_000,
        b"{'asin': " + b"9" * 5000 + b", 'title': '\"'}",
        b"{'asin': '\xff'}",
        b"{'asin': '\0\"'}",
    ],
)
def test_what_is_no_literal_is_a_fault(tmp_path: Path, bad: bytes) -> None:
    folder = write(tmp_path, "2014", meta=META_2014[0] + b"\n\n" + bad + b"\n" + META_2014[1])
    _, items, faults = read_all(folder, "amazon")
    assert values(faults, "relation", "reason", "row", "value") == [
        ("items", "unparseable", 3, bad.decode(errors="replace")[:200])
    ]
    assert items["row"].to_list() == [1, 4]


def test_fields_of_another_type_are_null(tmp_path: Path) -> None:
    reviews = b'{"asin": ["a"], "reviewerID": {"b": 1}, "overall": [5]}\n'
    depth = b"[" * 5000 + b"]" * 5000
    meta = (
        b'{"asin": {}, "title": ["a"], "category": "Arts", "description": 7, "brand": []}\n'
        b'{"asin": 12, "title": true, "category": [1, null, ["Deep"]], "description": %s}\n' % depth
    )
    ratings, items, faults = read_all(write(tmp_path, "2018", reviews=reviews, meta=meta), "amazon")
    assert values(ratings, "user", "item", "rating") == [(None, None, "[5]")]
    assert values(items, "item", "title", "categories", "about") == [
        (None, None, ["Arts"], None),
        ("12", None, ["Deep"], None),
    ]
    assert faults.is_empty()


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        (["Store", "A", "B", "A", "C", "D", "E", "F"], ["A", "B", "C", "D", "E"]),
        (["Store"], ["Store"]),
        (["Store", "Store"], ["Store"]),
        (["<b>", "A", "B"], ["A", "B"]),
        (["Store", "x" * 61, "y" * 60], ["y" * 60]),
        (["Store", "A  &amp;\tB"], ["A & B"]),
        ([], []),
    ],
)
def test_categories(tmp_path: Path, categories: list[str], expected: list[str]) -> None:
    meta = json.dumps({"asin": "1", "category": categories}).encode()
    items = read_all(write(tmp_path, "2018", meta=meta), "amazon").items
    assert items["categories"].to_list() == [expected]


@pytest.mark.parametrize(
    ("description", "brand", "expected"),
    [
        (
            "A magazine for everyone who reads. It is monthly.",
            "",
            "A magazine for everyone who reads",
        ),
        ("No. 1 in the field of sums. More", "", "No. 1 in the field of sums"),
        ("a" * 100, "", "a" * 80),
        ("four " * 14 + "four, " + "long" * 10, "", ("four " * 15).strip()),
        ("<style>p {}</style><b>Bold</b> word", "", "Bold word"),
        ("3 < 4 and so on", "", "3 < 4 and so on"),
        ("<br> - ", "F&amp;W", "F&W, Arts"),
        ("", "Visit Amazon's Jane Doe Page", "Jane Doe, Arts"),
        ("", "", None),
    ],
)
def test_about(tmp_path: Path, description: str, brand: str, expected: str | None) -> None:
    item = {"asin": "1", "category": ["Store", "Arts"], "description": [description]}
    meta = json.dumps(item | {"brand": brand}).encode()
    items = read_all(write(tmp_path, "2018", meta=meta), "amazon").items
    assert items["about"].to_list() == [expected]


def test_blocks_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_all(write(tmp_path, "2014"), "amazon")
    for size in (1, 7, 100):
        monkeypatch.setattr(json_lines, "BLOCK_BYTES", size)
        for one, other in zip(expected, read_all(tmp_path, "amazon"), strict=True):
            assert one.equals(other)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "LINE_BYTES", 1000)
    message = error(write(tmp_path, "2018", meta=META_2018[0] + b"\n" + b"x" * 2000))
    assert message == "meta_Gift_Cards.json.gz: row 2 is longer than 1000 bytes"


def test_byte_order_mark_and_byte_that_is_no_text(tmp_path: Path) -> None:
    reviews = b"\xef\xbb\xbf" + REVIEWS_2018[0] + b"\n\xff\n"
    ratings, _, faults = read_all(write(tmp_path, "2018", reviews=reviews), "amazon")
    assert (ratings["row"].to_list(), faults["row"].to_list()) == ([1], [2])


@pytest.mark.parametrize("name", ["Gift_Cards_5.json.gz", "meta_Gift_Cards.json.gz"])
@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped", "tail", "empty", "blank"])
def test_damaged_file(tmp_path: Path, name: str, damage: str) -> None:
    path = write(tmp_path, "2018") / name
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-20],
            "not gzip": b'{"asin": "1"}\n',
            "flipped": whole[:-8] + b"\0\0\0\0" + whole[-4:],
            "tail": whole + b"more",
            "empty": b"",
            "blank": gzip.compress(b"\n \n"),
        }[damage]
    )
    message = error(tmp_path)
    assert message.startswith(f"{name}: ")
    assert "cannot be read" in message or "the file is empty" in message


def test_which_files_are_missing_or_too_many(tmp_path: Path) -> None:
    assert "no Amazon reviews (found none); expected the reviews and the" in error(tmp_path)
    folder = write(tmp_path, "2018")
    (folder / "README.txt").write_text("not read")
    write(folder, "2014")
    assert "Gift_Cards_5.json.gz" in error(folder)
    assert "expected the reviews and the metadata of one category" in error(folder)
    for name in LAYOUTS["2014"]:
        (folder / name).unlink()
    (folder / "Gift_Cards.json.gz").write_bytes(b"")
    assert "found Gift_Cards.json.gz, Gift_Cards_5.json.gz, meta_Gift" in error(folder)
    (folder / "Gift_Cards.json.gz").unlink()
    (folder / "meta_Gift_Cards.json.gz").unlink()
    assert "the file meta_Gift_Cards.json.gz is missing" in error(folder)
    write(folder, "2018")
    (folder / "Gift_Cards_5.json.gz").unlink()
    assert "no Amazon reviews (found meta_Gift_Cards.json.gz)" in error(folder)


def test_an_unpacked_copy_is_passed_over(tmp_path: Path) -> None:
    (write(tmp_path, "2018") / "Gift_Cards_5.json").write_bytes(b"half")
    assert len(read_all(tmp_path, "amazon").ratings) == 2


def check_complete(text: bytes, read: pl.DataFrame, faults: pl.DataFrame) -> None:
    """Every line that is not blank is in one of the relations, once."""
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [i for i, line in enumerate(lines, 1) if line.decode(errors="replace").strip()]
    assert sorted(read["row"].to_list() + faults["row"].to_list()) == rows


@st.composite
def mangled(draw: st.DrawFn, text: bytes) -> bytes:
    """`text` with some bytes replaced, inserted, cut out or doubled."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 1, 1, 5, 100])))
        new = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [b"\n", b"'", b'"', b"\\", b"{", b"}", b"[", b"\r", b"\xc2\x85", b"\0"]
            )
            | st.just(text[start:end] * 2)
        )
        text = text[:start] + new + text[end:]
    return text


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60)
@given(data=st.data())
def test_no_line_is_lost_however_it_is_mangled(layout: str, data: st.DataObject) -> None:
    names = list(LAYOUTS[layout])
    texts = [data.draw(mangled(b"\n".join(LAYOUTS[layout][name]))) for name in names]
    with TemporaryDirectory() as folder:
        for name, text in zip(names, texts, strict=True):
            (Path(folder) / name).write_bytes(gzip.compress(text))
        try:
            relations = read_all(Path(folder), "amazon")
        except RecError as problem:
            assert "\n" not in str(problem)
            return
    for text, relation, read in zip(texts, ("ratings", "items"), relations[:2], strict=True):
        check_complete(text, read, relations.faults.filter(pl.col("relation") == relation))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_mangled_gzip_is_an_error_or_whole(layout: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        paths = [write(Path(folder), layout) / name for name in LAYOUTS[layout]]
        path = data.draw(st.sampled_from(paths))
        path.write_bytes(data.draw(mangled(path.read_bytes())))
        try:
            ratings, items, faults = read_all(Path(folder), "amazon")
        except RecError as problem:
            assert "\n" not in str(problem) and path.name in str(problem)
            return
    lines = list(LAYOUTS[layout].values())
    assert faults.is_empty()
    assert (len(ratings), len(items)) == (len(lines[0]), len(lines[1]))


def real(name: str) -> Relations:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is absent (set REC_SHARED_DATA to the folder above it)")
    return read_all(SHARED / name, "amazon")


def counted(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The reviews and the metadata, read with nothing but the standard library."""
    files = sorted((SHARED / name).iterdir(), key=lambda path: path.name.startswith("meta_"))
    texts = [gzip.decompress(path.read_bytes()) for path in files]
    reviews, meta = ([json.loads(line) for line in text.splitlines()] for text in texts)
    return reviews, meta


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("gift_cards", (2_972, 458, 148, 1_547, 1_547, 0)),
        ("magazine_subscriptions", (2_375, 348, 157, 3_385, 2_320, 6)),
    ],
)
def test_the_real_sets(name: str, numbers: tuple[int, ...]) -> None:
    ratings, items, faults = real(name)
    bare = set(ratings["item"]) - set(items["item"])
    counts = (len(ratings), ratings["user"].n_unique(), ratings["item"].n_unique())
    assert (*counts, len(items), items["item"].n_unique(), len(bare)) == numbers
    assert faults.is_empty()
    reviews, meta = counted(name)
    keys = ("reviewerID", "asin", "overall", "unixReviewTime")
    assert values(ratings, "user", "item", "rating", "timestamp") == [
        tuple(str(review[key]) for key in keys) for review in reviews
    ]
    assert values(items, "item", "title") == [(item["asin"], item["title"]) for item in meta]


def test_the_real_magazines_can_be_told_apart() -> None:
    """Titles are fragments of HTML; nearly every such item has something to stand in for it."""
    items = real("magazine_subscriptions").items
    html = items.filter(pl.col("title").str.starts_with("<"))
    assert len(html) > 2_000
    assert html["about"].null_count() < 0.02 * len(html)
    shown = items.select(pl.col("about").drop_nulls())["about"]
    assert not shown.str.contains(r"<\w|&amp;|\s\s|^\s|\s$").any()
    assert shown.str.len_chars().max() == 80
    categories = items["categories"].explode(empty_as_null=True).drop_nulls()
    assert not categories.str.contains("<|&amp;").any()
    assert "Arts, Music & Photography" in set(categories)
