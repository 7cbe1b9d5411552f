# SPDX-License-Identifier: Apache-2.0
"""The import itself: chunk after chunk, differences into the store, progress beside it.

The store is open to this process alone, so a figure read from it stands until it is changed here.
It should be opened with `durability="interval"`: calls then do not wait for the disk one by one;
`barrier` does, each time before progress is written.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

import inventory
from inventory.errors import error_for
from inventory.loading import progress
from inventory.loading.check import BadRow, Rows, checked
from inventory.loading.progress import Progress
from inventory.loading.source import Chunk, Columns, Position, Source, shown_path

__all__ = ["BAD_MAX", "Import", "ImportRefused", "Summary"]

BAD_MAX = 100
PROGRESS_INTERVAL_S = 1.0

_LOCATION_BITS = 16
_T = TypeVar("_T")


class ImportRefused(Exception):
    """The import can't begin or can't go on; `code_name` says why, in one word."""

    def __init__(self, code_name: str, message: str) -> None:
        super().__init__(message)
        self.code_name = code_name


class Summary(msgspec.Struct, frozen=True):
    """What an import did. `rows` and `bad` count from the beginning of the file, `rows_before` are
    those of earlier runs; the rest is of this run. `skus` and `locations` are how many different
    ones its rows named; everything below `lsn` is durable."""

    rows: int
    bad: int
    rows_before: int
    seconds: float
    rows_per_second: int
    skus: int
    locations: int
    lsn: int


class Import:
    """One import of one source into one open store.

    Args:
        inv: open, and used by nobody else meanwhile.
        store: its directory, where the progress is kept.
        bad_max: how many bad rows may be left out; one more ends the import.
        bad_rows: a CSV file to write them to.
        restart: forget the progress of an unfinished import.
        on_bad: called with every bad row. on_chunk: called with the rows read and the position
            (of `source.total`) after every chunk.

    Raises:
        ImportRefused: IMPORT_UNFINISHED, SOURCE_CHANGED.
    """

    def __init__(
        self,
        inv: inventory.Inventory,
        store: Path,
        source: Source,
        columns: Columns,
        *,
        delimiter: str = ",",
        seller: str = "default",
        account: str = "",
        reason: str = "import",
        bad_max: int = BAD_MAX,
        bad_rows: Path | None = None,
        restart: bool = False,
        on_bad: Callable[[BadRow], None] = lambda row: None,
        on_chunk: Callable[[int, int], None] = lambda rows, position: None,
    ) -> None:
        self._inv = inv
        self._store = store
        self._source = source
        self._columns = columns
        self._delimiter = delimiter
        self._seller = seller
        self._actor: dict[str, Any] = {"account": account, "reason": reason, "seller": seller}
        self._bad_max = bad_max
        self._on_bad = on_bad
        self._on_chunk = on_chunk
        self._skus = _Different()
        self._location_names: dict[str, int] = {}
        if restart:
            progress.remove(store)
        found = self._unfinished()
        self._position: Position | None = found.position if found else None
        self._rows = self.rows_before = found.rows if found else 0
        self._bad = found.bad if found else 0
        self._bad_rows = _BadRowsFile(bad_rows, found)
        self._saved_s = time.monotonic()

    def _unfinished(self) -> Progress | None:
        """The progress to go on from; refuse if it is of another import."""
        try:
            found = progress.load(self._store)
        except ValueError as error:
            raise ImportRefused("IMPORT_UNFINISHED", f"{error}; --restart begins anew") from None
        if found is None:
            return None
        what = f"an import of {found.source.path} is unfinished (after line {found.position.line:,}"
        anew = "; --restart forgets it and begins this one from the first row"
        identity = self._source.identity
        if identity is None or identity.path != found.source.path:
            raise ImportRefused("IMPORT_UNFINISHED", f"{what}){anew}")
        if identity != found.source:
            raise ImportRefused("SOURCE_CHANGED", f"{what}), and the file has changed since{anew}")
        same = (self._columns, self._delimiter, self._seller)
        if same != (found.columns, found.delimiter, found.seller):
            raise ImportRefused(
                "IMPORT_UNFINISHED", f"{what}) with other columns or for another seller{anew}"
            )
        return found

    def run(self) -> Summary:
        """Import what is left of the source.

        Raises:
            ImportRefused: TOO_MANY_BAD (nothing of the chunk with the row too many was applied),
                SOURCE_CHANGED (while it was read). InventoryError: the store refused; OSError.

        Durability: everything is on disk when this returns. When it raises, everything before the
        progress that was kept is.
        """
        begin_s = time.monotonic()
        try:
            read = _ahead(_checked(self._source.chunks(self._position)))
            with contextlib.closing(read):  # its thread ends before the source is closed
                for chunk, rows, bad in read:
                    self._import(rows, bad)
                    self._position = chunk.end
                    self._bad_rows.mark()
                    self._on_chunk(self._rows, chunk.end.offset)
                    if time.monotonic() - self._saved_s >= PROGRESS_INTERVAL_S:
                        self._save()
            if not self._source.is_unchanged():
                raise ImportRefused("SOURCE_CHANGED", "the file was changed while it was read")
        except BaseException:
            with contextlib.suppress(inventory.InventoryError, OSError):  # the first error counts
                self._save()
            raise
        finally:
            self._bad_rows.close()
        lsn = self._inv.barrier()
        progress.remove(self._store)
        seconds = time.monotonic() - begin_s
        return Summary(
            rows=self._rows,
            bad=self._bad,
            rows_before=self.rows_before,
            seconds=round(seconds, 3),
            rows_per_second=round((self._rows - self.rows_before) / max(seconds, 1e-3)),
            skus=self._skus.count,
            locations=len(self._location_names),
            lsn=lsn,
        )

    def _save(self) -> None:
        """Keep the progress, once everything before it is durable. A pipe has none."""
        if self._position is None or self._source.identity is None:
            return
        self._inv.barrier()
        path, size_bytes = self._bad_rows.sync()
        progress.save(
            self._store,
            Progress(
                source=self._source.identity,
                columns=self._columns,
                delimiter=self._delimiter,
                seller=self._seller,
                position=self._position,
                rows=self._rows,
                bad=self._bad,
                bad_rows_path=path,
                bad_rows_bytes=size_bytes,
            ),
        )
        self._saved_s = time.monotonic()

    def _import(self, rows: Rows, bad: list[BadRow]) -> None:
        for row in bad[: max(0, self._bad_max - self._bad) + 1]:
            self._on_bad(row)
            self._bad_rows.write(row)
        if self._bad + len(bad) > self._bad_max:
            raise ImportRefused(
                "TOO_MANY_BAD",
                f"more than {self._bad_max:,} bad rows, the last one in line "
                f"{bad[self._bad_max - self._bad].line:,}. {self._rows:,} rows were imported",
            )
        if len(rows.lines):
            self._apply(rows)
        self._rows += len(rows.lines)
        self._bad += len(bad)

    def _apply(self, rows: Rows) -> None:
        """Bring every row to its figure; of equal rows the last one counts."""
        sku_ids = self._sku_ids(rows.sku)
        location_ids = self._location_ids(rows.location)
        keys = (sku_ids.astype(np.uint64) << np.uint64(_LOCATION_BITS)) | location_ids
        _, from_end = np.unique(keys[::-1], return_index=True)
        last = len(keys) - 1 - from_end
        sku_ids, location_ids, target = sku_ids[last], location_ids[last], rows.on_hand[last]
        self._skus.add(sku_ids)
        found = self._inv.availability_batch(sku_ids, location_ids)
        delta = target - found["on_hand"]
        is_new = ~found["known"]
        for method, chosen in (
            (self._inv.receive_batch, is_new & (delta > 0)),
            (self._inv.adjust_batch, ~is_new & (delta != 0)),
        ):
            if chosen.any():
                codes = method(sku_ids[chosen], location_ids[chosen], delta[chosen], **self._actor)
                self._raise_first(codes, rows, last[chosen])
        # No batch call makes a row of nothing.
        for index in last[is_new & (target == 0)].tolist():
            self._inv.set_on_hand(
                rows.sku[index].as_py(), rows.location[index].as_py(), 0, if_on_hand=0,
                **self._actor,
            )  # fmt: skip

    def _sku_ids(self, names: Any) -> npt.NDArray[np.uint32]:
        """Looked up once a chunk: a SKU often has its rows together."""
        encoded = names.dictionary_encode()
        indexes: npt.NDArray[np.int32] = encoded.indices.to_numpy(zero_copy_only=False)
        ids = self._inv.sku_ids(encoded.dictionary, seller=self._seller, create=True)
        return ids[indexes]

    def _location_ids(self, names: Any) -> npt.NDArray[np.uint16]:
        """Few locations in many rows: each is looked up once."""
        encoded = names.dictionary_encode()
        indexes: npt.NDArray[np.int32] = encoded.indices.to_numpy(zero_copy_only=False)
        unique = encoded.dictionary.to_pylist()
        unknown = [name for name in unique if name not in self._location_names]
        if unknown:
            made = self._inv.location_ids(unknown, create=True)
            self._location_names.update(zip(unknown, made.tolist(), strict=True))
        ids = np.array([self._location_names[name] for name in unique], np.uint16)
        return ids[indexes]

    @staticmethod
    def _raise_first(codes: npt.NDArray[np.uint8], rows: Rows, indexes: npt.NDArray[Any]) -> None:
        """Raise for the first row that the store refused, if any."""
        refused = np.flatnonzero(codes > 1)
        if len(refused):
            index = int(indexes[refused[0]])
            error = error_for(int(codes[refused[0]]))
            raise error_for(
                error.code,
                f"line {int(rows.lines[index]):,}, {rows.sku[index].as_py()!r} at "
                f"{rows.location[index].as_py()!r}: {error}",
            )


def _checked(chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Rows, list[BadRow]]]:
    for chunk in chunks:
        rows, bad = checked(chunk)
        yield chunk, rows, bad


def _ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """The items, the next one made in another thread while the present one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="inventory-import") as reader:
        waiting = reader.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = reader.submit(next, items, None)
            yield item


