# SPDX-License-Identifier: Apache-2.0
"""Reading the log of a closed store: what happened, in order, with all names resolved.

Nothing is written, and nothing is judged anew. The store must be closed (or its process dead); it
may be opened again while its log is being read: what was there before is read on.

>>> with inventory.open(path) as shop:
...     change = shop.receive("MUG", "LON", 5)
>>> for record in inventory.log.read(path):
...     for entry in record.entries:
...         if entry.kind == "RECEIVE":
...             print(entry.lines[0])
LogLine(sku='MUG', location='LON', qty=5, op='ADD', free=False)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from ._walk import LogReader
from .models import LogEntry, LogLine, LogRecord, LogTail
from .store import _path_bytes, _whole

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Log", "LogEntry", "LogLine", "LogRecord", "LogTail", "read"]


def read(path: str | os.PathLike[str], *, after_lsn: int = 0) -> Log:
    """Open the log of a closed store.

    Args:
        path: the store's directory. Nothing in it is changed.
        after_lsn: leave out records that end at or before this lsn. They are read all the same:
            the names that later ones use are in them.

    Returns:
        A Log: an iterator of :class:`LogRecord`, oldest first. It needs memory for one segment file
        and for each name that it has met, about 150 bytes a SKU.

    Raises:
        StoreLocked: it is open somewhere. IoError: no such directory, or no store in it. LogCorrupt
        (also while iterating, after what is whole before the damage), FormatUnknown, NoMemory,
        BadRequest, TypeError.

    >>> with inventory.open(path) as shop:
    ...     lsn = shop.receive("MUG", "LON", 5).lsn
    >>> records = list(inventory.log.read(path))
    >>> records[0].entries[0].kind
    'CLOCK_TICK'
    >>> any(entry.lsn == lsn for record in records for entry in record.entries)
    True
    """
    directory = _path_bytes(path)
    if directory is None:
        raise TypeError("path must be str or os.PathLike, not NoneType")
    return Log(directory, _whole("after_lsn", after_lsn))


class Log:
    """An iterator over the records of a log. Made by :func:`read`; one thread at a time."""

    def __init__(self, directory: bytes, after_lsn: int) -> None:
        self._reader = LogReader(directory)
        self._records = self._read(after_lsn)

    def _read(self, after_lsn: int) -> Iterator[LogRecord]:
        while (record := self._reader.next(after_lsn)) is not None:
            yield record

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LogRecord:
        return next(self._records)

    @property
    def tail(self) -> LogTail | None:
        """How the log ended: known once the last record has been given, else ``None``."""
        return self._reader.tail

    def close(self) -> None:
        """Free the memory of the reader; nothing more is read. A second close does nothing."""
        self._records = iter(())
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
