# SPDX-License-Identifier: Apache-2.0
"""Frozen result types: what the engine answers, in the words of the semantics page.

Every type is an immutable :class:`msgspec.Struct`: comparable, hashable, encodable as JSON or
msgpack with ``msgspec``. Quantities are whole units of the SKU's base unit, times are milliseconds
since 1970 (UTC) by engine time, an ``lsn`` is a position in the log: everything below it is
included.

The compiled core builds these types by position: a field is added at the end or together with the
place in ``_core.pyx`` that fills it (a test holds both together).
"""

from __future__ import annotations

import datetime
import enum
from typing import Any, Literal

import msgspec

__all__ = [
    "ConsumerInfo",
    "Event",
    "EventLine",
    "FsckItem",
    "FsckReport",
    "Line",
    "LogEntry",
    "LogLine",
    "LogRecord",
    "LogTail",
    "Metrics",
    "Node",
    "PolicyChange",
    "Recovery",
    "RemainingLine",
    "Reservation",
    "ReservationLine",
    "ShortLine",
    "SkuAvailability",
    "Snapshot",
    "State",
    "StockChange",
    "StockLevel",
    "StockTotals",
    "StoreFormat",
    "VerifyReport",
]


class State(str, enum.Enum):
    """State of a reservation: the most open one of its lines, or how it ended.

    >>> State.HELD == "HELD", State.HELD.is_live, State.EXPIRED.is_live
    (True, True, False)
    """

    HELD = "HELD"
    BACKORDERED = "BACKORDERED"
    ALLOCATED = "ALLOCATED"
    SHIPPED = "SHIPPED"
    RELEASED = "RELEASED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    CANCELLED_SHORT = "CANCELLED_SHORT"
    PREEMPTED = "PREEMPTED"

    __str__ = str.__str__

    @property
    def is_live(self) -> bool:
        """Whether the reservation still binds stock: held, queued or allocated."""
        return self in (State.HELD, State.BACKORDERED, State.ALLOCATED)


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line asked for in :meth:`Inventory.reserve_lines`.

    ``qty`` is 1 to 2,147,483,647 units; ``location`` ``None`` lets the engine choose, and then the
    answer says where. ``min_qty`` and ``split`` belong to best effort and backorders, which this
    release refuses.

    >>> Line("MUG", 2, location="LON")
    Line(sku='MUG', qty=2, location='LON', min_qty=None, split=True)
    """

    sku: str
    qty: int
    location: str | None = None
    min_qty: int | None = None
    split: bool = True


class StockLevel(msgspec.Struct, frozen=True, gc=False):
    """One stock row: a SKU at a location, as of ``lsn`` and engine time ``now_unix_ms``.

    All figures are units, 0 or more. ``reserved = held + allocated``;
    ``available = max(0, on_hand - unsellable - reserved)``;
    ``available_to_promise = max(0, available - safety_stock)`` is what ``reserve`` decides by;
    ``short = max(0, reserved + unsellable - on_hand)`` are promises that reality broke.
    Source: the semantics page, section 1.
    """

    sku: str
    location: str
    on_hand: int
    held: int
    allocated: int
    reserved: int
    available: int
    available_to_promise: int
    safety_stock: int
    short: int
    backordered: int
    incoming: int
    unsellable: int
    lsn: int
    now_unix_ms: int


class StockTotals(msgspec.Struct, frozen=True, gc=False):
    """Sums over all rows of a SKU, 64-bit. Each row is clamped before it is summed: a short row
    never eats another row's stock."""

    on_hand: int
    held: int
    allocated: int
    reserved: int
    available: int
    available_to_promise: int
    safety_stock: int
    short: int
    backordered: int
    incoming: int
    unsellable: int


class SkuAvailability(msgspec.Struct, frozen=True, gc=False):
    """All rows of a SKU and their totals, at one ``lsn``."""

    sku: str
    levels: tuple[StockLevel, ...]
    totals: StockTotals
    lsn: int
    now_unix_ms: int


