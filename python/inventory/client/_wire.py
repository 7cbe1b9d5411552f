# SPDX-License-Identifier: Apache-2.0
"""Protocol v1, the client's side: calls to request bytes, reply bytes to results and errors.

docs/wire.md is the contract. Nothing here knows a socket, a clock or a retry. What a node sends is
checked before it is believed: every reply goes through a fixed shape, and whatever does not fit is
a :class:`ProtocolError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import msgpack
import msgspec

from inventory.errors import CODES, InventoryError, ProtocolError, error_for
from inventory.models import (
    Node,
    PolicyChange,
    RemainingLine,
    Reservation,
    ReservationLine,
    ShortLine,
    SkuAvailability,
    State,
    StockChange,
    StockLevel,
    StockTotals,
)

__all__ = ["Op", "Reply", "Request", "replies_of", "request_bytes"]

VERSION = 1
REPLY_BYTES_MAX = 16 << 20  # of a reply message: the server sends no more
MESSAGE_BYTES_SURE = 64 << 10  # of a message: every server takes so many, most take more
MESSAGE_REQUESTS_MAX = 256  # put into one message; a server takes 4,096
MESSAGE_LINES_MAX = 16_384
_REPLY_REQUESTS_MAX = 4_096  # replies in one message: no more requests fit into one
_ARRAY_MAX = 1 << 16  # values of an array: a SKU has at most 65,535 rows
_ASK_MS_MAX = 86_400_000

OK, REPLAYED = 0, 1
_SHORT_CODES = frozenset({10, 16})
_STATE_CODES = frozenset({11, 12, 13, 14, 15, 19})
_LIMIT_CODES = frozenset({30, 33, 34})
_MISMATCH_FIELDS = ((1, "lines"), (2, "account"), (4, "ttl_ms"), (8, "body"), (16, "kind"))
# Nothing was applied, and the same request may do better in a moment: RATE_LIMITED, BUSY, and
# STORE_CLOSED, which a server that is being restarted says.
RETRY_CODES = frozenset({50, 51, 60})
_STATES: tuple[State | None, ...] = (None, *State)  # by number; a test holds them against the core


class Op:
    """Numbers of the operations."""

    RESERVE = 1
    RESERVE_LINES = 2
    COMMIT = 3
    SHIP = 4
    RELEASE = 5
    CANCEL = 6
    EXTEND = 7
    RECEIVE = 8
    ISSUE = 9
    ADJUST = 10
    SET_ON_HAND = 11
    SET_POLICY = 12
    AVAILABILITY = 16
    AVAILABILITY_SKU = 17
    RESERVATION = 18
    SKU_IDS = 24
    LOCATION_IDS = 25
    SKU_NAMES = 26
    LOCATION_NAMES = 27
    RESERVE_BATCH = 32
    RECEIVE_BATCH = 33
    ISSUE_BATCH = 34
    ADJUST_BATCH = 35
    COMMIT_BATCH = 36
    SHIP_BATCH = 37
    RELEASE_BATCH = 38
    CANCEL_BATCH = 39
    EXTEND_BATCH = 40
    AVAILABILITY_BATCH = 41
    HELLO = 48
    BARRIER = 50


class Flag:
    """Bits of ``flags``."""

    USE_SAFETY_STOCK = 1
    REHOLD = 2
    KEEP_REST = 4
    SHORTEN = 8
    TOMBSTONE = 16
    STRICT = 32
    RELAXED = 64
    CREATE = 128


class Request(msgspec.Struct, frozen=True, eq=False):
    """One call as it goes over the wire, without correlation and ask, and what reads its answer.

    ``tail`` are the msgpack values behind ``ask``, ``item_count`` how many. ``names`` are the
    (sku, location) of the call's lines: replies refer to them. ``plain`` is the same call without
    the ``op_id`` that the client made, see :func:`_plain_again`.
    """

    operation: str
    op: int
    tail: bytes
    item_count: int
    read: Callable[[Reply, Request], Any]
    changes: bool = True
    line_count: int = 1
    names: Sequence[tuple[str, str | None]] = ()
    reservation_id: str | None = None
    seller: str | None = None  # None: the default
    op_id: str | None = None
    op_ids: Any = None
    plain: Request | None = None

    def answer(self, reply: Reply) -> Any:
        """The result a reply holds; :class:`Again` when another request must be asked for it.

        Raises:
            The error it holds; ProtocolError when it fits no reply to this request.
        """
        if reply.code > REPLAYED:
            if self.plain is not None and reply.code in _NOTHING_LEFT_CODES:
                return Again(self.plain)
            raise error_of(reply, self)
        return self.read(reply, self)


class Again(msgspec.Struct, frozen=True):
    """The call needs one more request: after a ``pause`` (and if the deadline comes first, what is
    there will do), or since it is ``applied`` but its lines had no room in the reply."""

    request: Request
    pause: bool = False
    applied: bool = False


# A partial commit or ship that finds nothing left is a replay where what was done is just what it
# names. The node judges that only of calls without op_id, so it is asked once more without the one
# that the client made: there is nothing left that the call could change.
_NOTHING_LEFT_CODES = frozenset({12, 15})


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The head of a reply, and the rest as it came."""

    correlation: int | None
    code: int
    lsn: int
    mark: int
    rest: list[Any]


