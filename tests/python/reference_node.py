# SPDX-License-Identifier: Apache-2.0
"""A second implementation of docs/wire.md, written from that page: a ROUTER over the library.

It is slow and plain, and shares no code with the server or the clients, its msgpack reader
included. Tests of clients run against it, and the test vectors are held against it.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import numpy as np
import zmq

import inventory
from inventory import errors

REQUESTS_MAX = 4_096
LINES_MAX = 16_384
ROWS_MAX = 16_384
NAMES_MAX = 4_096
QTY_MAX = 2_147_483_647
REPLY_BYTES_MAX = 16 << 20
DEPTH_MAX = 4
STATES = [
    *("HELD", "BACKORDERED", "ALLOCATED", "SHIPPED", "RELEASED", "CANCELLED", "EXPIRED"),
    *("CANCELLED_SHORT", "PREEMPTED"),
]
MISMATCH = {"lines": 1, "account": 2, "ttl_ms": 4, "body": 8, "kind": 16}


# ---- msgpack, as far as a request may go --------------------------------------------------------


class Broken(Exception):
    """The framing breaks here."""

    def __init__(self, at: int, begun: Any = None) -> None:
        super().__init__(at)
        self.at = at
        self.begun = begun  # values of the outermost array read before


class Odd(NamedTuple):
    """A value that no request has: a map, a float, an ext, text that is not UTF-8."""

    what: str
    size: int


class Reader:
    """Reads msgpack values one by one, and trusts no length."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise EOFError
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def value(self, depth: int = 1) -> Any:
        begin = self.at
        try:
            return self.whole(depth, begin)
        except EOFError:
            raise Broken(begin) from None

    def whole(self, depth: int, begin: int) -> Any:
        tag = self.number("B")
        if tag <= 0x7F:
            return tag
        if tag >= 0xE0:
            return tag - 256
        if tag <= 0x8F:
            return self.map(tag & 15, depth, begin)
        if tag <= 0x9F:
            return self.array(tag & 15, depth, begin)
        if tag <= 0xBF:
            return self.text(tag & 31)
        if tag in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if tag == 0xC1:
            raise Broken(begin)
        if tag in (0xC4, 0xC5, 0xC6):
            return self.take(self.number("BHI"[tag - 0xC4]))
        if tag in (0xC7, 0xC8, 0xC9):
            return self.ext(self.number("BHI"[tag - 0xC7]))
        if tag in (0xCA, 0xCB):
            self.take(4 if tag == 0xCA else 8)
            return Odd("float", 0)
        if 0xCC <= tag <= 0xD3:
            return self.number("BHIQbhiq"[tag - 0xCC])
        if 0xD4 <= tag <= 0xD8:
            return self.ext(1 << (tag - 0xD4))
        if tag <= 0xDB:
            return self.text(self.number("BHI"[tag - 0xD9]))
        if tag <= 0xDD:
            return self.array(self.number("HI"[tag - 0xDC]), depth, begin)
        return self.map(self.number("HI"[tag - 0xDE]), depth, begin)

    def text(self, size: int) -> Any:
        data = self.take(size)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return Odd("text", size)

    def ext(self, size: int) -> Odd:
        self.take(size + 1)
        return Odd("ext", size)

    def array(self, count: int, depth: int, begin: int) -> list[Any]:
        if depth > DEPTH_MAX or count > len(self.data) - self.at:
            raise Broken(begin)
        found: list[Any] = []
        for _ in range(count):
            try:
                found.append(self.value(depth + 1))
            except Broken as broken:
                raise Broken(broken.at, found) from None
        return found

    def map(self, count: int, depth: int, begin: int) -> Odd:
        if depth > DEPTH_MAX or 2 * count > len(self.data) - self.at:
            raise Broken(begin)
        for _ in range(2 * count):
            self.value(depth + 1)
        return Odd("map", count)


# ---- the form of requests -----------------------------------------------------------------------


class Wrong(Exception):
    """A request that is wrong in itself."""

    def __init__(
        self, path: str, figure: int | None = None, limit: int | None = None, code: int = 30
    ) -> None:
        super().__init__(path)
        self.path, self.figure, self.limit, self.code = path, figure, limit, code


