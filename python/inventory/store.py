# SPDX-License-Identifier: Apache-2.0
"""Opening a store, its background threads, and closing it.

The operations themselves are in the compiled classes :class:`inventory._core.Store` and
:class:`inventory._batch.BatchStore`, of which :class:`Inventory` is a subclass: no Python layer
stands between a caller and the core.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ._batch import BatchStore
from ._core import Handle
from ._walk import fsck_files
from .errors import BadRequest, InventoryError
from .models import Event, FsckReport, Recovery, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal, TypeAlias

    import pyarrow
    from typing_extensions import Self

    from .events import Consumer, Events
    from .export import ReservationChunk, RowChunk
    from .models import ConsumerInfo
    from .testing import ManualClock, MemoryStorage

    Durability: TypeAlias = Literal["durable", "interval", "memory"]

__all__ = ["Inventory", "fsck", "open", "verify"]

_DURABILITY = {"durable": 0, "interval": 1, "memory": 2}
_SEGMENT_BYTES = 64 << 20
_MEMORY_SEGMENT_BYTES = 4 << 20
_ABANDON_WAIT_S = 10.0
_CHUNK_ROWS = 65_536  # a SKU, which is never torn apart, has at most one row less


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: Durability = "durable",
    interval_ms: int = 10,
    clock: ManualClock | None = None,
    storage: MemoryStorage | None = None,
    segment_bytes: int | None = None,
    id_retention_ms: int = 86_400_000,
    ended_ids_max: int = 32 << 20,
    default_ttl_ms: int = 600_000,
    restart_grace_ms: int = 10_000,
    downtime_ms_max: int = 86_400_000,
    clock_slew: bool = False,
    snapshot_log_bytes: int = 1 << 30,
    consumer_log_bytes_max: int = 4 << 30,
    strategy: str = "priority",
    read_only: bool = False,
    upto_lsn: int = 0,
    accept_loss_lsn: int = 0,
) -> Inventory:
    """Open a store, creating it if there is none; recover what its log holds.

    Args:
        path: a directory of the store's own (its parent must exist); ``None`` keeps everything in
            memory, and nothing survives the process.
        durability: ``"durable"``: a call returns when all it observed is on disk. ``"interval"``:
            when it is in the page cache (safe when the process dies, not when the machine does),
            synced every ``interval_ms``. ``"memory"``: no log at all; only without a path.
        interval_ms: 1 to 10,000.
        clock: an ``inventory.testing.ManualClock``, for tests.
        storage: an ``inventory.testing.MemoryStorage``: the whole durable engine on a disk in
            memory, for tests. It is the place then, whatever the path says.
        segment_bytes: size of a log file, 4 MiB to 1 GiB; ``None`` is 64 MiB (4 MiB on a
            MemoryStorage). Up to eight are kept prepared.
        id_retention_ms: how long ids of ended reservations are known; 24 h.
        ended_ids_max: and how many of them at most; 33,554,432.
        default_ttl_ms: of a reserve without ``ttl_ms``, 1 ms to 30 days; 10 min.
        restart_grace_ms: after opening, how long before the downtime counts against TTLs; 10 s.
        downtime_ms_max: the most that a wall clock is believed about the downtime, 0 to 30 days;
            24 h. What it says beyond, or that it went back, is reported in ``recovery``.
        clock_slew: let TTLs run up to 0.5 % faster while the wall clock is ahead of the store's,
            until it has closed up. Without it the wall clock is compared and reported only.
        snapshot_log_bytes: after so much new log a snapshot is taken, and the log trimmed by it;
            1 GiB, so that opening replays for some seconds at most. 0: only when ``snapshot()`` is
            called.
        consumer_log_bytes_max: log that trimming leaves for a consumer of events who has not
            acknowledged it; one that is further behind is cut off. 4 GiB.
        strategy: how a line without location finds one. This release knows ``"priority"``: order of
            first use.
        read_only: recover in memory, write nothing, refuse changes.
        upto_lsn: with ``read_only``, the state as it was at this lsn (of an answer, of an entry of
            the log); 0: as it is. It can be built as far back as the log and its snapshots reach.
        accept_loss_lsn: an operator's word that the log, damaged at this lsn, ends there: what was
            durable behind it is lost for good. For a store that opening refuses (LogCorrupt, which
            like :func:`fsck` names the lsn) and no backup can replace; copy its directory first.
            Any other place is refused, so good history cannot be cut off. The log tells of it
            (OPERATOR_ACT). 0: no such word.

    Returns:
        An Inventory, to be closed: use ``with``. Two or three daemon threads (log writer, file
        preparer and, without a ManualClock, timekeeper) run until then.

    Raises:
        BadRequest: an option out of range. StoreLocked: open elsewhere. LogCorrupt: damage below
        what was durable, with segment, offset and lsn range. FormatUnknown, DiskFull, IoError
        (also an OSError), NoMemory; TypeError for a wrong type.

    Durability: the store exists on disk when this returns.

    >>> with inventory.open() as shop:
    ...     shop.receive("MUG", "LON", 5).level.available_to_promise
    5
    """
    directory = _path_bytes(path)
    if durability not in _DURABILITY:
        raise BadRequest("durability: 'durable', 'interval' or 'memory'", field="durability")
    if path is None and storage is None:
        durability = "memory"
    elif durability == "memory":
        raise BadRequest(
            "durability: 'memory' keeps no log; leave the path and the storage out, or choose "
            "'interval'",
            field="durability",
        )
    if strategy != "priority":
        raise BadRequest(
            f"strategy: {strategy!r} is not supported by this release; use 'priority'",
            field="strategy",
        )
    if segment_bytes is None:
        segment_bytes = _SEGMENT_BYTES if storage is None else _MEMORY_SEGMENT_BYTES
    handle = Handle()
    handle.open(
        path=directory if storage is None else None,
        memory=storage,
        clock_unix_ms=clock.now_unix_ms if clock is not None else None,
        wall_offset_ms=clock._wall_offset_ms if clock is not None else 0,
        durability=_DURABILITY[durability],
        interval_ms=_whole("interval_ms", interval_ms, 10_000),
        segment_bytes=_whole("segment_bytes", segment_bytes, 1 << 30),
        id_retention_ms=_whole("id_retention_ms", id_retention_ms),
        ended_ids_max=_whole("ended_ids_max", ended_ids_max),
        default_ttl_ms=_whole("default_ttl_ms", default_ttl_ms),
        restart_grace_ms=_whole("restart_grace_ms", restart_grace_ms),
        downtime_ms_max=_whole("downtime_ms_max", downtime_ms_max),
        clock_slew=_flag("clock_slew", clock_slew),
        snapshot_log_bytes=_whole("snapshot_log_bytes", snapshot_log_bytes),
        consumer_log_bytes_max=_whole("consumer_log_bytes_max", consumer_log_bytes_max),
        segments_ahead_max=8 if storage is None else 1,
        read_only=_flag("read_only", read_only),
        upto_lsn=_whole("upto_lsn", upto_lsn),
        accept_loss_lsn=_whole("accept_loss_lsn", accept_loss_lsn),
    )
    return Inventory._over(handle, clock, storage, has_log=durability != "memory")


def verify(path: str | os.PathLike[str]) -> VerifyReport:
    """Open a closed store read-only, replay its log and verify every invariant.

    Args:
        path: the store's directory. Nothing in it is changed.

    Returns:
        A VerifyReport.

    Raises:
        StoreLocked: it is open somewhere: use ``Inventory.verify`` there. LogCorrupt,
        FormatUnknown, IoError (no such directory), NoMemory.

    >>> with inventory.open(path) as shop:
    ...     level = shop.receive("MUG", "LON", 5).level
    >>> report = inventory.verify(path)
    >>> report.ok, report.on_hand
    (True, 5)
    """
    if path is None:
        raise TypeError("path must be str or os.PathLike, not NoneType")
    with open(path, read_only=True) as inv:
        return inv.verify()


def fsck(path: str | os.PathLike[str]) -> FsckReport:
    """Look at every file of a closed store, whether opening needs it or not.

    Nothing is replayed: :func:`verify` proves the counters.

    Args:
        path: the store's directory. Nothing in it is changed.

    Returns:
        A FsckReport: whether the store can be opened, and what is wrong with which file.

    Raises:
        StoreLocked: it is open somewhere. IoError: no such directory, or no store in it.
        FormatUnknown, NoMemory, BadRequest, TypeError.

    >>> inventory.open(path).close()
    >>> inventory.fsck(path).ok
    True
    """
    directory = _path_bytes(path)
    if directory is None:
        raise TypeError("path must be str or os.PathLike, not NoneType")
    return fsck_files(directory)


class Inventory(BatchStore):
    """An open store. Made by :func:`inventory.open`; any thread may call any method at any time.

    As a context manager it closes itself. One that is forgotten warns (:class:`ResourceWarning`)
    and ends as in a crash: what was acknowledged as durable stays so.
    """

    _threads: tuple[threading.Thread, ...]
    _recovery: Recovery
    _closing: threading.RLock
    _guests: tuple[tuple[threading.Thread, Callable[[], None]], ...] = ()

    @classmethod
    def _over(
        cls,
        handle: Handle,
        clock: ManualClock | None,
        storage: MemoryStorage | None,
        *,
        has_log: bool,
    ) -> Self:
        self = cls(handle)
        self._recovery = handle.recovery()
        self._closing = threading.RLock()
        loops: dict[str, Callable[[], None]] = {}
        if not handle.read_only:
            if has_log:
                loops["flusher"] = handle.run_flusher
            if has_log or clock is None:  # also touches memory ahead of need
                loops["housekeeper"] = handle.run_housekeeper
            if clock is None:
                loops["timekeeper"] = handle.run_timekeeper
        # The threads know the handle and nothing else: a store nobody holds can still be found.
        self._threads = tuple(
            threading.Thread(target=run, name=f"inventory-{name}", daemon=True)
            for name, run in loops.items()
        )
        for thread in self._threads:
            thread.start()
        if clock is not None:
            clock._watch(self)
        if storage is not None:
            storage._watch(self)
        return self

    @property
    def closed(self) -> bool:
        """Whether the store refuses calls: closed, or of the parent of this forked process."""
        return not self._handle.is_open()

    @property
    def recovery(self) -> Recovery:
        """What opening found in the log; known after closing too.

        >>> inv.recovery.created
        True
        """
        return self._recovery

    def rows(self, *, chunk_rows: int = _CHUNK_ROWS) -> Iterator[RowChunk]:
        """Walk all stock rows, in pieces of numpy columns.

        Args:
            chunk_rows: rows of a piece at most, 1 to 1,048,576. A SKU is never torn apart, so it
                must be as many as the SKU with most rows has: 65,535 suffice in any case.

        Returns:
            An iterator of :class:`inventory.export.RowChunk`, made one by one: memory does not grow
            with the store. The rows of a SKU are of one moment. A SKU that is there from first to
            last is given once; the whole is no snapshot while others write.

        Raises:
            BadRequest, LimitExceeded (while iterating: a SKU has more rows than ``chunk_rows``),
            StoreClosed, StoreFailed, TypeError.

        Durability: what a piece shows is as safe as the store promises.

        >>> sum(int(chunk.on_hand.sum()) for chunk in inv.rows())
        15
        """
        from . import export

        return export.rows(self, chunk_rows)

    def reservations(
        self, *, ended: bool = False, chunk_rows: int = _CHUNK_ROWS
    ) -> Iterator[ReservationChunk]:
        """Walk all live reservations, in pieces of numpy columns, one row a line.

        Args:
            ended: also those that have ended and whose ids are still known.
            chunk_rows: rows of a piece at most, 1 to 1,048,576. A reservation is never torn apart:
                4,096 suffice in any case.

        Returns:
            An iterator of :class:`inventory.export.ReservationChunk`, made one by one. The lines of
            a reservation are of one moment; the whole is no snapshot while others write.

        Raises:
            BadRequest, LimitExceeded (while iterating: a reservation has more lines than
            ``chunk_rows``), StoreClosed, StoreFailed, TypeError.

        Durability: what a piece shows is as safe as the store promises.

        >>> hold = inv.reserve("TEE", 2, reservation_id="cart-7")
        >>> [chunk.reservation_id.tolist() for chunk in inv.reservations()]
        [['cart-7']]
        """
        from . import export

        return export.reservations(self, chunk_rows, ended)

    def to_arrow(
        self,
        what: Literal["rows", "reservations"] = "rows",
        *,
        ended: bool = False,
        chunk_rows: int = _CHUNK_ROWS,
    ) -> pyarrow.RecordBatchReader:
        """Walk the store as Arrow record batches, for Parquet, CSV, DataFrames and databases.

        Args:
            what: ``"rows"`` as :meth:`rows`, ``"reservations"`` as :meth:`reservations`.
            ended: of reservations, also those that have ended.
            chunk_rows: rows of a batch at most, 1 to 1,048,576.

        Returns:
            A ``pyarrow.RecordBatchReader`` that makes batches one by one: memory does not grow with
            the store. Names and states are plain strings, figures int64; null is "there is none".

        Raises:
            ImportError: pyarrow is not installed. BadRequest, TypeError; while reading,
            LimitExceeded, StoreClosed, StoreFailed.

        Durability: what a batch shows is as safe as the store promises.

        >>> inv.to_arrow().read_all().select(["sku", "on_hand"]).sort_by("sku").to_pylist()
        [{'sku': 'MUG', 'on_hand': 5}, {'sku': 'TEE', 'on_hand': 10}]
        """
        from . import export

        return export.to_arrow(self, what, chunk_rows, ended)

    def events(
        self,
        *,
        after_lsn: int = 0,
        after: Event | tuple[int, int] | None = None,
        follow: bool = False,
        timeout_s: float | None = None,
    ) -> Events:
        """Read what happened, change by change, in order and without a gap.

        Args:
            after_lsn: events above this lsn; 0: from the oldest that the log still has.
            after: in its stead, behind this event or its position ``(lsn, index)``.
            follow: go on with what happens from now on. Else the events end with what was durable
                at the call.
            timeout_s: of ``follow``: end when for so long nothing happened. ``None``: never.

        Returns:
            An Events: an iterator of :class:`Event` for one thread at a time, and a context
            manager. It slows no change down.

        Raises:
            EventsTrimmed: what follows the position is no longer in the log (also while
            iterating). BadRequest: no log, or it does not reach so far. LogCorrupt (while
            iterating: damage below what was durable), IoError, NoMemory, StoreClosed, StoreFailed,
            TypeError.

        Durability: an event is seen when it is durable, in every mode.

        >>> with inventory.open(path) as shop:
        ...     hold = shop.receive("MUG", "LON", 5)
        ...     hold = shop.reserve("MUG", 2, reservation_id="cart-1")
        ...     [event.type for event in shop.events()]
        ['stock.received', 'reservation.held']
        """
        from .events import Events

        return Events(self, after=_position(after_lsn, after), follow=follow, timeout_s=timeout_s)

    def consumer(self, name: str, *, after_lsn: int = 0) -> Consumer:
        """Read events as a consumer whose position the store keeps; make it if it is new.

        Args:
            name: 1 to 32 of ``a-z``, ``0-9``, ``.`` and ``-``, the first a letter or digit. There
                can be 64 consumers.
            after_lsn: of a new one: it begins behind this lsn; 0: with the oldest event there is.

        Returns:
            A Consumer.

        Raises:
            BadRequest, EventsTrimmed, LimitExceeded, Forbidden (new, in a store opened read-only),
            DiskFull, IoError, StoreClosed, StoreFailed, TypeError.

        Durability: a new one is on disk when this returns.

        >>> with inventory.open(path) as shop:
        ...     index = shop.consumer("search-index")
        ...     change = shop.receive("MUG", "LON", 5)
        ...     for event in index.events():
        ...         index.acknowledge(event)
        ...     index.position == (change.lsn, 0)
        True
        """
        from .events import Consumer

        return Consumer(self, name, after_lsn=_whole("after_lsn", after_lsn))

    def consumers(self) -> list[ConsumerInfo]:
        """Look at all consumers: position, lag in bytes of log, and whether one was cut off.

        Returns:
            A list of ConsumerInfo, by name.

        Raises:
            StoreClosed.

        >>> with inventory.open(path) as shop:
        ...     reader = shop.consumer("search-index")
        ...     [(info.name, info.state) for info in shop.consumers()]
        [('search-index', 'live')]
        """
        from .events import consumers

        return consumers(self)

    def close(self) -> None:
        """Refuse new calls, wait for those inside, sync all, and free the store.

        Closing while other threads are inside is normal: they get their answers, later calls raise
        StoreClosed. A second close does nothing. In a forked child it does nothing either.

        Raises:
            StoreFailed: the last sync failed; what was acknowledged as durable is safe.

        Durability: everything is on disk, with the mark of a clean shutdown.

        >>> shop = inventory.open()
        >>> shop.close()
        >>> shop.closed
        True
        """
        with self._closing:  # a second closer waits for the first
            try:
                self._handle.close()
            finally:
                self._join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except InventoryError:
            if error is None:  # an error from within the block says more than one from closing
                raise

    def __repr__(self) -> str:
        return f"<inventory.Inventory {'closed' if self.closed else 'open'} at {id(self):#x}>"

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is None or not handle.is_open():
            return
        warnings.warn(
            f"unclosed {self!r}; use close() or with", ResourceWarning, stacklevel=2, source=self
        )
        self._end_guests()
        handle.stop()  # the loops end, let go of the handle, and that frees the store
        if not sys.is_finalizing():
            self._join()

    def _run_guest(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run one more loop, counted as a call inside, until the store ends; `stop` tells it to."""
        thread = threading.Thread(target=run, name=f"inventory-{name}", daemon=True)
        thread.start()
        self._threads += (thread,)
        self._guests += ((thread, stop),)

    def _end_guests(self) -> None:
        """While the other loops still run: a guest may wait for the flusher."""
        for thread, stop in self._guests:
            stop()
            if not sys.is_finalizing():
                thread.join()

    def _join(self) -> None:
        if self._handle.is_forked():
            return
        self._end_guests()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _advance_to(self, now_unix_ms: int) -> None:
        if not self._handle.read_only:
            self._handle.advance_to(now_unix_ms)

    def _set_wall_offset(self, wall_offset_ms: int) -> None:
        self._handle.set_wall_offset(wall_offset_ms)

    def _abandon(self) -> None:
        """End as in a crash: calls inside finish, nothing more is synced."""
        with self._closing:
            if not self.closed:
                self._crash()

    def _crash(self) -> None:
        deadline_s = time.monotonic() + _ABANDON_WAIT_S
        while self._handle.begin_abandon() > sum(t.is_alive() for t in self._threads):
            if time.monotonic() > deadline_s:
                raise RuntimeError("calls are still inside the store: end their threads first")
            time.sleep(0.001)
        self._end_guests()
        self._handle.stop()
        self._join()
        self._handle.finish_abandon()


def _path_bytes(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be str or os.PathLike[str], not {type(path).__name__}")
    if not text or "\0" in text:
        raise BadRequest("path: empty, or with a NUL in it", field="path")
    return os.fsencode(text)


def _position(after_lsn: int, after: Event | tuple[int, int] | None) -> tuple[int, int | None]:
    """A position as ``(lsn, index)``; index ``None`` is behind all events of that entry."""
    lsn, index = _whole("after_lsn", after_lsn), None
    if after is None:
        return lsn, index
    if lsn:
        raise BadRequest("after: give it or after_lsn, not both", field="after")
    if isinstance(after, Event):
        return after.position
    if not isinstance(after, tuple) or len(after) != 2:
        raise TypeError("after must be an Event or (lsn, index)")
    return _whole("after[0]", after[0]), _whole("after[1]", after[1], (1 << 32) - 2)


def _whole(field: str, value: int, limit: int = (1 << 63) - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field} must be int, not {type(value).__name__}")
    if not 0 <= value <= limit:
        raise BadRequest(field=field, figure=value, limit=limit if value > 0 else 0)
    return value


def _flag(field: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{field} must be bool, not {type(value).__name__}")
    return value
