# SPDX-License-Identifier: Apache-2.0
"""What the library answers to a request of the wire: the server's oracle.

``answer(inv, request)`` does to an embedded store what the request asks for, and gives
``(code, values)`` as the wire would. Times and lsns are left out on both sides: two stores do not
agree on them. ``plain(request, reply)`` brings a reply of the server into the same form.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

import inventory
from inventory import errors
from inventory.models import State

STATES = [None, *State]
FLAGS = {"safety": 1, "rehold": 2, "keep": 4, "shorten": 8, "tombstone": 16, "strict": 32}
BITS = {"lines": 1, "account": 2, "ttl_ms": 4, "body": 8, "kind": 16}
BATCHES = {33: "receive_batch", 34: "issue_batch", 35: "adjust_batch"}
ENDS = {36: "commit_batch", 37: "ship_batch", 38: "release_batch", 39: "cancel_batch"}

Plain = tuple[int, list[Any]]


def value_at(request: list[Any], position: int, default: Any = None) -> Any:
    value = request[position] if len(request) > position else None
    return default if value is None else value


def id_of(value: Any) -> Any:
    return str(uuid.UUID(bytes=value)) if isinstance(value, bytes) else value


def lines_of(value: Any) -> Any:
    return None if value is None else [tuple(line) for line in value]


def who(request: list[Any], position: int, *, why: int | None = None) -> dict[str, Any]:
    """Give account and seller from `position`, reason and reference from `why`."""
    why = position + 2 if why is None else why
    return {
        "account": value_at(request, position, ""),
        "seller": value_at(request, position + 1, "default"),
        "reason": value_at(request, why, ""),
        "reference": value_at(request, why + 1, ""),
    }


def reservation(found: inventory.Reservation) -> Plain:
    lines = [
        [line.sku, line.location, line.qty, line.held, line.allocated, line.shipped,
         line.backordered]
        for line in found.lines
    ]  # fmt: skip
    values = [
        STATES.index(found.state), lines, found.units, found.expires_at_unix_ms is not None,
        found.ended_at_unix_ms is not None, found.reheld,
    ]  # fmt: skip
    return int(found.replayed), values


def level(found: Any) -> list[int]:
    return [
        found.on_hand, found.held, found.allocated, found.reserved, found.available,
        found.available_to_promise, found.safety_stock, found.short, found.backordered,
        found.incoming, found.unsellable,
    ]  # fmt: skip


def by_place(lines: list[list[Any]]) -> list[list[Any]]:
    """Bring short lines into one order: theirs is that of a hash with a key of the store's own."""
    return sorted(lines, key=lambda line: (line[0], line[1] or ""))


def refusal(error: errors.InventoryError) -> Plain:
    code = error.code
    if isinstance(error, errors.InsufficientStock | errors.LocationClosed):
        short = [
            [line.sku, line.location, line.requested, line.available_to_promise, line.closed,
             list(line.alternatives)]
            for line in error.short
        ]  # fmt: skip
        return code, [by_place(short), error.retry_after_ms is not None]
    if isinstance(error, errors.OverCommit):
        remaining = [[x.sku, x.location, x.requested, x.remaining] for x in error.remaining]
        return code, [by_place(remaining)]
    if isinstance(error, errors.WrongState):
        lines = [
            [x.sku, x.location, x.qty, x.held, x.allocated, x.shipped, x.backordered]
            for x in error.lines
        ]
        return code, [STATES.index(error.state), lines, error.units]
    if isinstance(error, errors.CasFailed):
        return code, [error.actual]
    if isinstance(error, errors.IdempotencyMismatch):
        return code, [sum(BITS[name] for name in error.fields)]
    if isinstance(error, errors.BadRequest | errors.QtyOutOfRange | errors.LimitExceeded):
        return code, [error.field]
    return code, []


def answer(inv: inventory.Inventory, request: list[Any]) -> Plain:
    try:
        return perform(inv, request)
    except errors.InventoryError as error:
        return refusal(error)


def perform(inv: inventory.Inventory, request: list[Any]) -> Plain:
    op = request[2]
    if op <= 2:
        return perform_reserve(inv, request)
    if op <= 7:
        return perform_by_id(inv, request)
    if op <= 12:
        return perform_stock(inv, request)
    if op == 16:
        found = inv.availability(request[4], request[5], seller=value_at(request, 7, "default"))
        return 0, [level(found)]
    if op == 17:
        whole = inv.availability(request[4], seller=value_at(request, 6, "default"))
        rows = [[row.location, *level(row)] for row in whole.levels]
        return 0, [level(whole.totals), rows]
    assert op == 18
    return reservation(inv.reservation(id_of(request[4]), seller=value_at(request, 5, "default")))