class Spec(NamedTuple):
    """An operation: its positions from 4 on, how many of them are required, its flags."""

    name: str
    positions: tuple[str, ...]
    required: int
    flags: int = 0


def _spec(name: str, required: str, optional: str = "", flags: int = 0) -> Spec:
    positions = (*required.split(), *optional.split())
    return Spec(name, positions, len(required.split()), flags)


_WHO = "account seller reason reference"
_PART = f"flags lines op_id {_WHO}"
_STOCK = f"op_id flags {_WHO}"
_MOVED = "op_ids sku_ids location_ids qty", "account seller reason"
SPECS = {
    1: _spec("reserve", "reservation_id sku location qty",
             "ttl_ms account seller flags reason reference", 1),
    2: _spec("reserve_lines", "reservation_id lines",
             "ttl_ms account seller flags reason reference", 1),
    3: _spec("commit", "reservation_id", _PART, 6),
    4: _spec("ship", "reservation_id", _PART),
    5: _spec("release", "reservation_id", _PART, 16),
    6: _spec("cancel", "reservation_id", _PART),
    7: _spec("extend", "reservation_id flags ttl_ms", _WHO, 8),
    8: _spec("receive", "sku location qty", _STOCK),
    9: _spec("issue", "sku location qty", _STOCK),
    10: _spec("adjust", "sku location delta", _STOCK, 32),
    11: _spec("set_on_hand", "sku location qty if_on_hand", _STOCK),
    12: _spec("set_policy", "sku location safety_stock", _STOCK),
    16: _spec("availability", "sku location", "flags seller", 64),
    17: _spec("availability_sku", "sku", "flags seller", 64),
    18: _spec("reservation", "reservation_id", "seller"),
    24: _spec("sku_ids", "names", "flags seller", 128),
    25: _spec("location_ids", "names", "flags", 128),
    26: _spec("sku_names", "numbers"),
    27: _spec("location_names", "numbers"),
    32: _spec("reserve_batch", "reservation_ids sku_ids location_ids qty ttl_ms",
              "account seller"),
    33: _spec("receive_batch", *_MOVED),
    34: _spec("issue_batch", *_MOVED),
    35: _spec("adjust_batch", "op_ids sku_ids location_ids delta", "account seller reason"),
    36: _spec("commit_batch", "reservation_ids", "account seller"),
    37: _spec("ship_batch", "reservation_ids", "account seller"),
    38: _spec("release_batch", "reservation_ids", "account seller"),
    39: _spec("cancel_batch", "reservation_ids", "account seller"),
    40: _spec("extend_batch", "reservation_ids ttl_ms", "account seller"),
    41: _spec("availability_batch", "sku_ids location_ids", "flags", 64),
    48: _spec("hello", "", "client"),
    49: _spec("ping", ""),
    50: _spec("barrier", "", "lsn"),
}  # fmt: skip
# Required positions that may be nil all the same.
_NIL_TOO = {(1, "location"), (7, "flags"), (12, "location"),
            (33, "op_ids"), (34, "op_ids"), (35, "op_ids")}  # fmt: skip