# ---- bytes --------------------------------------------------------------------------------------

_encode = msgspec.msgpack.Encoder().encode


def tail_bytes(fields: list[Any]) -> tuple[bytes, int]:
    """The values of a request behind `ask`, and how many: None at the end is left out."""
    while fields and fields[-1] is None:
        fields.pop()
    assert len(fields) <= 11  # with the four before them an array of one byte of header
    return _encode(fields)[1:], len(fields)


def request_bytes(request: Request, correlation: int, left_ms: int) -> bytes:
    """The whole request, to be begun with by the server within ``left_ms``."""
    ask = [None, min(max(1, left_ms), _ASK_MS_MAX)]
    head = _encode([VERSION, correlation, request.op, ask])
    return bytes((head[0] + request.item_count,)) + head[1:] + request.tail


class _Head(msgspec.Struct, array_like=True):
    version: int
    correlation: int | None
    code: int
    lsn: int
    mark: int


def replies_of(frame: bytes) -> list[Reply]:
    """Take a reply message apart.

    Raises:
        ProtocolError: it is none.
    """
    if len(frame) > REPLY_BYTES_MAX:
        raise ProtocolError(f"a reply message of {len(frame):,} bytes")
    # One decoder a message, thrown away after it: one that has failed must not be used again.
    unpacker = msgpack.Unpacker(
        None, max_buffer_size=max(1, len(frame)), max_array_len=min(_ARRAY_MAX, len(frame))
    )
    unpacker.feed(frame)
    replies: list[Reply] = []
    try:
        while unpacker.tell() < len(frame):
            if len(replies) == _REPLY_REQUESTS_MAX:
                raise ValueError("too many replies")
            replies.append(_reply_of(unpacker.unpack()))
    except Exception as error:  # a decoder's own, of any kind
        raise ProtocolError(
            f"a reply message can't be read: {type(error).__name__} {error}"[:200]
        ) from None
    if not replies:
        raise ProtocolError("an empty reply message")
    return replies


def _reply_of(value: Any) -> Reply:
    head = msgspec.convert(value, _Head)
    if head.version != VERSION:
        raise ValueError(f"version {head.version}")
    if head.correlation is None:
        raise ValueError(f"a request could not be read: {value[2:8]!r}")
    if min(head.correlation, head.code, head.lsn, head.mark) < 0:
        raise ValueError("a negative figure")
    return Reply(head.correlation, head.code, head.lsn, head.mark, value[5:])


_Shape = TypeVar("_Shape")