class StockChange(msgspec.Struct, frozen=True, gc=False):
    """What a stock change left behind: the row after it, and the lsn of its own log entry.

    ``replayed`` says that this ``op_id`` had been applied before and nothing was moved again; the
    level is the present one then.
    """

    level: StockLevel
    lsn: int
    replayed: bool
    now_unix_ms: int


class PolicyChange(msgspec.Struct, frozen=True, gc=False):
    """A policy that was set: ``location`` is ``None`` when it was for every row of the SKU."""

    sku: str
    location: str | None
    safety_stock: int
    lsn: int
    replayed: bool
    now_unix_ms: int


class ReservationLine(msgspec.Struct, frozen=True, gc=False):
    """One asked line at one place. ``qty`` units were taken there; ``held``, ``allocated``,
    ``shipped`` and ``backordered`` say where they are now (what was given back is in none)."""

    sku: str
    location: str | None
    qty: int
    held: int
    allocated: int
    shipped: int
    backordered: int


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """A reservation as it stands after a call.

    ``expires_at_unix_ms`` is the deadline, ``None`` when there is none (nothing is held);
    ``ended_at_unix_ms`` is ``None`` while it lives. ``lsn`` is the end of the change's own log
    entry (of the last change, in a replay or a read). ``replayed``: this very call had been applied
    before. ``reheld``: a commit after the deadline took the units again. ``units`` is the sum of
    ``qty`` over all lines; an ended reservation seen later keeps the sum but not the lines.
    """

    reservation_id: str
    state: State
    lines: tuple[ReservationLine, ...]
    expires_at_unix_ms: int | None
    ended_at_unix_ms: int | None
    lsn: int
    replayed: bool
    reheld: bool
    now_unix_ms: int
    units: int


class ShortLine(msgspec.Struct, frozen=True, gc=False):
    """A line that could not be served: what was asked for (equal lines together) and what is there.

    ``location`` is ``None`` for a line that left the place to the engine. ``alternatives`` names up
    to 8 other locations that could serve the whole line.
    """

    sku: str
    location: str | None
    requested: int
    available_to_promise: int
    closed: bool
    alternatives: tuple[str, ...]


class RemainingLine(msgspec.Struct, frozen=True, gc=False):
    """A line of a partial call that named more than is left: ``remaining`` units are."""

    sku: str
    location: str | None
    requested: int
    remaining: int


class VerifyReport(msgspec.Struct, frozen=True, gc=False):
    """What :meth:`Inventory.verify` found: every invariant of the store, walked and proved.

    ``problems`` holds the text of the first broken invariant, ``problem_count`` how many there are.
    The rest are counts of what was walked, and totals over all rows in units.
    """

    ok: bool
    problems: tuple[str, ...]
    problem_count: int
    skus: int
    rows: int
    holds: int
    ended: int
    timers: int
    lsn: int
    on_hand: int
    held: int
    allocated: int


class StoreFormat(msgspec.Struct, frozen=True, gc=False):
    """A version of the file formats; ``str()`` of it is ``"1.0"``. ``features`` are the bits that
    every reader of the files must understand."""

    major: int
    minor: int
    features: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Recovery(msgspec.Struct, frozen=True, gc=False):
    """What opening the store found in its log.

    ``torn_bytes_dropped`` are bytes after the end of the log that were no whole record: never
    acknowledged to anybody. ``digests_checked``: how often what was rebuilt was compared with what
    the log says was there, and was the same. ``snapshot_lsn`` is where the snapshot it was loaded
    from begins, 0 without one; ``snapshots_damaged`` newer ones could not be read.
    ``loss_lsn_end``: what was durable from ``lsn_end`` to here was given up
    (``accept_loss_lsn``); 0: nothing.
    ``records_skipped`` are of a later release, of a type that says it need not be understood;
    ``format`` is the file format in force (see :meth:`Inventory.finalize`). ``downtime_ms`` counts
    against TTLs once the restart grace is over. ``wall_difference_ms`` is what the wall clock says
    has passed since the log ended; ``clock_alarm`` says that it went back by more than 2 s, or that
    the downtime was above ``downtime_ms_max``: ``downtime_ms`` is what was made of it.
    """

    records_replayed: int
    records_skipped: int
    entries_replayed: int
    digests_checked: int
    lsn_first: int
    lsn_end: int
    torn_bytes_dropped: int
    torn_records_dropped: int
    relogged_bytes: int
    durable_proven: int
    epoch: int
    segments_read: int
    snapshot_lsn: int
    snapshot_end_lsn: int
    snapshot_bytes: int
    snapshots_damaged: int
    loss_lsn_end: int
    downtime_ms: int
    wall_difference_ms: int
    clock_alarm: bool
    duration_ns: int
    format: StoreFormat
    created: bool
    clean_shutdown: bool


