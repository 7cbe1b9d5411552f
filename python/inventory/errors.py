# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the engine, and the one table of its result codes.

::

    InventoryError
    |-- Refused                     a rule said no; nothing changed
    |   |-- InsufficientStock       10  short, retry_after_ms
    |   |-- LocationClosed          16  short, retry_after_ms
    |   |-- Expired                 11  reservation_id, expired_at_unix_ms
    |   |-- WrongState                  reservation_id, state, lines, units, ended_at_unix_ms, lsn
    |   |   |-- AlreadyCommitted    12
    |   |   |-- AlreadyReleased     13
    |   |   |-- AlreadyCancelled    14
    |   |   |-- AlreadyShipped      15
    |   |   `-- Preempted           19
    |   |-- CasFailed               17  actual
    |   `-- AsOfUnknown             18  oldest_lsn
    |-- Unknown (LookupError)       the thing named does not exist
    |   |-- UnknownReservation      20  reservation_id
    |   |-- UnknownSku              21  sku
    |   `-- UnknownLocation         22  location
    |-- EventsTrimmed               23  lsn, lsn_end
    |-- BadRequest (ValueError)     30  field, figure, limit
    |-- IdempotencyMismatch         31  fields
    |-- OverCommit                  32  remaining
    |-- QtyOutOfRange               33  field, figure, limit
    |-- LimitExceeded               34  field, figure, limit
    |-- StaleId                     35  reservation_id
    |-- Unauthenticated             40
    |-- Forbidden                   41
    |-- RateLimited                 50  retry_after_ms
    |-- Busy                        51  retry_after_ms
    |-- Lagging                     52  lag
    |-- NotLeader                   53  leader
    |-- DiskFull                    54  os_errno
    |-- NoMemory (MemoryError)      55
    |-- OutcomeUnknown                  operation, reservation_id, op_id, op_ids
    |   `-- ProtocolError               operation, reservation_id, op_id, op_ids
    |-- Unreachable                     operation, endpoint
    `-- StoreError                  the store as a whole can't serve
        |-- StoreClosed             60
        |-- StoreFailed             61  lsn, os_errno
        |-- LogCorrupt              62  segment, offset, lsn, lsn_end
        |-- StoreLocked             63
        |-- FormatUnknown           64  segment, offset
        `-- IoError (OSError)       65  os_errno

A wrong *type* (a ``float`` or ``bool`` as quantity, a SKU that is no ``str``) is the built-in
:class:`TypeError`; a wrong *value* is :class:`BadRequest`. Every message gives the figures and what
to do next; the same figures are attributes. OutcomeUnknown, ProtocolError and Unreachable have no
code: clients raise them where no answer came, so no node ever says them.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, NamedTuple

from .models import RemainingLine, ReservationLine, ShortLine, State

__all__ = [
    "CODES",
    "AlreadyCancelled",
    "AlreadyCommitted",
    "AlreadyReleased",
    "AlreadyShipped",
    "AsOfUnknown",
    "BadRequest",
    "Busy",
    "CasFailed",
    "Code",
    "DiskFull",
    "EventsTrimmed",
    "Expired",
    "Forbidden",
    "FormatUnknown",
    "IdempotencyMismatch",
    "InsufficientStock",
    "InventoryError",
    "IoError",
    "Lagging",
    "LimitExceeded",
    "LocationClosed",
    "LogCorrupt",
    "NoMemory",
    "NotLeader",
    "OutcomeUnknown",
    "OverCommit",
    "Preempted",
    "ProtocolError",
    "QtyOutOfRange",
    "RateLimited",
    "Refused",
    "StaleId",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreLocked",
    "Unauthenticated",
    "Unknown",
    "UnknownLocation",
    "UnknownReservation",
    "UnknownSku",
    "Unreachable",
    "WrongState",
    "error_for",
]


def _rebuild(
    error: type[InventoryError], message: str, details: dict[str, object]
) -> InventoryError:
    return error(message, **details)


class InventoryError(Exception):
    """Base of everything the engine raises.

    ``code``, ``code_name`` and ``http_status`` are the class's row of :data:`CODES`. The text is
    made when somebody looks at it: raising stays cheap where a refusal is an everyday answer.
    """

    code: ClassVar[int] = -1
    code_name: ClassVar[str] = ""
    http_status: ClassVar[int | None] = None
    detail_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        for name, value in details.items():
            if name not in self.detail_names:
                raise TypeError(f"{type(self).__name__} has no detail {name!r}")
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.message or self._explain()

    def _explain(self) -> str:
        return self.code_name or type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        details = {name: getattr(self, name) for name in self.detail_names}
        return _rebuild, (type(self), self.message, details)