def _shaped(reply: Reply, shape: type[_Shape]) -> _Shape:
    """The rest of a reply as it should be; more positions than that are of a later release."""
    try:
        return msgspec.convert(reply.rest, shape)
    except msgspec.ValidationError as error:
        _refuse(f"a reply of another shape: {error}")


def _refuse(message: str) -> NoReturn:
    raise ProtocolError(message[:200])


# ---- results ------------------------------------------------------------------------------------


class _Line(msgspec.Struct, array_like=True):
    sku: str | int
    location: str | None
    qty: int
    held: int
    allocated: int
    shipped: int
    backordered: int


class _Reservation(msgspec.Struct, array_like=True):
    state: int
    lines: list[_Line] | None
    units: int
    expires_at_unix_ms: int | None
    ended_at_unix_ms: int | None
    now_unix_ms: int
    bits: int


class _Figures(msgspec.Struct, array_like=True):
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


class _Change(msgspec.Struct, array_like=True):
    level: _Figures
    now_unix_ms: int


class _Policy(msgspec.Struct, array_like=True):
    now_unix_ms: int


class _Row(msgspec.Struct, array_like=True):
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


class _Sku(msgspec.Struct, array_like=True):
    totals: _Figures
    now_unix_ms: int
    rows: list[_Row]


class _Texts(msgspec.Struct, array_like=True):
    texts: list[str]


class _Hello(msgspec.Struct, array_like=True):
    server: str
    store: bytes
    durability: int
    interval_ms: int
    now_unix_ms: int
    limits: list[int]
    features: list[str]


def _plain(figures: msgspec.Struct) -> Any:
    """The figures in the order of the library's own types, which is that of the wire."""
    return msgspec.structs.astuple(figures)


def _state_of(number: int) -> State | None:
    if not 0 <= number < len(_STATES):
        _refuse(f"a reply with state {number}")
    return _STATES[number]


def _sku_of(sku: str | int, request: Request) -> str:
    """A name, or which line of the request has it."""
    if isinstance(sku, str):
        return sku
    if not 0 <= sku < len(request.names):
        _refuse(f"a reply about line {sku} of {len(request.names)}")
    return request.names[sku][0]


def _lines_of(lines: list[_Line] | None, request: Request) -> tuple[ReservationLine, ...]:
    return tuple(
        [
            ReservationLine(
                line.sku if isinstance(line.sku, str) else _sku_of(line.sku, request),
                line.location,
                line.qty,
                line.held,
                line.allocated,
                line.shipped,
                line.backordered,
            )
            for line in lines or ()
        ]
    )


def read_reservation(reply: Reply, request: Request) -> Reservation | Again:
    """Of the operations on a reservation. Lines that had no room are asked for by themselves."""
    found = _shaped(reply, _Reservation)
    state = _state_of(found.state)
    if state is None:
        _refuse("a reservation without a state")
    assert request.reservation_id is not None
    reservation = Reservation(
        request.reservation_id,
        state,
        _lines_of(found.lines, request),
        found.expires_at_unix_ms,
        found.ended_at_unix_ms,
        reply.lsn,
        reply.code == REPLAYED,
        bool(found.bits & 1),
        found.now_unix_ms,
        found.units,
    )
    if found.lines is None and request.op != Op.RESERVATION:
        return Again(_lines_request(reservation, request), applied=True)
    return reservation


def _lines_request(reservation: Reservation, request: Request) -> Request:
    def read(reply: Reply, asked: Request) -> Reservation:
        found = read_reservation(reply, asked)
        assert isinstance(found, Reservation)
        return msgspec.structs.replace(reservation, lines=found.lines)

    tail, item_count = tail_bytes([request.reservation_id, request.seller])
    return msgspec.structs.replace(
        request, op=Op.RESERVATION, tail=tail, item_count=item_count, read=read, plain=None
    )