class FsckItem(msgspec.Struct, frozen=True, gc=False):
    """What :func:`inventory.fsck` found of one file, or of half of STATE.

    ``lsn`` and ``lsn_end`` are where the records of a segment, or the copying of a snapshot, begin
    and end, as far as they are whole; of STATE the newest snapshot and the clean end, 0: none.
    ``records`` are blocks in a snapshot.
    """

    kind: Literal["state", "snapshot", "segment"]
    name: str
    ok: bool
    problem: str
    bytes: int
    lsn: int
    lsn_end: int
    records: int
    epoch: int


class FsckReport(msgspec.Struct, frozen=True, gc=False):
    """What the files of a closed store hold.

    ``ok``: opening succeeds, with everything that was ever durable; else ``problem`` says why not,
    and ``accept_loss_lsn`` what that option of ``open`` could be, 0: nothing helps.
    ``lsn_end`` is where the log ends or is whole to, ``durable`` the highest lsn proven durable.
    ``torn_bytes`` and ``torn_records`` lie beyond the end: dropped on opening, never acknowledged.
    Opening begins from the snapshot at ``snapshot_lsn`` (0: from none); a damaged segment below it
    does no harm. ``segments_void`` files lie outside the chain and are removed on opening.
    """

    ok: bool
    problem: str
    lsn_end: int
    durable: int
    torn_bytes: int
    torn_records: int
    snapshot_lsn: int
    snapshots: int
    snapshots_damaged: int
    segments: int
    segments_damaged: int
    segments_void: int
    accept_loss_lsn: int
    items: tuple[FsckItem, ...]


class Metrics(msgspec.Struct, frozen=True, gc=False):
    """Counters and gauges of a store since it was opened.

    ``now_unix_ms`` is engine time (the lowest of all stripes), ``lag_ms`` how far it is behind the
    clock; ``id_window_ms`` is how long ended ids are really known at present. ``clock_drift_ms`` is
    how far the wall clock has moved away from the store's clock since opening, ahead (+) or behind
    (-), and ``clock_alarms`` how often that grew by more than 2 s (``recovery.clock_alarm`` counts
    as one); ``clock_slewed_ms`` is what engine time gained by ``clock_slew``. ``wall_offset_ms`` is
    the wall clock minus engine time: add it to a deadline to show it by the wall. ``snapshot_lsn``
    is where the newest snapshot begins, 0 without one; ``snapshot_bytes`` and ``snapshot_ns`` are
    of the last one taken since opening.

    ``consumer_lag_bytes`` is what the slowest consumer that is not cut off has not acknowledged;
    ``consumers_cut_off`` counts since opening. ``disk_state`` is 0 while the log has room, 1 while
    the disk is full and whatever may be asked again is refused with DiskFull, 2 while every change
    is; ``disk_full_count`` says how often it left 0 since opening, ``disk_read_only_count`` how
    often it came to 2, ``disk_recovered_count`` how often it came back to 0. ``reserve_segments``
    are the log segments kept for a full disk: 2, but for a while after the first opening and after
    a full disk.
    """

    lsn_appended: int
    lsn_durable: int
    commands: int
    records: int
    groups: int
    syncs: int
    sync_ns_total: int
    sync_ns_max: int
    reserved_ok: int
    refused: int
    replayed: int
    expired: int
    ended_ids: int
    live_holds: int
    now_unix_ms: int
    lag_ms: int
    id_window_ms: int
    clock_drift_ms: int
    clock_alarms: int
    clock_slewed_ms: int
    wall_offset_ms: int
    segments_ready: int
    segment_waits: int
    probe_max: int
    bytes_in_use: int
    snapshots: int
    snapshot_failures: int
    snapshot_lsn: int
    snapshot_bytes: int
    snapshot_ns: int
    consumers: int
    consumers_cut_off: int
    consumer_lag_bytes: int
    disk_state: int
    disk_full_count: int
    disk_read_only_count: int
    disk_recovered_count: int
    reserve_segments: int