# ---- a rule said no -----------------------------------------------------------------------------


class Refused(InventoryError):
    """A rule said no: nothing changed, and the same id may be tried again."""


def _place(sku: str, location: str | None) -> str:
    return f"{sku!r} at {location!r}" if location is not None else f"{sku!r} (any location)"


def _units(count: int) -> str:
    return f"{count:,} unit" if count == 1 else f"{count:,} units"


def _short_text(line: ShortLine) -> str:
    text = (
        f"{_place(line.sku, line.location)}: {_units(line.requested)} asked for, "
        f"{line.available_to_promise:,} available to promise"
    )
    if line.closed:
        text += ", location closed"
    if line.alternatives:
        text += f", could be served from {', '.join(map(repr, line.alternatives))}"
    return text


class InsufficientStock(Refused):
    """Not enough stock. ``short`` lists every short line (not only the first), ``retry_after_ms``
    is a hint when enough holds lapse for all of them, ``None`` if never or not known."""

    detail_names = ("short", "retry_after_ms")
    short: tuple[ShortLine, ...] = ()
    retry_after_ms: int | None = None

    def _explain(self) -> str:
        text = "; ".join(map(_short_text, self.short)) or "not enough stock"
        if self.retry_after_ms is not None:
            return f"{text}. Nothing changed; try again in {self.retry_after_ms:,} ms"
        return f"{text}. Nothing changed; ask for less, elsewhere or after the next receipt"


class LocationClosed(Refused):
    """Every short line is at a closed location: it makes no new promises until it is opened."""

    detail_names = ("short", "retry_after_ms")
    short: tuple[ShortLine, ...] = ()
    retry_after_ms: int | None = None

    def _explain(self) -> str:
        text = "; ".join(map(_short_text, self.short)) or "the location is closed"
        return f"{text}. Nothing changed; open the location or name another one"


class Expired(Refused):
    """The deadline has passed: the units are back in stock."""

    detail_names = ("reservation_id", "expired_at_unix_ms", "now_unix_ms")
    reservation_id: str = ""
    expired_at_unix_ms: int = 0
    now_unix_ms: int = 0

    def _explain(self) -> str:
        ago_ms = max(0, self.now_unix_ms - self.expired_at_unix_ms)
        return (
            f"reservation {self.reservation_id!r} expired at {self.expired_at_unix_ms} "
            f"({ago_ms:,} ms ago). Reserve again, or commit with if_expired='rehold'"
        )


class WrongState(Refused):
    """The reservation is past this step. Its present figures are the attributes."""

    detail_names = ("reservation_id", "state", "lines", "units", "ended_at_unix_ms", "lsn")
    reservation_id: str = ""
    state: State | None = None
    lines: tuple[ReservationLine, ...] = ()
    units: int = 0
    ended_at_unix_ms: int | None = None
    lsn: int = 0
    next_step: ClassVar[str] = "look at it with reservation()"

    def _explain(self) -> str:
        state = self.state.value if self.state is not None else self.code_name
        text = f"reservation {self.reservation_id!r} is {state} ({_units(self.units)})"
        if self.ended_at_unix_ms is not None:
            text += f", ended at {self.ended_at_unix_ms}"
        return f"{text}. Nothing changed; {self.next_step}"


class AlreadyCommitted(WrongState):
    """Nothing is held any more, something is allocated: ``cancel`` gives allocated units back."""

    next_step = "cancel() gives allocated units back"


class AlreadyReleased(WrongState):
    """The hold was released: its units are back in stock."""

    next_step = "reserve again under a new id"


class AlreadyCancelled(WrongState):
    """The reservation was cancelled: its units are back in stock."""

    next_step = "reserve again under a new id"


class AlreadyShipped(WrongState):
    """All units have left: goods that come back are a receipt."""

    next_step = "goods that come back are a receive()"


class Preempted(WrongState):
    """A reservation of a higher class took the units."""

    next_step = "reserve again under a new id"


class CasFailed(Refused):
    """``set_on_hand`` found another figure than ``if_on_hand``: ``actual`` is what is there."""

    detail_names = ("actual",)
    actual: int = 0

    def _explain(self) -> str:
        return (
            f"on_hand is {self.actual:,}, not what if_on_hand says. Nothing changed; "
            "look again and repeat with the present figure"
        )


class AsOfUnknown(Refused):
    """The position of a count is not known any more."""

    detail_names = ("oldest_lsn",)
    oldest_lsn: int = 0

    def _explain(self) -> str:
        return f"on_hand at that position is not known; the oldest known is {self.oldest_lsn}"