_COLUMNS = {
    "sku_ids": ("<u4", 4),
    "location_ids": ("<u2", 2),
    "reservation_ids": ("u1", 16),
    "op_ids": ("u1", 16),
}


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Node:
    """Answers messages. ``moody`` may say a code that refuses a request before it is looked at."""

    def __init__(
        self,
        inv: inventory.Inventory,
        *,
        moody: Callable[[], int] = lambda: 0,
        message_bytes_max: int = 1 << 20,
        chance: random.Random | None = None,
    ) -> None:
        self.inv = inv
        self.moody = moody
        self.message_bytes_max = message_bytes_max
        self.chance = chance
        self.applied = 0  # requests that were looked at
        self.mark = 2 * inv.recovery.epoch + 1

    # ---- messages --------------------------------------------------------------------------------

    def answer(self, frames: list[bytes]) -> bytes:
        """The reply message."""
        if len(frames) != 1:
            return self._spell([self._refusal(None, Wrong("message"))])
        reader = Reader(frames[0])
        requests: list[Any] = []
        if not frames[0]:
            return self._spell([self._refusal(None, Wrong("message", 0, 0))])
        try:
            while reader.at < len(reader.data):
                requests.append(reader.value())
        except Broken as broken:
            wrong = Wrong("message", broken.at, len(frames[0]))
            heads = [*map(self._correlation, requests), self._correlation(broken.begun)]
            return self._spell([self._refusal(head, wrong) for head in heads])
        if len(requests) > REQUESTS_MAX:
            wrong = Wrong("requests", len(requests), REQUESTS_MAX, 34)
            heads = [self._correlation(request) for request in requests[:REQUESTS_MAX]]
            return self._spell([self._refusal(head, wrong) for head in heads])
        return self._spell([self._reply(request) for request in requests])

    @staticmethod
    def _spell(replies: list[list[Any]]) -> bytes:
        return b"".join(map(msgpack.packb, replies))

    @staticmethod
    def _correlation(request: Any) -> int | None:
        if isinstance(request, list) and len(request) > 1 and is_int(request[1]):
            return request[1] if request[1] >= 0 else None
        return None

    def _refusal(self, correlation: int | None, wrong: Wrong) -> list[Any]:
        return [1, correlation, wrong.code, 0, self.mark, wrong.path, wrong.figure, wrong.limit]

    def _reply(self, request: Any) -> list[Any]:
        try:
            if not isinstance(request, list):
                raise Wrong("request")
            return self._judge(request)
        except Wrong as wrong:
            return self._refusal(self._correlation(request), wrong)
        except inventory.InventoryError as error:
            return self._error(request, error)

    # ---- one request -----------------------------------------------------------------------------

    def _judge(self, request: list[Any]) -> list[Any]:
        if not request or not is_int(request[0]):
            raise Wrong("version")
        if request[0] != 1:
            raise Wrong("version", request[0], 1)
        if self._correlation(request) is None:
            raise Wrong("correlation")
        if len(request) < 3 or not is_int(request[2]) or request[2] not in SPECS:
            known = len(request) > 2 and is_int(request[2])
            raise Wrong("op", *([request[2], max(SPECS)] if known else []))
        spec = SPECS[request[2]]
        if len(request) - 4 > len(spec.positions):
            raise Wrong("positions", len(request), 4 + len(spec.positions))
        self._ask(request[3] if len(request) > 3 else None, request[2])
        given = dict(zip(spec.positions, request[4:], strict=False))
        values = {
            name: self._position(request[2], spec, name, given.get(name), at)
            for at, name in enumerate(spec.positions)
        }
        code = self.moody() if request[2] != 48 else 0
        if code:
            return [1, request[1], code, 0, self.mark, *([3] if code in (50, 51) else [])]
        self.applied += 1
        options = {name: value for name, value in values.items() if value is not None}
        code, lsn, rest = getattr(self, "do_" + spec.name)(options)
        return [1, request[1], code, lsn, self.mark, *rest]

    def _ask(self, ask: Any, op: int) -> None:
        if ask is None:
            return
        if not isinstance(ask, list):
            raise Wrong("ask")
        if len(ask) > 3:
            raise Wrong("ask", len(ask), 3)
        durability, deadline_ms, min_lsn = [*ask, None, None, None][:3]
        for name, value, low, high in (
            ("durability", durability, 0, 2),
            ("deadline_ms", deadline_ms, 1, 86_400_000),
            ("min_lsn", min_lsn, 0, (1 << 64) - 1),
        ):
            if value is None:
                continue
            if not is_int(value):
                raise Wrong(f"ask.{name}")
            if not low <= value <= high:
                raise Wrong(f"ask.{name}", value, high if value > high else low)
        if min_lsn is not None:
            if op not in (16, 17, 18, 41):
                raise Wrong("ask.min_lsn")
            lag = min_lsn - self.inv.metrics().lsn_appended
            if lag > 0:
                raise errors.Lagging(lag=lag)

    def _position(self, op: int, spec: Spec, name: str, value: Any, at: int) -> Any:
        if value is None:
            if at < spec.required and (op, name) not in _NIL_TOO:
                raise Wrong(name)
            return None
        if name in ("sku", "location"):
            return self._named(name, value, name)
        if name == "lines":
            return self._lines(value)
        if name == "names":
            return self._names(value)
        if name in _COLUMNS:
            return self._column(name, value)
        if name == "numbers":
            return self._bin(name, value, *(("<u4", 4) if op == 26 else ("<u2", 2)))
        if name in ("reservation_id", "op_id"):
            return self._id(name, value)
        if name in ("qty", "delta") and 32 <= op <= 41:
            return self._bin(name, value, "<i8", 8)
        if name == "ttl_ms" and isinstance(value, bytes) and 32 <= op <= 41:
            return self._bin(name, value, "<u4", 4)
        if name in ("account", "seller", "reason", "reference", "client"):
            return self._text(name, value)
        if not is_int(value):
            raise Wrong(name)
        if name == "flags" and (value < 0 or value & ~spec.flags):
            raise Wrong("flags", value, spec.flags)
        if not -(1 << 63) <= value < 1 << 63:  # no figure of ours goes so far
            raise Wrong(name, (1 << 63) - 1, QTY_MAX)
        if name == "ttl_ms" and value < 1:
            raise Wrong(name, value, 1)
        return value

    @staticmethod
    def _text(path: str, value: Any) -> str:
        if isinstance(value, Odd) and value.what == "text":
            raise Wrong(path, value.size)
        if not isinstance(value, str):
            raise Wrong(path)
        return value

    def _named(self, kind: str, value: Any, path: str) -> Any:
        """A name; a number stands for one. Location 65535 is none."""
        if not is_int(value):
            return self._text(path, value)
        if kind == "location" and value == 0xFFFF:
            return None
        names = self.inv.sku_names if kind == "sku" else self.inv.location_names
        most = 0xFFFFFFFF if kind == "sku" else 0xFFFF
        if not 0 <= value <= most:
            raise Wrong(path, value, most)
        try:
            return names(np.array([value], "u4" if kind == "sku" else "u2"))[0]
        except errors.BadRequest:
            raise Wrong(path, value) from None

    @staticmethod
    def _id(path: str, value: Any) -> str:
        if isinstance(value, bytes):
            if len(value) != 16:
                raise Wrong(path, len(value), 16)
            h = value.hex()
            return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        return Node._text(path, value)

    def _lines(self, value: Any) -> list[tuple[Any, Any, Any]]:
        if not isinstance(value, list):
            raise Wrong("lines")
        found = []
        for i, line in enumerate(value):
            if not isinstance(line, list) or len(line) != 3:
                raise Wrong(f"lines[{i}]")
            sku, location, qty = line
            if not is_int(qty):
                raise Wrong(f"lines[{i}].qty")
            if location is not None:
                location = self._named("location", location, f"lines[{i}].location")
            found.append((self._named("sku", sku, f"lines[{i}].sku"), location, qty))
        return found

    def _names(self, value: Any) -> list[str]:
        if not isinstance(value, list):
            raise Wrong("names")
        if len(value) > NAMES_MAX:
            raise Wrong("names", len(value), NAMES_MAX, 34)
        return [self._text(f"names[{i}]", name) for i, name in enumerate(value)]

    @staticmethod
    def _bin(path: str, value: Any, dtype: str, size: int) -> np.ndarray[Any, Any]:
        if not isinstance(value, bytes) or len(value) % size:
            raise Wrong(path)
        if len(value) // size > ROWS_MAX:
            raise Wrong(path, len(value) // size, ROWS_MAX, 34)
        found = np.frombuffer(value, dtype)
        return found.reshape(-1, 16) if size == 16 else found

    def _column(self, name: str, value: Any) -> np.ndarray[Any, Any]:
        dtype, size = _COLUMNS[name]
        return self._bin(name, value, dtype, size)

    # ---- operations ------------------------------------------------------------------------------

    def _flags(self, options: dict[str, Any], **names: int) -> dict[str, Any]:
        flags = options.pop("flags", 0)
        return {name: bool(flags & bit) for name, bit in names.items()}

    def _reservation(self, found: inventory.Reservation, skus: list[str] | None = None) -> Any:
        lines = [
            [
                skus.index(line.sku) if skus is not None and not found.replayed else line.sku,
                line.location,
                line.qty,
                line.held,
                line.allocated,
                line.shipped,
                line.backordered,
            ]
            for line in found.lines
        ]
        rest = [
            STATES.index(found.state) + 1,
            lines,
            found.units,
            found.expires_at_unix_ms,
            found.ended_at_unix_ms,
            found.now_unix_ms,
            int(found.reheld),
        ]
        return int(found.replayed), found.lsn, rest

    def do_reserve(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, use_safety_stock=1)
        sku = options["sku"]
        return self._reservation(self.inv.reserve(options.pop("sku"), **options), [sku])

    def do_reserve_lines(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, use_safety_stock=1)
        lines = options.pop("lines")
        found = self.inv.reserve_lines(lines, **options)
        return self._reservation(found, [line[0] for line in lines])

    def do_commit(self, options: dict[str, Any]) -> Any:
        flags = options.pop("flags", 0)
        options["final"] = not flags & 4
        options["if_expired"] = "rehold" if flags & 2 else None
        return self._reservation(self.inv.commit(**options))

    def do_ship(self, options: dict[str, Any]) -> Any:
        options.pop("flags", 0)
        return self._reservation(self.inv.ship(**options))

    def do_release(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, tombstone=16)
        return self._reservation(self.inv.release(**options))

    def do_cancel(self, options: dict[str, Any]) -> Any:
        options.pop("flags", 0)
        return self._reservation(self.inv.cancel(**options))

    def do_extend(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, shorten=8)
        return self._reservation(self.inv.extend(**options))

    def do_reservation(self, options: dict[str, Any]) -> Any:
        return self._reservation(self.inv.reservation(**options))

    @staticmethod
    def _figures(level: Any) -> list[int]:
        names = (
            "on_hand held allocated reserved available available_to_promise safety_stock short "
            "backordered incoming unsellable"
        )
        return [getattr(level, name) for name in names.split()]

    def _change(self, change: inventory.StockChange) -> Any:
        rest = [self._figures(change.level), change.now_unix_ms]
        return int(change.replayed), change.lsn, rest

    def do_receive(self, options: dict[str, Any]) -> Any:
        options.pop("flags", 0)
        return self._change(self.inv.receive(**options))

    def do_issue(self, options: dict[str, Any]) -> Any:
        options.pop("flags", 0)
        return self._change(self.inv.issue(**options))

    def do_adjust(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, strict=32)
        return self._change(self.inv.adjust(**options))

    def do_set_on_hand(self, options: dict[str, Any]) -> Any:
        options.pop("flags", 0)
        return self._change(self.inv.set_on_hand(**options))

    def do_set_policy(self, options: dict[str, Any]) -> Any:
        options.pop("flags", 0)
        change = self.inv.set_policy(**options)
        return int(change.replayed), change.lsn, [change.now_unix_ms]

    def do_availability(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, relaxed=64)
        level = self.inv.availability(**options)
        return 0, level.lsn, [self._figures(level), level.now_unix_ms]

    def do_availability_sku(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, relaxed=64)
        found = self.inv.availability(**options)
        rows = [[level.location, *self._figures(level)] for level in found.levels]
        return 0, found.lsn, [self._figures(found.totals), found.now_unix_ms, rows]

    def do_sku_ids(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, create=128)
        return 0, self.lsn, [self.inv.sku_ids(**options).astype("<u4").tobytes()]

    def do_location_ids(self, options: dict[str, Any]) -> Any:
        options |= self._flags(options, create=128)
        return 0, self.lsn, [self.inv.location_ids(**options).astype("<u2").tobytes()]

    def _names_of(self, names: Callable[..., list[str]], numbers: Any) -> Any:
        if len(numbers) > NAMES_MAX:
            raise Wrong("numbers", len(numbers), NAMES_MAX, 34)
        try:
            return 0, self.lsn, [names(numbers)]
        except errors.BadRequest as error:
            raise Wrong("numbers" + error.field[error.field.index("[") :]) from None

    def do_sku_names(self, options: dict[str, Any]) -> Any:
        return self._names_of(self.inv.sku_names, options["numbers"])

    def do_location_names(self, options: dict[str, Any]) -> Any:
        return self._names_of(self.inv.location_names, options["numbers"])

    def _same_length(self, options: dict[str, Any]) -> int:
        """Rows of a batch: those of its first column, and of every other."""
        columns = {key: value for key, value in options.items() if isinstance(value, np.ndarray)}
        count = len(next(iter(columns.values())))
        for key, column in columns.items():
            if len(column) != count:
                raise Wrong(key, len(column), count)
        return count

    def _batch(self, name: str, options: dict[str, Any]) -> Any:
        """The library's batch; in a bad mood, without some of its rows."""
        count = self._same_length(options)
        taken = np.ones(count, bool)
        if self.chance is not None and self.chance.random() < 0.3:
            taken = np.array([self.chance.random() < 0.7 for _ in range(count)], bool)
        some = {
            key: value[taken] if isinstance(value, np.ndarray) else value
            for key, value in options.items()
        }
        codes = np.full(count, 51, np.uint8)
        codes[taken] = getattr(self.inv, name)(**some)
        return 0, self.lsn, [codes.tobytes()]

    def do_availability_batch(self, options: dict[str, Any]) -> Any:
        self._same_length(options)
        options.pop("flags", 0)
        return 0, self.lsn, [self.inv.availability_batch(**options).tobytes()]

    def do_hello(self, options: dict[str, Any]) -> Any:
        found = self.inv.metrics()
        limits = [self.message_bytes_max, REQUESTS_MAX, LINES_MAX, 4_096, ROWS_MAX, NAMES_MAX,
                  REPLY_BYTES_MAX, 30_000]  # fmt: skip
        rest = ["reference", bytes(16), 0, 0, found.now_unix_ms, limits, []]
        return 0, found.lsn_appended, rest

    def do_ping(self, options: dict[str, Any]) -> Any:
        return 0, 0, []

    def do_barrier(self, options: dict[str, Any]) -> Any:
        lsn = options.get("lsn")
        found = self.inv.barrier()
        if lsn is not None and lsn > found:
            raise errors.Lagging(lag=lsn - found)
        return 0, found, []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_") and name.endswith("_batch"):
            return lambda options: self._batch(name[3:], options)
        raise AttributeError(name)

    @property
    def lsn(self) -> int:
        return self.inv.metrics().lsn_appended

    # ---- errors ----------------------------------------------------------------------------------

    def _error(self, request: list[Any], error: inventory.InventoryError) -> list[Any]:
        head = [1, request[1], error.code, self.lsn, self.mark]
        match error:
            case errors.InsufficientStock() | errors.LocationClosed():
                short = [
                    [line.sku, line.location, line.requested, line.available_to_promise,
                     line.closed, list(line.alternatives)]
                    for line in error.short
                ]  # fmt: skip
                return [*head, short, error.retry_after_ms]
            case errors.Expired():
                return [*head, 7, [], 0, error.expired_at_unix_ms or None, 0, error.now_unix_ms]
            case errors.WrongState():
                state = STATES.index(error.state) + 1 if error.state is not None else 0
                lines = [
                    [line.sku, line.location, line.qty, line.held, line.allocated, line.shipped,
                     line.backordered]
                    for line in error.lines
                ]  # fmt: skip
                rest = [state, lines, error.units, error.ended_at_unix_ms, error.lsn, 0]
                return [*head, *rest]
            case errors.CasFailed():
                return [*head, error.actual]
            case errors.UnknownLocation():
                names = request[4] if isinstance(request[4], list) else []
                at = names.index(error.location) if error.location in names else None
                return [*head, "location" if at is None else f"names[{at}]"]
            case errors.BadRequest() | errors.QtyOutOfRange() | errors.LimitExceeded():
                return [*head, error.field, error.figure, error.limit]
            case errors.IdempotencyMismatch():
                return [*head, sum(MISMATCH[name] for name in error.fields)]
            case errors.OverCommit():
                return [
                    *head,
                    [[line.sku, line.location, line.requested, line.remaining]
                     for line in error.remaining],
                ]  # fmt: skip
            case errors.Lagging():
                return [*head, error.lag]
        return head


class Served:
    """A node behind a ROUTER socket, on a thread of its own. ``endpoint`` is where."""

    def __init__(self, node: Node, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.node = node
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, node.message_bytes_max)
        self._socket.bind(endpoint)
        self.endpoint = self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reference-node", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(20):
                continue
            peer, *frames = self._socket.recv_multipart()
            self._socket.send_multipart([peer, self.node.answer(frames)])

    def close(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