def perform_reserve(inv: inventory.Inventory, request: list[Any]) -> Plain:
    single = request[2] == 1
    ttl = 8 if single else 6
    options = {
        "reservation_id": id_of(request[4]),
        "ttl_ms": value_at(request, ttl),
        "use_safety_stock": bool(value_at(request, ttl + 3, 0) & FLAGS["safety"]),
        **who(request, ttl + 1, why=ttl + 4),
    }
    if single:
        return reservation(inv.reserve(request[5], request[7], location=request[6], **options))
    return reservation(inv.reserve_lines(lines_of(request[5]), **options))


def perform_by_id(inv: inventory.Inventory, request: list[Any]) -> Plain:
    op, flags = request[2], value_at(request, 5, 0)
    if op == 7:
        return reservation(
            inv.extend(
                id_of(request[4]),
                ttl_ms=request[6],
                shorten=bool(flags & FLAGS["shorten"]),
                **who(request, 7),
            )
        )
    options: dict[str, Any] = {
        "lines": lines_of(value_at(request, 6)),
        "op_id": id_of(value_at(request, 7)),
        **who(request, 8),
    }
    if op == 3:
        options["final"] = not flags & FLAGS["keep"]
        options["if_expired"] = "rehold" if flags & FLAGS["rehold"] else None
    if op == 5:
        options["tombstone"] = bool(flags & FLAGS["tombstone"])
    call = {3: inv.commit, 4: inv.ship, 5: inv.release, 6: inv.cancel}[op]
    return reservation(call(id_of(request[4]), **options))


def perform_stock(inv: inventory.Inventory, request: list[Any]) -> Plain:
    op, sku, location, figure = request[2], request[4], request[5], request[6]
    at = 8 if op == 11 else 7
    options: dict[str, Any] = {
        "op_id": id_of(value_at(request, at)),
        **who(request, at + 2),
    }
    if op == 12:
        change = inv.set_policy(sku, location, safety_stock=figure, **options)
        return int(change.replayed), []
    if op == 10:
        options["strict"] = bool(value_at(request, at + 1, 0) & FLAGS["strict"])
        found = inv.adjust(sku, location, figure, **options)
    elif op == 11:
        found = inv.set_on_hand(sku, location, figure, if_on_hand=request[7], **options)
    else:
        found = (inv.receive if op == 8 else inv.issue)(sku, location, figure, **options)
    return int(found.replayed), [level(found.level)]


def plain(request: list[Any], reply: list[Any]) -> Plain:
    """Bring a reply into the form of answer(): no times, and names for indexes."""
    op, code, body = request[2], reply[2], reply[5:]
    if code in (10, 16):
        return code, [by_place(named(request, body[0])), body[1] is not None]
    if code == 32:
        return code, [by_place(named(request, body[0]))]
    if code in (12, 13, 14, 15, 19):
        return code, [body[0], body[1], body[2]]
    if code in (30, 33, 34):
        return code, [body[0]]
    if code in (17, 31):
        return code, body
    if code > 1:
        return code, []
    if op <= 7 or op == 18:
        state, lines, units, expires, ended, _, bits = body
        return code, [state, named(request, lines), units, expires is not None,
                      ended is not None, bool(bits & 1)]  # fmt: skip
    if op == 17:
        return code, [body[0], body[2]]
    return code, body[:-1]


def named(request: list[Any], lines: list[list[Any]]) -> list[list[Any]]:
    asked = [[request[5], request[6]]] if request[2] == 1 else None
    if request[2] == 2:
        asked = request[5]
    elif request[2] <= 6 and request[2] > 2:
        asked = value_at(request, 6)
    elif 8 <= request[2] <= 12:
        asked = [[request[4], request[5]]]
    found = []
    for line in lines:
        sku, location = line[:2]
        if isinstance(sku, int):
            assert asked is not None
            sku, location = asked[sku][0], location or asked[sku][1]
        found.append([sku, location, *line[2:]])
    return found


def batch(inv: inventory.Inventory, request: list[Any]) -> bytes:
    """Do a batch to the embedded store; the codes, or the levels."""
    op = request[2]
    if op == 41:
        return inv.availability_batch(u32(request[4]), u16(request[5])).tobytes()
    ids = None if request[4] is None else np.frombuffer(request[4], "uint8").reshape(-1, 16)
    if op == 32:
        ttl = request[8] if isinstance(request[8], int) else u32(request[8])
        codes = inv.reserve_batch(
            u32(request[5]), u16(request[6]), i64(request[7]), ids, ttl_ms=ttl
        )
    elif op in BATCHES:
        codes = getattr(inv, BATCHES[op])(
            u32(request[5]), u16(request[6]), i64(request[7]), op_ids=ids
        )
    elif op == 40:
        codes = inv.extend_batch(ids, ttl_ms=request[5])
    else:
        codes = getattr(inv, ENDS[op])(ids)
    return bytes(codes.tobytes())


def u32(data: bytes) -> Any:
    return np.frombuffer(data, "<u4")


def u16(data: bytes) -> Any:
    return np.frombuffer(data, "<u2")


def i64(data: bytes) -> Any:
    return np.frombuffer(data, "<i8")
