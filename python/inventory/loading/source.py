# SPDX-License-Identifier: Apache-2.0
"""Files of stock figures, read in chunks of bounded size.

CSV is RFC 4180 with a header line: UTF-8 (a byte order mark is skipped), lines end in LF or CRLF,
fields may be quoted and then hold newlines; empty lines are skipped. A chunk is a block of bytes
that ends with a row. A block whose quotes are all well placed is parsed by pyarrow in one go; one
with a quote out of place, or a NUL, is read row by row with the csv module (strict), which can say
which line is at fault and go on with the next. Blocks that both can read mean the same to both: a
line does not depend on its neighbours.

Parquet: a chunk is a batch of rows; "line" numbers are row numbers counted from 1.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from inventory.loading.check import BadRow, is_utf8

__all__ = [
    "Chunk",
    "Columns",
    "CsvSource",
    "Identity",
    "ParquetSource",
    "Position",
    "Source",
    "SourceUnusable",
    "open_source",
    "shown_path",
]

BLOCK_BYTES = 1 << 20  # of CSV: about 65,536 rows of 16 bytes
BATCH_ROWS = 65_536  # of Parquet
LINE_BYTES_MAX = 1 << 20

_QUOTE, _NEWLINE, _RETURN = 34, 10, 13
_HAS_NUL = "line contains NUL"  # what csv says before Python 3.11; later it takes them
_BOM = b"\xef\xbb\xbf"

Numbers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


class SourceUnusable(ValueError):
    """The file as a whole is not what it should be; the text says why."""


class Columns(msgspec.Struct, frozen=True):
    """Names of the columns in the file."""

    sku: str = "sku"
    location: str = "location"
    on_hand: str = "on_hand"

    def names(self) -> tuple[str, str, str]:
        return self.sku, self.location, self.on_hand


class Identity(msgspec.Struct, frozen=True):
    """What tells one file from another, and from itself after a change."""

    path: str
    size_bytes: int
    mtime_ns: int


class Position(msgspec.Struct, frozen=True):
    """Where to go on: `offset` bytes into a CSV, or rows into a Parquet file; `line` is the number
    of the line (or row) that begins there."""

    offset: int = 0
    line: int = 0


class Chunk(msgspec.Struct):
    """Rows read, as Arrow arrays of equal length. `lines` are the numbers of their lines."""

    sku: Any
    location: Any
    on_hand: Any
    lines: Numbers
    bad: list[BadRow]  # lines that are no rows at all
    end: Position


class Source(Protocol):
    """A file being read. `identity` is None for a pipe: nothing can go on in the middle of one."""

    identity: Identity | None
    total: int  # bytes of a CSV, rows of a Parquet file; 0 if not known

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """Read from `start`, or from the beginning."""
        ...

    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was opened."""
        ...

    def close(self) -> None: ...


def open_source(
    path: str, columns: Columns, *, delimiter: str = ",", stdin: BinaryIO | None = None
) -> Source:
    """Open the file at `path`: Parquet if its name ends so or it begins so, else CSV.

    Raises:
        SourceUnusable: not readable as what it is, or without the columns. OSError.
    """
    if stdin is not None:
        return CsvSource(stdin, None, columns, delimiter)
    file = open(path, "rb")  # noqa: SIM115 - the source closes it
    try:
        is_parquet = file.read(4) == b"PAR1"
        file.seek(0)
        if is_parquet or path.endswith(".parquet"):
            return ParquetSource(file, columns)
        return CsvSource(file, _identity(file), columns, delimiter)
    except BaseException:
        file.close()
        raise


def _identity(file: BinaryIO) -> Identity:
    status = os.fstat(file.fileno())
    path = shown_path(os.path.realpath(file.name))
    return Identity(path, status.st_size, status.st_mtime_ns)


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed and kept: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_unchanged(file: BinaryIO, identity: Identity | None) -> bool:
    return identity is None or _identity(file) == identity