class _Different:
    """Counts different numbers, which start at 0 and have few gaps: a byte for each."""

    def __init__(self) -> None:
        self.count = 0
        self._is_known = np.zeros(0, bool)

    def add(self, numbers: npt.NDArray[np.uint32]) -> None:
        numbers = np.unique(numbers)
        missing = int(numbers[-1]) + 1 - len(self._is_known)
        if missing > 0:
            more = np.zeros(max(missing, len(self._is_known)), bool)
            self._is_known = np.concatenate((self._is_known, more))
        self.count += int(np.count_nonzero(~self._is_known[numbers]))
        self._is_known[numbers] = True


class _BadRowsFile:
    """A CSV of the bad rows, with the columns of a file to import: corrected, it can be imported.

    An import that goes on cuts it back to what it held at that position.
    """

    def __init__(self, path: Path | None, found: Progress | None) -> None:
        self._path = path
        self._file: io.BufferedRandom | None = None
        self._marked_bytes = 0
        if path is None:
            return
        goes_on = found is not None and found.bad_rows_path == shown_path(path.resolve())
        self._file = path.open("r+b" if goes_on and path.exists() else "w+b")
        if goes_on and found is not None:
            self._file.truncate(found.bad_rows_bytes)
        if self._file.seek(0, io.SEEK_END) == 0:
            self._write("line", "reason", "sku", "location", "on_hand")
        self.mark()

    def write(self, row: BadRow) -> None:
        self._write(row.line, row.reason, row.sku, row.location, row.on_hand)

    def _write(self, *fields: object) -> None:
        if self._file is not None:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerow(fields)
            self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def mark(self) -> None:
        """Everything written so far belongs to rows that are done."""
        if self._file is not None:
            self._marked_bytes = self._file.tell()

    def sync(self) -> tuple[str | None, int]:
        """Bring it to disk; return its path and its size at the mark."""
        if self._file is None or self._path is None:
            return None, 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return shown_path(self._path.resolve()), self._marked_bytes

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
