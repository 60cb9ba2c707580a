"""Text of strangers to text that any reader takes: one record a line, at its number in the file.

Line ends of all kinds become line feeds. The fields of a record are parted by SEPARATOR, without
quotes, and a record that runs over several lines leaves blank ones behind, so that the number of a
line stays what it was. A line that is no text or no record becomes blank, and a fault.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import polars as pl

from rec.datasets.files import (
    CHUNK_BYTES,
    UNPARSEABLE,
    UNREADABLE,
    WRONG_ENCODING,
    Found,
    open_unpacked,
    unreadable,
    work_path,
)
from rec.errors import RecError

#: Between the fields of a record; a line of a file that has it, or a NUL, is no text.
SEPARATOR = "\x1f"
NO_TEXT = (b"\x00", SEPARATOR.encode())
LINE_BYTES = 1 << 26  # a longer line ends the reading
RECORD_LINES, RECORD_BYTES = 1000, 1 << 20  # a record with quotes may take no more
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

#: What takes the faults of a file: rows of reason, line and value.
Faults = Callable[[list[tuple[str, int, str]]], None]


@dataclass
class Records:
    """What a file was turned into."""

    path: Path  # Parquet: the number and the text of each line that is not blank
    lines: int = 0  # of the file, blank ones too
    header: list[str] = field(default_factory=list)  # names of the fields; none without separator
    header_line: int = 0


def normalise(found: Found, work: Path, separator: str, faults: Faults) -> Records:
    """Write the file's records to `work`; `separator` parts fields, "" leaves lines as they are.

    Quotes hold line ends in CSV alone: with tabs, a line is a record, and its quotes are text where
    they do not stand around a field. Raises RecError for a file that cannot be read as UTF-8.
    """
    work.mkdir(parents=True, exist_ok=True)
    text = work_path(work, found.name, ".records")
    writer = _Writer(found.name, separator, work_path(work, found.name, ".records.parquet"))
    try:
        with open_unpacked(found.path) as file, text.open("wb") as out:
            left = b""
            for block, last in _blocks(file, found.name):
                converted, left = writer.convert(left + block, last)
                out.write(converted)
                if writer.faults:
                    faults(writer.faults)
                    writer.faults = []
    except UNREADABLE as error:
        raise unreadable(found.name, error) from error
    if not writer.records.lines or (separator and not writer.records.header):
        raise RecError(f"{found.name}: the file is empty")
    _to_parquet(text, writer.records.path)
    return writer.records


def _to_parquet(text: Path, path: Path) -> None:
    """Number the lines, so that their order no longer matters."""
    (
        pl.scan_lines(text, glob=False)
        .with_row_index("row", 1)
        .filter(pl.col("line").str.strip_chars(" \t") != "")
        .with_columns(pl.col("row").cast(pl.Int64))
        .sink_parquet(path, compression="lz4")
    )
    text.unlink()


def _blocks(file: BinaryIO, name: str) -> Iterator[tuple[bytes, bool]]:
    """Whole lines, each with a line feed at its end, and whether they are the last ones."""
    left, start = b"", True
    while chunk := file.read(CHUNK_BYTES):
        while chunk.endswith(b"\r") and (more := file.read(1)):
            chunk += more
        if start and chunk.startswith(UTF_16):
            raise RecError(f"{name}: UTF-16 text; convert the file to UTF-8")
        chunk = chunk.removeprefix(codecs.BOM_UTF8) if start else chunk
        start = False
        text = left + chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = text.rfind(b"\n") + 1
        left = text[end:]
        if len(left) > LINE_BYTES:
            raise RecError(f"{name}: a line has more than {LINE_BYTES} bytes; is this a table?")
        if end:
            yield text[:end], False
    yield left + b"\n" if left else b"", True


class _Writer:
    """Turns blocks of a file into lines, and keeps count of them."""

    def __init__(self, name: str, separator: str, path: Path) -> None:
        self.name = name
        self.separator = separator
        self.records = Records(path)
        self.faults: list[tuple[str, int, str]] = []

    def convert(self, block: bytes, last: bool) -> tuple[bytes, bytes]:
        """The lines of a block, and what is left of it: a record that does not end in it."""
        text = self._text(block)
        left = b""
        if self.separator and b'"' in text:
            text, left = self._quoted(text.split(b"\n")[:-1], last)
        elif self.separator:
            text = text.replace(self.separator.encode(), SEPARATOR.encode())
            lines = text.split(b"\n") if not self.records.header else []
            for i, line in enumerate(lines[:-1]):
                self._header(line, i)
        self._require_header()
        self.records.lines += text.count(b"\n")
        return text, left

    def _require_header(self) -> None:
        """Raise RecError where a line that should name the columns is faulty."""
        reason, line, _ = min(self.faults, key=lambda fault: fault[1], default=("", 0, ""))
        header = self.records.header_line or line + 1
        if self.separator and reason and line < header:
            raise RecError(
                f"{self.name}: line {line}: no names of columns ({reason}); is this UTF-8 text?"
            )

    def _text(self, block: bytes) -> bytes:
        """The block, its lines that are no text made blank and counted as faults."""
        if not any(byte in block for byte in NO_TEXT) and _decodes(block):
            return block
        lines = block.split(b"\n")[:-1]
        for i, line in enumerate(lines):
            reason = ""
            if not _decodes(line):
                reason = WRONG_ENCODING
            elif any(byte in line for byte in NO_TEXT):
                reason = UNPARSEABLE
            if reason:
                self._fault(reason, self.records.lines + i + 1, line)
                lines[i] = b""
        return b"\n".join(lines) + b"\n"

    def _fault(self, reason: str, line: int, value: bytes) -> None:
        self.faults.append((reason, line, value.decode("utf-8", "replace")))

    def _header(self, record: bytes, before: int) -> None:
        """Take the names of the fields from the first record that is not blank."""
        if not self.records.header and record.strip(b" \t"):
            self.records.header = [name.strip() for name in record.decode().split(SEPARATOR)]
            self.records.header_line = self.records.lines + before + 1

    def _quoted(self, lines: Sequence[bytes], last: bool) -> tuple[bytes, bytes]:
        """Lines with quotes among them as records, and the lines that are left."""
        plain, rare = self.separator.encode(), SEPARATOR.encode()
        out: list[bytes] = []
        while len(out) < len(lines):
            line = lines[len(out)]
            if b'"' not in line:
                out.append(line.replace(plain, rare))
                self._header(out[-1], len(out) - 1)
                continue
            size, record = self._record(lines, len(out))
            if record is None and size and not last:
                break
            if record is None:
                self._fault(UNPARSEABLE, self.records.lines + len(out) + 1, line)
                out.append(b"")
                continue
            self._header(record.encode(), len(out))
            out += [record.encode()] + [b""] * (size - 1)
        left = b"".join(line + b"\n" for line in lines[len(out) :])
        return b"".join(line + b"\n" for line in out), left

    def _record(self, lines: Sequence[bytes], start: int) -> tuple[int, str | None]:
        """How many lines the record at `start` takes, and the record.

        None where there is none; then the number is not 0 if it may go on after these lines.
        """
        if self.separator == "\t":
            row = lines[start].decode()
            return 1, SEPARATOR.join(_parse([row], "\t") or row.split("\t"))
        text: list[str] = []
        size = 0
        for line in lines[start : start + RECORD_LINES]:
            size += len(line)
            if size > RECORD_BYTES:
                return 0, None
            text.append(line.decode())
            if b'"' not in line:
                continue
            fields = _parse(text, self.separator)
            if fields is None:
                return 0, None
            if fields:
                whole = len(text) == 1 or len(fields) == len(self.records.header or fields)
                return (len(text), SEPARATOR.join(fields)) if whole else (0, None)
        return len(text) if start + len(text) == len(lines) else 0, None


def _parse(lines: list[str], separator: str) -> list[str] | None:
    """The fields of a record: none while a quote is open, None where its quotes are wrong."""
    try:
        records = list(csv.reader([f"{s}\n" for s in lines], delimiter=separator, strict=True))
    except csv.Error as error:
        return [] if "unexpected end of data" in str(error) else None
    return [text.replace("\n", " ").replace("\r", " ") for text in records[0]]


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