def read_change(reply: Reply, request: Request) -> StockChange:
    """Of receive, issue, adjust and set_on_hand."""
    found = _shaped(reply, _Change)
    return StockChange(
        _level(found.level, reply, request, found.now_unix_ms),
        reply.lsn,
        reply.code == REPLAYED,
        found.now_unix_ms,
    )


def _level(figures: _Figures, reply: Reply, request: Request, now_unix_ms: int) -> StockLevel:
    fields: tuple[Any, ...] = (*request.names[0], *_plain(figures), reply.lsn, now_unix_ms)
    return StockLevel(*fields)


def read_policy(safety_stock: int) -> Callable[[Reply, Request], PolicyChange]:
    def read(reply: Reply, request: Request) -> PolicyChange:
        now_unix_ms = _shaped(reply, _Policy).now_unix_ms
        sku, location = request.names[0]
        replayed = reply.code == REPLAYED
        return PolicyChange(sku, location, safety_stock, reply.lsn, replayed, now_unix_ms)

    return read


def read_level(reply: Reply, request: Request) -> StockLevel:
    found = _shaped(reply, _Change)
    return _level(found.level, reply, request, found.now_unix_ms)


def read_sku(reply: Reply, request: Request) -> SkuAvailability:
    found = _shaped(reply, _Sku)
    sku = request.names[0][0]
    asof = (reply.lsn, found.now_unix_ms)
    rows: list[tuple[Any, ...]] = [(sku, *_plain(row), *asof) for row in found.rows]
    levels = tuple([StockLevel(*row) for row in rows])
    return SkuAvailability(sku, levels, StockTotals(*_plain(found.totals)), *asof)


def read_lsn(reply: Reply, request: Request) -> int:
    return reply.lsn


def read_texts(count: int) -> Callable[[Reply, Request], list[str]]:
    def read(reply: Reply, request: Request) -> list[str]:
        texts = _shaped(reply, _Texts).texts
        if len(texts) != count:
            _refuse(f"{len(texts)} names for {count} numbers")
        return texts

    return read


def column_of(reply: Reply, size: int) -> bytes:
    """Of batches and numbers: one bin of so many bytes."""
    data = reply.rest[0] if reply.rest else None
    if not isinstance(data, bytes) or len(data) != size:
        _refuse(f"a reply without the {size} bytes asked for")
    return data


def read_column(size: int) -> Callable[[Reply, Request], bytes]:
    return lambda reply, request: column_of(reply, size)


def read_hello(reply: Reply, request: Request) -> Node:
    found = _shaped(reply, _Hello)
    if not 0 <= found.durability <= 2 or len(found.store) != 16 or len(found.limits) < 8:
        _refuse("a HELLO of another shape")
    return Node(
        found.server,
        found.store.hex(),
        ("durable", "interval", "memory")[found.durability],
        found.interval_ms,
        reply.mark >> 1,
        reply.lsn,
        found.now_unix_ms,
        found.limits[0],
        tuple(found.features),
    )


# ---- errors -------------------------------------------------------------------------------------


class _Short(msgspec.Struct, array_like=True):
    sku: str | int
    location: str | None
    requested: int
    available_to_promise: int
    closed: bool
    alternatives: list[str]


class _Remaining(msgspec.Struct, array_like=True):
    sku: str | int
    location: str | None
    requested: int
    remaining: int


class _ShortReply(msgspec.Struct, array_like=True):
    short: list[_Short] | None = None
    retry_after_ms: int | None = None


class _StateReply(msgspec.Struct, array_like=True):
    state: int = 0
    lines: list[_Line] | None = None
    units: int = 0
    ended_at_unix_ms: int | None = None
    lsn: int = 0
    now_unix_ms: int = 0


class _LimitReply(msgspec.Struct, array_like=True):
    path: str = ""
    figure: int | None = None
    limit: int | None = None


class _RemainingReply(msgspec.Struct, array_like=True):
    remaining: list[_Remaining] | None = None


class _FigureReply(msgspec.Struct, array_like=True):
    figure: int = 0