def _positions(header: list[str], columns: Columns, what: str) -> list[int]:
    """Where the columns stand in the header."""
    wanted = columns.names()
    if len(set(wanted)) < 3:
        raise SourceUnusable(f"columns: {', '.join(wanted)}: each must be another one")
    for name in wanted:
        if header.count(name) != 1:
            found = "is there more than once" if name in header else "is not there"
            raise SourceUnusable(
                f"column {name!r} {found} in {what}; its columns are: {', '.join(header) or 'none'}"
            )
    return [header.index(name) for name in wanted]


# ---- CSV ----------------------------------------------------------------------------------------


class CsvSource:
    """A CSV file or pipe."""

    def __init__(
        self, file: BinaryIO, identity: Identity | None, columns: Columns, delimiter: str
    ) -> None:
        self.identity = identity
        self.total = identity.size_bytes if identity else 0
        self._file = file
        self._delimiter = delimiter
        self._data = b""  # read, and not yet part of a chunk
        self._at = Position(0, 1)  # where _data begins
        self._is_at_end = False
        header = self._read_header()
        self._indexes = _positions(header, columns, "the header")
        self._width = len(header)

    def is_unchanged(self) -> bool:
        return _is_unchanged(self._file, self.identity)

    def close(self) -> None:
        self._file.close()

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        if start is not None:
            self._file.seek(start.offset)
            self._data, self._at, self._is_at_end = b"", start, False
        while self._fill(BLOCK_BYTES):
            chunk = self._well_formed_chunk()
            yield chunk if chunk is not None else self._odd_chunk()

    def _fill(self, wanted_bytes: int) -> bool:
        """Read on until so many bytes are at hand or the file ends; say whether any are."""
        while not self._is_at_end and len(self._data) < wanted_bytes:
            more = self._file.read(wanted_bytes - len(self._data))
            self._data += more
            self._is_at_end = not more
        return bool(self._data)

    def _take(self, size_bytes: int, line_count: int) -> None:
        self._data = self._data[size_bytes:]
        self._at = Position(self._at.offset + size_bytes, self._at.line + line_count)

    def _read_header(self) -> list[str]:
        self._fill(BLOCK_BYTES)
        if self._data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise SourceUnusable("the file is UTF-16; write it as UTF-8")
        if self._data.startswith(_BOM):
            self._take(len(_BOM), 0)
        if not self._data:
            raise SourceUnusable("the file is empty: not even a header line")
        feed = _Lines(self)
        try:
            header = next(csv.reader(feed, delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            raise SourceUnusable(f"the header line is no CSV: {error}") from None
        self._take(feed.taken_bytes, feed.taken_lines)
        return [_printable(name) for name in header]

    def _well_formed_chunk(self) -> Chunk | None:
        """Parse a block in one go; None if a quote is out of place, a NUL in it, or the parser
        counts otherwise.

        Rows end at newlines outside quotes: those with an even number of quotes before them.
        """
        if b"\0" in self._data:
            return None
        block = np.frombuffer(self._data, np.uint8)
        newlines = np.flatnonzero(block == _NEWLINE)
        row_ends, first_lines = newlines, np.arange(len(newlines) + 1)
        has_quotes = b'"' in self._data
        if has_quotes:
            is_quote = block == _QUOTE
            count = np.cumsum(is_quote, dtype=np.uint8)  # wraps, and stays even or odd
            is_inside = count % 2 == 1
            if not _quotes_are_well_placed(block, is_quote, is_inside, ord(self._delimiter)):
                return None
            outside = np.flatnonzero(~is_inside[newlines])
            row_ends, first_lines = newlines[outside], np.concatenate(([0], outside + 1))
        if self._is_at_end and self._data[-1] != _NEWLINE:
            row_ends = np.append(row_ends, len(block))
        if len(row_ends) == 0:
            return None
        cut = min(int(row_ends[-1]) + 1, len(block))
        block = block[:cut]
        row_starts = np.concatenate(([0], row_ends[:-1] + 1))
        lengths = row_ends - row_starts
        is_row = (lengths > 1) | ((lengths == 1) & (block[row_starts] != _RETURN))
        lines = first_lines[: len(row_ends)] + self._at.line
        parsed = self._parse(self._data[:cut], len(row_ends), has_quotes)
        if parsed is None:
            return None
        table, misshapen = parsed
        is_shaped = np.ones(len(row_ends), bool)
        is_shaped[[number for number, _ in misshapen]] = False
        bad = [self._misshapen(int(lines[number]), count) for number, count in misshapen]
        keep = is_row[is_shaped]
        if not keep.all():
            table = table.filter(pyarrow.array(keep))
        sku, location, on_hand = (table[f"f{index}"].combine_chunks() for index in self._indexes)
        self._take(cut, int(np.searchsorted(newlines, cut)))
        return Chunk(sku, location, on_hand, lines[is_shaped][keep], bad, self._at)

    def _parse(
        self, block: bytes, row_count: int, has_quotes: bool
    ) -> tuple[Any, list[tuple[int, int]]] | None:
        """The rows as bytes, and (index, fields found) of those with too few or too many."""
        misshapen: list[tuple[int, int]] = []

        def note(row: Any) -> str:
            misshapen.append((row.number - 1, row.actual_columns))
            return "skip"

        names = [f"f{index}" for index in range(self._width)]
        try:
            table = pyarrow.csv.read_csv(
                pyarrow.BufferReader(block),
                pyarrow.csv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1, column_names=names
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter,
                    quote_char='"' if has_quotes else False,
                    newlines_in_values=has_quotes,
                    ignore_empty_lines=False,
                    # It is given the row as text: without it such a block is an error.
                    invalid_row_handler=note if is_utf8(block) else None,
                ),
                pyarrow.csv.ConvertOptions(
                    check_utf8=False,
                    strings_can_be_null=False,
                    include_columns=[names[index] for index in self._indexes],
                    column_types=dict.fromkeys(names, pyarrow.binary()),
                ),
            )
        except (pyarrow.ArrowInvalid, UnicodeDecodeError):
            return None
        return (table, misshapen) if table.num_rows + len(misshapen) == row_count else None

    def _misshapen(self, line: int, field_count: int) -> BadRow:
        return BadRow(line, f"{field_count} fields, the header has {self._width}")

    def _odd_chunk(self) -> Chunk:
        """Read a block row by row; a row that is no CSV is a bad line, and the next line a row."""
        end = self._data.rfind(b"\n") + 1 or len(self._data)
        rows: list[list[bytes]] = []
        lines: list[int] = []
        bad: list[BadRow] = []
        feed = _Lines(self)
        reader = csv.reader(feed, delimiter=self._delimiter, strict=True)
        while feed.taken_bytes < end:
            line, before = self._at.line + feed.taken_lines, feed.mark()
            try:
                row = next(reader, None)
            except csv.Error as error:
                feed.back_to(before)
                feed.take()
                reader = csv.reader(feed, delimiter=self._delimiter, strict=True)
                bad.append(BadRow(line, f"no CSV: {error}"))
                continue
            if row is None:
                break
            if len(row) == self._width:
                rows.append([row[i].encode("utf-8", "surrogateescape") for i in self._indexes])
                lines.append(line)
            elif row:
                bad.append(self._misshapen(line, len(row)))
        self._take(feed.taken_bytes, feed.taken_lines)
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        sku, location, on_hand = (pyarrow.array(column, pyarrow.binary()) for column in columns)
        return Chunk(sku, location, on_hand, np.array(lines, np.int64), bad, self._at)


def _quotes_are_well_placed(
    block: npt.NDArray[np.uint8], is_quote: _Mask, is_inside: _Mask, delimiter: int
) -> bool:
    """Whether each quote opens at the start of a field or closes at its end, or is one of a pair.

    A quote after which one is inside has opened. Before an opening and after a closing one stands
    a delimiter, the end of a line, or the other quote of a pair.
    """
    at = np.flatnonzero(is_quote)
    opens = is_inside[at]
    padded = np.concatenate(([_NEWLINE], block, [_NEWLINE]))
    before, after = padded[at[opens]], padded[at[~opens] + 2]
    ends = (_NEWLINE, delimiter, _QUOTE)
    return bool(np.isin(before, ends).all() and np.isin(after, (*ends, _RETURN)).all())


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _Lines:
    """The lines at the head of a source, for the csv module; nothing is taken from the source."""

    def __init__(self, source: CsvSource) -> None:
        self._source = source
        self.taken_bytes = 0
        self.taken_lines = 0

    def mark(self) -> tuple[int, int]:
        return self.taken_bytes, self.taken_lines

    def back_to(self, mark: tuple[int, int]) -> None:
        self.taken_bytes, self.taken_lines = mark

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.take()
        if b"\0" in line:
            raise csv.Error(_HAS_NUL)
        return line.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """The next line, whatever is in it."""
        source = self._source
        end = source._data.find(b"\n", self.taken_bytes) + 1
        if end == 0:
            source._fill(self.taken_bytes + LINE_BYTES_MAX)
            end = source._data.find(b"\n", self.taken_bytes) + 1
        if end == 0:
            end = len(source._data)
            if end - self.taken_bytes >= LINE_BYTES_MAX:
                raise SourceUnusable(
                    f"line {source._at.line + self.taken_lines:,} is longer than "
                    f"{LINE_BYTES_MAX:,} bytes: is this CSV?"
                )
        if end == self.taken_bytes:
            raise StopIteration
        line = source._data[self.taken_bytes : end]
        self.taken_bytes, self.taken_lines = end, self.taken_lines + 1
        return line


# ---- Parquet ------------------------------------------------------------------------------------


class ParquetSource:
    """A Parquet file."""

    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        self.identity: Identity | None = _identity(file)
        self._file = file
        self._columns = list(columns.names())
        try:
            self._parquet = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise SourceUnusable(f"the file is no Parquet: {error}") from None
        schema = self._parquet.schema_arrow
        _positions(schema.names, columns, "the file")
        for name, allowed in zip(self._columns, (_NAMES, _NAMES, _FIGURES), strict=True):
            kind = schema.field(name).type
            if pyarrow.types.is_dictionary(kind):
                kind = kind.value_type
            if not any(check(kind) for check in allowed):
                raise SourceUnusable(f"column {name!r} is of type {kind}, which can't be used")
        self.total = self._parquet.metadata.num_rows

    def is_unchanged(self) -> bool:
        return _is_unchanged(self._file, self.identity)

    def close(self) -> None:
        self._file.close()

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        position = start.offset if start is not None else 0
        metadata = self._parquet.metadata
        group, skip = 0, position
        while group < metadata.num_row_groups and metadata.row_group(group).num_rows <= skip:
            skip -= metadata.row_group(group).num_rows
            group += 1
        batches = self._parquet.iter_batches(
            BATCH_ROWS,
            row_groups=list(range(group, metadata.num_row_groups)),
            columns=self._columns,
            use_threads=False,
        )
        for batch in batches:
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            rows = batch.slice(skip)
            skip = 0
            lines = np.arange(position + 1, position + 1 + rows.num_rows)
            position += rows.num_rows
            sku, location, on_hand = (_plain(rows[name]) for name in self._columns)
            yield Chunk(sku, location, on_hand, lines, [], Position(position, position))


def _plain(array: Any) -> Any:
    """Text and whole numbers used as names as bytes; figures as they are."""
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if any(check(array.type) for check in _TEXTS):
        return array.cast(pyarrow.binary())
    return array


_TEXTS = (
    pyarrow.types.is_string,
    pyarrow.types.is_large_string,
    pyarrow.types.is_string_view,
    pyarrow.types.is_binary,
    pyarrow.types.is_large_binary,
)
_NAMES = (*_TEXTS, pyarrow.types.is_integer)
_FIGURES = (*_TEXTS, pyarrow.types.is_integer, pyarrow.types.is_floating)