# ---- the thing named does not exist -------------------------------------------------------------


class Unknown(InventoryError, LookupError):
    """The thing named does not exist; nothing changed."""


class UnknownReservation(Unknown):
    """No such reservation: never made, refused, or ended longer ago than ids are kept."""

    detail_names = ("reservation_id",)
    reservation_id: str = ""

    def _explain(self) -> str:
        return (
            f"no reservation {self.reservation_id!r}: never made, refused, or ended longer ago "
            "than id_retention_ms"
        )


class UnknownSku(Unknown):
    """No stock was ever recorded for this SKU."""

    detail_names = ("sku",)
    sku: str = ""

    def _explain(self) -> str:
        return f"no SKU {self.sku!r}; receive() or set_policy() creates one"


class UnknownLocation(Unknown):
    """No stock was ever recorded at this location."""

    detail_names = ("location",)
    location: str = ""

    def _explain(self) -> str:
        return f"no location {self.location!r}; receive() or set_policy() creates one"


class EventsTrimmed(InventoryError):
    """Events asked for are no longer in the log: those above ``lsn``, up to ``lsn_end``, the oldest
    position there is. A consumer that was cut off raises it until it is reset."""

    detail_names = ("lsn", "lsn_end")
    lsn: int = 0
    lsn_end: int = 0

    def _explain(self) -> str:
        return (
            f"events above lsn {self.lsn} up to {self.lsn_end} are no longer in the log. Take the "
            f"present figures from the store, then go on after lsn {self.lsn_end}"
        )


# ---- the request is wrong -----------------------------------------------------------------------


class BadRequest(InventoryError, ValueError):
    """A value is out of its range or an option can't be used so. ``field`` is its path."""

    detail_names = ("field", "figure", "limit")
    field: str = ""
    figure: int | None = None
    limit: int | None = None

    def _explain(self) -> str:
        if self.limit is None:
            return f"{self.field or 'request'}: not a value that can be used"
        found = f" is {self.figure:,}" if self.figure is not None else ""
        return f"{self.field}{found}: out of range, the limit is {self.limit:,}"


class IdempotencyMismatch(InventoryError):
    """The id is known with another body: ``fields`` names what differs (``body`` for an ended
    reservation, of which only a hash is kept)."""

    detail_names = ("fields",)
    fields: tuple[str, ...] = ()

    def _explain(self) -> str:
        return (
            f"this id was used for another request: {', '.join(self.fields) or 'body'} differ. "
            "Nothing changed; repeat the request as it was or take a new id"
        )


class OverCommit(InventoryError):
    """A partial call names more units than are left: ``remaining`` says how many are."""

    detail_names = ("remaining",)
    remaining: tuple[RemainingLine, ...] = ()

    def _explain(self) -> str:
        text = "; ".join(
            f"{_place(line.sku, line.location)}: {_units(line.requested)} named, "
            f"{line.remaining:,} left"
            for line in self.remaining
        )
        return f"{text or 'more named than is left'}. Nothing changed; name at most what is left"


class QtyOutOfRange(InventoryError):
    """A counter of the row would leave 0 to 2,147,483,647."""

    detail_names = ("field", "figure", "limit")
    field: str = ""
    figure: int | None = None
    limit: int | None = None

    def _explain(self) -> str:
        return (
            f"{self.field or 'a counter'} would become {self.figure}, the limit is {self.limit}. "
            "Nothing changed"
        )


class LimitExceeded(InventoryError):
    """A named limit of the store is reached (lines of a call, locations, live holds)."""

    detail_names = ("field", "figure", "limit")
    field: str = ""
    figure: int | None = None
    limit: int | None = None

    def _explain(self) -> str:
        found = f"{self.figure:,} " if self.figure is not None else ""
        return f"{found}{self.field}: the limit is {self.limit}. Nothing changed"


class StaleId(InventoryError):
    """A UUIDv7 older than the window in which ended ids are remembered: it could be a repeat."""

    detail_names = ("reservation_id",)
    reservation_id: str = ""

    def _explain(self) -> str:
        return (
            f"id {self.reservation_id!r} is older than the ids still remembered, so it may be a "
            "repeat. Nothing changed; check what became of it, then take a new id"
        )


# ---- who asks, and when -------------------------------------------------------------------------


class Unauthenticated(InventoryError):
    """The caller did not say who it is."""

    def _explain(self) -> str:
        return "the caller is not known; send a key"


class Forbidden(InventoryError):
    """The caller's key does not allow this."""

    def _explain(self) -> str:
        return "this key does not allow it"