class _RetryReply(msgspec.Struct, array_like=True):
    retry_after_ms: int | None = None


class _TextReply(msgspec.Struct, array_like=True):
    text: str | None = None


def may_do_better(reply: Reply) -> bool:
    """Whether nothing was applied and the same request may be taken in a moment.

    So it is also with a message that the node could not read: what left here was good, so it was
    damaged on its way.
    """
    return reply.code in RETRY_CODES or (reply.code == 30 and reply.rest[:1] == ["message"])


def retry_after_ms(reply: Reply) -> int:
    """What BUSY and RATE_LIMITED ask for; 0: nothing."""
    if reply.code not in (50, 51):
        return 0
    return max(0, _shaped(reply, _RetryReply).retry_after_ms or 0)


def error_of(reply: Reply, request: Request) -> InventoryError:
    """The error a reply holds, as the library raises it."""
    code = reply.code
    known = CODES.get(code)
    if known is None or known.error is None:
        return InventoryError(f"the node refuses with code {code}, unknown to this release")
    return error_for(code, "", **_details_of(reply, request))


def _details_of(reply: Reply, request: Request) -> dict[str, Any]:
    code = reply.code
    if code in _SHORT_CODES:
        found = _shaped(reply, _ShortReply)
        return {
            "short": tuple(
                ShortLine(
                    _sku_of(line.sku, request),
                    _location_of(line.sku, line.location, request),
                    line.requested,
                    line.available_to_promise,
                    line.closed,
                    tuple(line.alternatives),
                )
                for line in found.short or ()
            ),
            "retry_after_ms": found.retry_after_ms,
        }
    if code in _STATE_CODES:
        return _state_details(_shaped(reply, _StateReply), request)
    if code in _LIMIT_CODES:
        limit = _shaped(reply, _LimitReply)
        return {"field": limit.path, "figure": limit.figure, "limit": limit.limit}
    if code == 31:
        bits = _shaped(reply, _FigureReply).figure
        return {"fields": tuple(name for bit, name in _MISMATCH_FIELDS if bits & bit)}
    if code == 32:
        return {
            "remaining": tuple(
                RemainingLine(
                    _sku_of(line.sku, request),
                    _location_of(line.sku, line.location, request),
                    line.requested,
                    line.remaining,
                )
                for line in _shaped(reply, _RemainingReply).remaining or ()
            )
        }
    if code in (17, 18, 52):
        figure = _shaped(reply, _FigureReply).figure
        return {"actual": figure, "oldest_lsn": figure, "lag": figure}
    if code in (50, 51):
        return {"retry_after_ms": _shaped(reply, _RetryReply).retry_after_ms}
    if code == 53:
        return {"leader": _shaped(reply, _TextReply).text}
    return {
        "reservation_id": request.reservation_id or request.op_id,
        "sku": request.names[0][0] if request.names else "",
        "location": _unknown_location(_shaped(reply, _TextReply).text or "", request)
        if code == 22
        else "",
    }


def _state_details(found: _StateReply, request: Request) -> dict[str, Any]:
    return {
        "reservation_id": request.reservation_id,
        "state": _state_of(found.state),
        "lines": _lines_of(found.lines, request),
        "units": found.units,
        "lsn": found.lsn,
        "ended_at_unix_ms": found.ended_at_unix_ms,
        "expired_at_unix_ms": found.ended_at_unix_ms or 0,
        "now_unix_ms": found.now_unix_ms,
    }


def _location_of(sku: str | int, location: str | None, request: Request) -> str | None:
    """A name, or of a line of the request what that says."""
    if location is not None or isinstance(sku, str):
        return location
    return request.names[sku][1]


_INDEX = re.compile(r"\[(\d{1,9})\]")


def _unknown_location(path: str, request: Request) -> str:
    found = _INDEX.search(path)
    index = int(found[1]) if found else 0
    return (request.names[index][1] or "") if index < len(request.names) else ""
