"""MovieLens in the layouts in which it is published.

| layout | files | text |
| --- | --- | --- |
| RecBole's atomic files | X.inter, X.item: tabs, typed header | UTF-8 |
| ML-100k | u.data: tabs; u.item: bars, 19 flags for genres | latin-1 |
| ML-1M | ratings.dat, movies.dat: double colons | latin-1 |

The layout follows from the files in the folder, which may lie in an archive or in a subfolder.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rec.errors import RecError

#: The flags of u.item in their order (the archive's u.genre).
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
#: Articles that titles carry at their end, in the languages of the data; then one without a space.
ARTICLES = (
    "The|A|An|La|Le|Les|Lo|El|Los|Las|Il|I|Gli|Un|Une|Una|Der|Die|Das|Ein|Eine|Det|Den|De|O|Os"
)
ELIDED = "L'"
RATING_FIELDS = ("user", "item", "rating", "timestamp")
EXPECTED = "X.inter and X.item, u.data and u.item, ratings.dat and movies.dat, or a zip with them"


@dataclass(frozen=True)
class Source:
    """One published file: a path, or a member of the archive at that path."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def text(self, encoding: str) -> str:
        """The file's whole text."""
        try:
            if not self.member:
                return self.path.read_bytes().decode(encoding)
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.member).decode(encoding)
        except UnicodeDecodeError as error:
            raise RecError(f"{self}: not {encoding} text at byte {error.start}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise RecError(f"{self}: cannot be read ({error})") from error


def read(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a folder in any of the layouts: (ratings, items), schemas RATINGS and ITEMS.

    Titles have their article in front, and no year. Raises RecError with file, row and value.
    """
    sources = _sources(folder)
    atomic = sorted(name for name in sources if name.endswith(".inter"))
    if len(atomic) > 1:
        raise RecError(f"{folder}: more than one file of ratings: {', '.join(atomic)}")
    if atomic:
        films = _required(sources, atomic[0].removesuffix(".inter") + ".item", folder)
        return _ratings(_atomic_ratings(sources[atomic[0]])), _items(_atomic_items(films))
    if "ratings.dat" in sources or "movies.dat" in sources:
        ratings, films = (_required(sources, f"{n}.dat", folder) for n in ("ratings", "movies"))
        return _ratings(_table(ratings, "latin-1", "::", RATING_FIELDS)), _items(_ml_1m(films))
    if "u.data" in sources or "u.item" in sources:
        ratings, films = (_required(sources, f"u.{n}", folder) for n in ("data", "item"))
        return _ratings(_table(ratings, "latin-1", "\t", RATING_FIELDS)), _items(_ml_100k(films))
    raise RecError(f"{folder}: no MovieLens files; expected {EXPECTED}")


def _sources(folder: Path) -> dict[str, Source]:
    """The published files by their bare name."""
    sources: dict[str, Source] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix != ".zip":
            sources.setdefault(path.name, Source(path))
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.namelist() if not member.endswith("/")]
        except (zipfile.BadZipFile, OSError) as error:
            raise RecError(f"{path}: not a whole zip archive ({error}); fetch it again") from error
        for member in members:
            sources.setdefault(Path(member).name, Source(path, member))
    return sources


def _required(sources: dict[str, Source], name: str, folder: Path) -> Source:
    if name not in sources:
        raise RecError(f"{folder}: the file {name} is missing; found {', '.join(sources)}")
    return sources[name]


def _table(
    source: Source, encoding: str, separator: str, fields: Sequence[str], skip: int = 0
) -> pl.DataFrame:
    """The fields of each line as text (empty ones null), with the columns `row` and `source`."""
    lines = (
        pl.DataFrame({"line": [source.text(encoding)]})
        .select(pl.col("line").str.split("\n").explode())
        .with_row_index("row", offset=1)
        .with_columns(pl.col("line").str.strip_chars_end("\r"))
        .filter((pl.col("line").str.strip_chars() != "") & (pl.col("row") > skip))
    )
    if lines.is_empty():
        raise RecError(f"{source}: the file is empty")
    count = pl.col("line").str.count_matches(separator, literal=True) + 1
    wrong = lines.filter(count != len(fields)).head(1)
    if len(wrong):
        row, line = wrong.row(0)
        raise RecError(
            f"{source}: row {row}: {line[:80]!r} has {line.count(separator) + 1} fields; expected"
            f" {len(fields)}: {', '.join(fields[:5])}{', ...' if len(fields) > 5 else ''}"
        )
    parts = pl.col("line").str.split_exact(separator, len(fields) - 1).struct
    text = [parts.field(f"field_{i}").replace("", None).alias(f) for i, f in enumerate(fields)]
    return lines.select("row", pl.lit(str(source)).alias("source"), *text)


def _ratings(table: pl.DataFrame) -> pl.DataFrame:
    def number(name: str) -> pl.Expr:
        return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)

    for name in ("rating", "timestamp"):
        unreadable = pl.col(name).is_not_null() & ~number(name).is_finite().fill_null(False)
        wrong = table.filter(unreadable).head(1)
        if len(wrong):
            source, row, value = wrong.select("source", "row", name).row(0)
            raise RecError(f"{source}: row {row}: {name} {value[:80]!r} is not a number")
    return table.select(
        "user",
        "item",
        number("rating").cast(pl.Float32),
        number("timestamp").cast(pl.Int64, strict=False),
    )


def _items(table: pl.DataFrame) -> pl.DataFrame:
    """From item, title, year (text or null) and categories to the schema ITEMS."""
    ending = r"\s*\((\d{4})\)\s*(?:\((?:V|TV)\))?\s*$"
    title = pl.col("title").str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()
    year = pl.col("year").str.extract(r"^\s*(\d{4})\s*$")
    unknown = pl.col("title") == "unkonwn"  # so spelt in the atomic files, for the title unknown
    return (
        table.with_columns(title)
        .with_columns(year=pl.coalesce(year, pl.col("title").str.extract(ending)).cast(pl.Int32))
        .with_columns(title=article_first(pl.col("title").str.replace(ending, "")))
        .select(
            "item",
            title=pl.when(unknown).then(pl.lit("unknown")).otherwise("title"),
            year="year",
            categories=pl.col("categories")
            .fill_null([])
            .list.filter(~pl.element().is_in(["", "unknown"])),
        )
    )


def article_first(title: pl.Expr) -> pl.Expr:
    """Move the article from the end of a title, and of each title in parentheses, to its front.

    "Tin Drum, The (Blechtrommel, Die)" becomes "The Tin Drum (Die Blechtrommel)".
    """
    title = title.str.replace_all(r"\s+\)", ")")
    for articles, space in ((ARTICLES, " "), (ELIDED, "")):
        title = title.str.replace(
            rf"^([^()]+), ({articles})(\s*\(|$)", f"${{2}}{space}${{1}}${{3}}"
        ).str.replace_all(rf"\(([^()]+), ({articles})\)", f"(${{2}}{space}${{1}})")
    return title


def _atomic_columns(source: Source, wanted: Sequence[str]) -> pl.DataFrame:
    header = source.text("utf-8-sig").partition("\n")[0].rstrip("\r")
    if not header:
        raise RecError(f"{source}: the file is empty")
    fields = [field.partition(":")[0] for field in header.split("\t")]
    for name in wanted:
        if name not in fields:
            raise RecError(f"{source}: row 1: no column {name!r}; found {', '.join(fields)}")
    return _table(source, "utf-8-sig", "\t", fields, skip=1).select("row", "source", *wanted)


def _atomic_ratings(source: Source) -> pl.DataFrame:
    columns = ("user_id", "item_id", "rating", "timestamp")
    return _atomic_columns(source, columns).rename({"user_id": "user", "item_id": "item"})


def _atomic_items(source: Source) -> pl.DataFrame:
    names = {"item_id": "item", "movie_title": "title", "release_year": "year"}
    table = _atomic_columns(source, (*names, "class")).rename(names)
    return table.with_columns(categories=pl.col("class").str.split(" "))


def _ml_1m(source: Source) -> pl.DataFrame:
    table = _table(source, "latin-1", "::", ("item", "title", "genres"))
    return table.with_columns(
        year=pl.lit(None, pl.String), categories=pl.col("genres").str.split("|")
    )


def _ml_100k(source: Source) -> pl.DataFrame:
    fields = ("item", "title", "date", "video_date", "address", *GENRES)
    table = _table(source, "latin-1", "|", fields)
    wrong = table.filter(~pl.all_horizontal(pl.col(GENRES).is_in(["0", "1"]).fill_null(False)))
    if len(wrong):
        row, item = wrong.select("row", "item").row(0)
        raise RecError(f"{source}: row {row}: item {item!r} has a genre flag other than 0 and 1")
    genre = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in GENRES]
    return table.with_columns(
        year=pl.lit(None, pl.String), categories=pl.concat_list(genre).list.drop_nulls()
    )