class RateLimited(InventoryError):
    """Too many requests of this caller; nothing was applied."""

    detail_names = ("retry_after_ms",)
    retry_after_ms: int | None = None

    def _explain(self) -> str:
        return f"too many requests. Nothing was applied; try again in {self.retry_after_ms} ms"


class Busy(InventoryError):
    """The engine is behind; nothing was applied."""

    detail_names = ("retry_after_ms",)
    retry_after_ms: int | None = None

    def _explain(self) -> str:
        return f"the engine is busy. Nothing was applied; try again in {self.retry_after_ms} ms"


class Lagging(InventoryError):
    """The position asked for is not there yet."""

    detail_names = ("lag",)
    lag: int = 0

    def _explain(self) -> str:
        return f"{self.lag:,} log bytes behind the position asked for; try again"


class NotLeader(InventoryError):
    """Another node decides; ``leader`` names it if known."""

    detail_names = ("leader",)
    leader: str | None = None

    def _explain(self) -> str:
        return f"this node does not decide; ask {self.leader or 'the leader'}"


class DiskFull(InventoryError):
    """No space for the log; nothing was applied.

    Reads go on; so do commit, ship, release and cancel while ``metrics().disk_state`` is 1.
    """

    detail_names = ("os_errno",)
    os_errno: int = 0

    def _explain(self) -> str:
        return "no space left for the log. Nothing was applied; make room and try again"


class NoMemory(InventoryError, MemoryError):
    """The allocator said no; nothing was applied."""

    def _explain(self) -> str:
        return "out of memory. Nothing was applied"


# ---- no answer (clients only) -------------------------------------------------------------------


class OutcomeUnknown(InventoryError):
    """A change was sent and no answer came: it was applied once or not at all.

    The same ``operation`` with the same ``reservation_id`` or ``op_id`` asks again, and is never
    applied twice. They are there also where the client made the id; ``op_ids`` are those of a batch
    (uint8[n, 16]).
    """

    detail_names = ("operation", "reservation_id", "op_id", "op_ids")
    operation: str = ""
    reservation_id: str | None = None
    op_id: str | None = None
    op_ids: Any = None

    def _explain(self) -> str:
        return f"no answer to {self.operation or 'the call'}. {self._next_step()}"

    def _next_step(self) -> str:
        for name in ("op_id", "reservation_id"):
            key = getattr(self, name)
            if key is not None:
                return f"It may have been applied; ask again with {name}={key!r}: it counts once"
        return "It may have been applied; ask again with the same ids: they count once"


class ProtocolError(OutcomeUnknown):
    """What came back is no answer of this protocol. The connection it came through was dropped."""

    def _explain(self) -> str:
        return f"the answer could not be read. {self._next_step()}"


class Unreachable(InventoryError):
    """No node answered in time, and nothing was applied: it was never sent, or it was a read."""

    detail_names = ("operation", "endpoint")
    operation: str = ""
    endpoint: str = ""

    def _explain(self) -> str:
        return (
            f"no answer from {self.endpoint or 'the node'} to {self.operation or 'the call'}. "
            "Nothing was applied; look whether the node runs there"
        )


# ---- the store as a whole -----------------------------------------------------------------------


class StoreError(InventoryError):
    """The store as a whole can't serve."""


class StoreClosed(StoreError):
    """The store is closed, or belongs to the parent of this forked process."""

    def _explain(self) -> str:
        return "the store is closed; open it again"


class StoreFailed(StoreError):
    """A sync failed or an invariant broke: this store refuses everything from now on."""

    detail_names = ("lsn", "os_errno")
    lsn: int = 0
    os_errno: int = 0

    def _explain(self) -> str:
        cause = f" ({os.strerror(self.os_errno)})" if self.os_errno else ""
        return (
            f"the store has failed{cause} and refuses everything. What was acknowledged is safe in "
            "the log: close it, look at the disk, open it again"
        )


class LogCorrupt(StoreError):
    """The log is damaged below a position that was durable: the store does not open."""

    detail_names = ("segment", "offset", "lsn", "lsn_end")
    segment: int = 0
    offset: int = 0
    lsn: int = 0
    lsn_end: int = 0

    def _explain(self) -> str:
        return (
            f"the log is damaged: segment {self.segment}, offset {self.offset}, "
            f"lsn {self.lsn} to {self.lsn_end}. Restore it from a copy"
        )


class StoreLocked(StoreError):
    """Another process or handle has the store open."""

    def _explain(self) -> str:
        return "the store is open elsewhere; close it there first"