class Node(msgspec.Struct, frozen=True, gc=False):
    """A node that a client asks: who answers, and what it promises.

    ``server`` is its version, ``store_id`` the store's UUID as 32 hexadecimal digits, ``epoch``
    counts the openings of that store, and the log ends at ``lsn``. ``interval_ms`` is 0 unless
    durability is ``"interval"``. ``message_bytes_max`` is the longest message that it takes;
    ``features`` name what it can do beyond the first version of the protocol.
    """

    server: str
    store_id: str
    durability: str
    interval_ms: int
    epoch: int
    lsn: int
    now_unix_ms: int
    message_bytes_max: int
    features: tuple[str, ...]


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A snapshot that was taken: the log below the one before it is gone."""

    lsn: int
    bytes: int
    duration_ns: int


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """What one line of a log entry did to one stock row.

    ``op`` is what happened to ``qty`` units there: ``HOLD`` (held +), ``COMMIT`` (held -,
    allocated +), ``SHIP_HELD`` and ``SHIP_ALLOCATED`` (that -, on_hand -), ``RELEASE``, ``EXPIRE``
    (held -), ``CANCEL_ALLOCATED`` (allocated -), ``REHOLD`` (allocated +), ``ADD``, ``SUB``
    (on_hand), ``SET_SAFETY`` (safety_stock = qty), ``NONE``. ``location`` is ``None`` when a policy
    is of the whole SKU; ``free`` says that the caller named no location and the engine chose.
    """

    sku: str
    location: str | None
    qty: int
    op: str
    free: bool


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One change in the log: what was decided, with all names resolved.

    ``kind`` is ``RESERVE``, ``COMMIT``, ``RECEIVE``, ``EXPIRE``, ``NAME``, ``CLOCK_TICK`` ...
    ``lsn`` is the end of the entry, the lsn an answer gave for the change. ``state`` is the
    reservation's afterwards, ``None`` when there is none; ``expires_at_unix_ms`` a deadline that
    the entry set; ``whole`` says that a call named no lines. ``NAME`` gives ``name`` its ``number``
    among names of that ``name_kind``; ``CLOCK_TICK`` notes the machine's clock, ``wall_unix_ms``;
    from ``FORMAT_GATE`` on the log may be of another ``format``.
    """

    kind: str
    lsn: int
    reservation_id: str | None
    op_id: str | None
    state: State | None
    lines: tuple[LogLine, ...]
    expires_at_unix_ms: int | None
    whole: bool
    seller: str
    account: str
    reason: str
    reference: str
    name_kind: str | None
    name: str | None
    number: int | None
    wall_unix_ms: int | None
    format: StoreFormat | None


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of the log: changes that were written together, of engine time ``now_unix_ms``.

    It lies from ``lsn`` to ``lsn_end``, in the file ``wal-`` + ``segment`` in 16 hex digits, at
    byte ``offset``. ``epoch`` counts how often the store had been opened.
    """

    lsn: int
    lsn_end: int
    now_unix_ms: int
    epoch: int
    segment: int
    offset: int
    entries: tuple[LogEntry, ...]


class LogTail(msgspec.Struct, frozen=True, gc=False):
    """How a log ended. ``torn_bytes`` after ``lsn_end`` are no whole record and ``torn_records``
    lie beyond a hole: nobody was ever told of either. ``durable`` is what the log proves to have
    been on disk. ``skipped_records`` are of a later release, and need not be understood."""

    lsn_end: int
    durable: int
    torn_bytes: int
    torn_records: int
    skipped_records: int


class EventLine(msgspec.Struct, frozen=True, gc=False):
    """What one line of an event did to one stock row.

    ``op`` and ``qty`` as in :class:`LogLine`; the deltas are the same in figures: add them to a
    copy of the row. ``location`` is ``None`` when a policy is of the whole SKU, and then ``qty`` is
    its ``safety_stock``.
    """

    sku: str
    location: str | None
    qty: int
    op: str
    on_hand_delta: int
    held_delta: int
    allocated_delta: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change of the store, durable when it is seen: see docs/events.md.

    ``(lsn, index)`` is its place in the one order of everything: ``lsn`` is the end of the change's
    log entry, the lsn its call answered; ``index`` counts the events of that entry. ``now_unix_ms``
    is the engine time of the decision. ``state`` is the reservation's after the whole entry,
    ``None`` when it is about none; ``expires_at_unix_ms`` a deadline that this change set;
    ``whole`` says that a call named no lines. ``store_id`` is the UUID of the store.

    >>> with inventory.open(path) as shop:
    ...     change = shop.receive("MUG", "LON", 5)
    ...     event = next(shop.events())
    >>> event.type, event.lsn == change.lsn, event.lines[0].on_hand_delta
    ('stock.received', True, 5)
    """

    type: str
    lsn: int
    index: int
    now_unix_ms: int
    seller: str
    account: str
    reservation_id: str | None
    op_id: str | None
    reason: str
    reference: str
    state: State | None
    expires_at_unix_ms: int | None
    whole: bool
    lines: tuple[EventLine, ...]
    store_id: str

    @property
    def position(self) -> tuple[int, int]:
        """``(lsn, index)``: give it to ``events(after=...)`` to go on behind this event."""
        return self.lsn, self.index

    def to_cloudevent(self, *, source: str | None = None, type_prefix: str = "") -> dict[str, Any]:
        """Wrap the event as a CloudEvent 1.0, in its JSON format's terms.

        Args:
            source: a URI-reference of who says so; ``None`` is ``urn:uuid:`` and the store's UUID.
            type_prefix: put in front of ``type``, such as ``"com.example."``.

        Returns:
            A dict that a JSON encoder takes. ``id`` is unique in the world and the same whenever
            the event is read; ``sequence`` sorts as the events do; ``data`` is the event.

        >>> with inventory.open(path) as shop:
        ...     hold = shop.receive("MUG", "LON", 5)
        ...     cloud = next(shop.events()).to_cloudevent(type_prefix="com.example.")
        >>> cloud["type"], cloud["subject"]
        ('com.example.stock.received', 'MUG')
        """
        subject = self.reservation_id
        if subject is None and self.lines:
            subject = self.lines[0].sku
        return {
            "specversion": "1.0",
            "id": f"{self.store_id}/{self.lsn}/{self.index}",
            "source": source if source is not None else f"urn:uuid:{self.store_id}",
            "type": type_prefix + self.type,
            "time": _rfc3339(self.now_unix_ms),
            "datacontenttype": "application/json",
            "sequence": f"{self.lsn:020}.{self.index:05}",
            **({"subject": subject} if subject is not None else {}),
            "data": msgspec.to_builtins(self),
        }


def _rfc3339(unix_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_ms // 1000, datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03}Z"


class ConsumerInfo(msgspec.Struct, frozen=True, gc=False):
    """A consumer of events: how far it has acknowledged, and what is still before it.

    ``state`` is ``"live"``, ``"cut_off"`` (it has missed events and must be reset) or ``"damaged"``
    (its file can't be read; likewise). ``index`` is ``None`` when all events of the entry that ends
    at ``lsn`` are acknowledged. ``lag_bytes`` is durable log that it has not acknowledged.
    """

    name: str
    state: str
    lsn: int
    index: int | None
    lag_bytes: int