class FormatUnknown(StoreError):
    """The files are of a format this release does not know."""

    detail_names = ("segment", "offset")
    segment: int = 0
    offset: int = 0

    def _explain(self) -> str:
        return "the files are of an unknown format; open them with the release that wrote them"


class IoError(StoreError, OSError):
    """The operating system refused on opening; ``os_errno`` says why."""

    detail_names = ("os_errno",)
    os_errno: int = 0

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.errno = self.os_errno or None

    def _explain(self) -> str:
        return os.strerror(self.os_errno) if self.os_errno else "input or output failed"


class _TakesLong(Exception):
    """Inner signal, never seen by a user: this call belongs in a thread, not on an event loop."""


# ---- the table ----------------------------------------------------------------------------------


class Code(NamedTuple):
    """One result code: its number in batches and on the wire, its name in HTTP bodies and logs, its
    HTTP status (``None``: never sent over HTTP), its class (``None``: success)."""

    number: int
    name: str
    http_status: int | None
    error: type[InventoryError] | None


CODES: dict[int, Code] = {
    code.number: code
    for code in (
        Code(0, "OK", 200, None),
        Code(1, "REPLAYED", 200, None),
        Code(10, "INSUFFICIENT", 409, InsufficientStock),
        Code(11, "EXPIRED", 410, Expired),
        Code(12, "ALREADY_COMMITTED", 409, AlreadyCommitted),
        Code(13, "ALREADY_RELEASED", 409, AlreadyReleased),
        Code(14, "ALREADY_CANCELLED", 409, AlreadyCancelled),
        Code(15, "ALREADY_SHIPPED", 409, AlreadyShipped),
        Code(16, "CLOSED", 409, LocationClosed),
        Code(17, "CAS_FAILED", 409, CasFailed),
        Code(18, "AS_OF_UNKNOWN", 409, AsOfUnknown),
        Code(19, "PREEMPTED", 409, Preempted),
        Code(20, "UNKNOWN_RESERVATION", 404, UnknownReservation),
        Code(21, "UNKNOWN_SKU", 404, UnknownSku),
        Code(22, "UNKNOWN_LOCATION", 404, UnknownLocation),
        Code(23, "EVENTS_TRIMMED", 410, EventsTrimmed),
        Code(30, "BAD_REQUEST", 422, BadRequest),
        Code(31, "IDEMPOTENCY_MISMATCH", 422, IdempotencyMismatch),
        Code(32, "OVER_COMMIT", 422, OverCommit),
        Code(33, "QTY_OUT_OF_RANGE", 422, QtyOutOfRange),
        Code(34, "LIMIT_EXCEEDED", 422, LimitExceeded),
        Code(35, "STALE_ID", 422, StaleId),
        Code(40, "UNAUTHENTICATED", 401, Unauthenticated),
        Code(41, "FORBIDDEN", 403, Forbidden),
        Code(50, "RATE_LIMITED", 429, RateLimited),
        Code(51, "BUSY", 503, Busy),
        Code(52, "LAGGING", 503, Lagging),
        Code(53, "NOT_LEADER", 421, NotLeader),
        Code(54, "DISK_FULL", 507, DiskFull),
        Code(55, "NO_MEMORY", 503, NoMemory),
        Code(60, "STORE_CLOSED", 503, StoreClosed),
        Code(61, "STORE_FAILED", 503, StoreFailed),
        Code(62, "LOG_CORRUPT", None, LogCorrupt),
        Code(63, "STORE_LOCKED", None, StoreLocked),
        Code(64, "FORMAT_UNKNOWN", None, FormatUnknown),
        Code(65, "IO_ERROR", None, IoError),
    )
}

for _code in CODES.values():
    if _code.error is not None:
        _code.error.code = _code.number
        _code.error.code_name = _code.name
        _code.error.http_status = _code.http_status


def error_for(number: int, message: str = "", **details: Any) -> InventoryError:
    """Make the exception of a result code.

    ``number`` is a code of :data:`CODES`; details the class does not carry are left out, so that
    the core can hand over what it has. Raises :class:`LookupError` for a number that is no error.

    >>> raise error_for(17, actual=12)
    Traceback (most recent call last):
        ...
    inventory.errors.CasFailed: on_hand is 12, not what if_on_hand says. Nothing changed; look \
again and repeat with the present figure
    """
    code = CODES.get(number)
    if code is None or code.error is None:
        raise LookupError(f"{number} is not the number of an error")
    names = code.error.detail_names
    known = {name: value for name, value in details.items() if name in names}
    return code.error(message, **known)
