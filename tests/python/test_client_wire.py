# SPDX-License-Identifier: Apache-2.0
"""The clients and the reference node against the test vectors of docs/wire.md."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from reference_node import Node

import inventory
from inventory import errors
from inventory.client import _wire
from inventory.client._requests import OPERATIONS
from inventory.models import State
from inventory.testing import ManualClock, MemoryStorage

VECTORS = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parents[1] / "wire" / "vectors.json").read_text())[
        "vectors"
    ]
}
ID_1, ID_2 = (f"0190a5b2-c3d4-7123-8a4b-5c6d7e8f900{n}" for n in (1, 2))
NOW_MS = 1765986617408


def ids(*texts: str) -> Any:
    raw = b"".join(uuid.UUID(text).bytes for text in texts)
    return np.frombuffer(raw, "uint8").reshape(-1, 16)


def column(dtype: str, *values: int) -> Any:
    return np.array(values, dtype)


# What a user calls, by the name of its vector: (operation, arguments, options).
CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "reserve": ("reserve", ("TEE", 2), {"location": "LON", "reservation_id": "cart-1"}),
    "reserve_free": ("reserve", ("TEE", 5), {"reservation_id": ID_1, "ttl_ms": 60_000}),
    "reserve_insufficient": (
        "reserve",
        ("TEE", 500),
        {"location": "LON", "reservation_id": "cart-2"},
    ),
    "reserve_replayed": ("reserve", ("TEE", 2), {"location": "LON", "reservation_id": "cart-1"}),
    "reserve_mismatch": (
        "reserve",
        ("TEE", 3),
        {"location": "LON", "reservation_id": "cart-1", "ttl_ms": 1},
    ),
    "reserve_qty_too_large": (
        "reserve",
        ("TEE", 1 << 31),
        {"location": "LON", "reservation_id": "cart-3"},
    ),
    "reserve_lines_bad_line": (
        "reserve_lines",
        ([("TEE", None, 1), inventory.Line("MUG", 0, location="LON")],),
        {"reservation_id": "cart-5"},
    ),
    "commit": ("commit", ("cart-1",), {}),
    "commit_part": (
        "commit",
        ("cart-4",),
        {"lines": [("MUG", "LON", 1)], "final": False, "op_id": "op-1"},
    ),
    "commit_rehold": ("commit", ("cart-6",), {"if_expired": "rehold"}),
    "commit_expired": ("commit", ("cart-7",), {}),
    "commit_over": ("commit", ("cart-4",), {"lines": [("MUG", "LON", 9)], "op_id": ID_2}),
    "ship": ("ship", ("cart-1",), {}),
    "release_tombstone": ("release", (ID_1,), {"tombstone": True}),
    "cancel": (
        "cancel",
        ("cart-1",),
        {
            "account": "web",
            "seller": "acme",
            "reason": "changed mind",
            "reference": "order-9",
        },
    ),
    "extend": ("extend", ("cart-1",), {"ttl_ms": 900_000}),
    "extend_shorten": ("extend", ("cart-1",), {"ttl_ms": 1_000, "shorten": True}),
    "receive": ("receive", ("TEE", "LON", 100), {"op_id": "po-7"}),
    "issue": (
        "issue",
        ("TEE", "LON", 1),
        {"op_id": ID_1.upper(), "account": "web", "reason": "sale", "reference": "bill-3"},
    ),
    "set_on_hand": ("set_on_hand", ("TEE", "LON", 97), {"if_on_hand": 100, "op_id": "count-1"}),
    "availability": ("availability", ("TEE", "LON"), {}),
    "availability_relaxed": ("availability", ("TEE", "LON"), {"relaxed": True, "seller": "acme"}),
    "availability_sku": ("availability", ("TEE",), {}),
    "availability_unknown_sku": ("availability", ("NOPE", "LON"), {}),
    "reservation": ("reservation", ("cart-1",), {}),
    "reservation_unknown": ("reservation", (ID_1,), {"seller": "acme"}),
    "sku_ids": ("sku_ids", (["TEE", "MUG", "NOPE"],), {}),
    "sku_ids_create": ("sku_ids", (["CAP"],), {"create": True, "seller": "acme"}),
    "location_ids": ("location_ids", (["LON", "PAR"],), {}),
    "location_ids_unknown": ("location_ids", (["LON", "MOON"],), {}),
    "sku_names": ("sku_names", (column("uint32", 0, 4096),), {}),
    "location_names": ("location_names", (column("uint16", 1),), {}),
    "reserve_batch": (
        "reserve_batch",
        (column("uint32", 0, 4096), column("uint16", 0, 0xFFFF), column("int64", 2, 6)),
        {"reservation_ids": ids(ID_1, ID_2), "ttl_ms": 60_000, "account": "web"},
    ),
    "reserve_batch_ttls": (
        "reserve_batch",
        (column("uint32", 0, 4096), column("uint16", 0, 0), column("int64", 2, 6)),
        {"reservation_ids": ids(ID_1, ID_2), "ttl_ms": column("uint32", 60_000, 90_000)},
    ),
    "issue_batch": (
        "issue_batch",
        (column("uint32", 0), column("uint16", 0), column("int64", 1)),
        {"op_ids": ids(ID_1)},
    ),
    "adjust_batch": (
        "adjust_batch",
        (column("uint32", 0), column("uint16", 0), column("int64", -1)),
        {"op_ids": ids(ID_2), "reason": "damage"},
    ),
    "commit_batch": ("commit_batch", (ids(ID_1, ID_2),), {}),
    "ship_batch": ("ship_batch", (ids(ID_1),), {}),
    "release_batch": ("release_batch", (ids(ID_1),), {"seller": "acme"}),
    "cancel_batch": ("cancel_batch", (np.zeros((0, 16), "uint8"),), {}),
    "extend_batch": ("extend_batch", (ids(ID_1),), {"ttl_ms": 90_000}),
}


def plain(value: Any) -> Any:
    """A value of a vector as msgpack gives it."""
    if isinstance(value, dict):
        return bytes.fromhex(value["bin"])
    return [plain(item) for item in value] if isinstance(value, list) else value


def request_of(name: str) -> tuple[_wire.Request, Any]:
    """The (first) request of a call, and the plan that takes its answer, if it is one."""
    operation, args, options = CALLS[name]
    asked = OPERATIONS[operation](*args, **options)
    return (asked, None) if isinstance(asked, _wire.Request) else (next(asked), asked)


def answer_of(name: str, correlation: int | None = None) -> Any:
    """What the caller gets of the vector's reply."""
    request, plan = request_of(name)
    (reply,) = _wire.replies_of(bytes.fromhex(VECTORS[name]["reply_hex"]))
    answer = request.answer(reply)
    if plan is None or isinstance(answer, _wire.Again):
        return answer
    try:
        plan.send(answer)
    except StopIteration as end:
        return end.value
    raise AssertionError("a plan that asks for more")


@pytest.mark.parametrize("name", CALLS)
def test_requests_are_those_of_the_vectors(name: str) -> None:
    request, _ = request_of(name)
    (wanted,) = plain(VECTORS[name]["request"])
    sent = msgpack.unpackb(_wire.request_bytes(request, wanted[1], 1_234))
    assert sent[:4] == [1, wanted[1], wanted[2], [None, 1_234]]
    while wanted[-1] is None and len(wanted) > 4:
        wanted.pop()
    assert sent[4:] == wanted[4:]


@pytest.mark.parametrize(
    ("left_ms", "said_ms"),
    [(-5, 1), (0, 1), (1, 1), (86_400_000, 86_400_000), (1 << 40, 86_400_000)],
)
def test_the_deadline_that_a_node_is_told(left_ms: int, said_ms: int) -> None:
    request, _ = request_of("commit")
    assert msgpack.unpackb(_wire.request_bytes(request, 1, left_ms))[3] == [None, said_ms]


def test_every_reply_of_the_vectors_has_the_form_of_one() -> None:
    seen = 0
    for vector in VECTORS.values():
        if not vector.get("reply"):
            continue
        wanted = plain(vector["reply"])
        if any(reply[1] is None for reply in wanted):
            with pytest.raises(errors.ProtocolError):
                _wire.replies_of(bytes.fromhex(vector["reply_hex"]))
            continue
        found = _wire.replies_of(bytes.fromhex(vector["reply_hex"]))
        assert [
            [1, one.correlation, one.code, one.lsn, one.mark, *one.rest] for one in found
        ] == wanted
        seen += 1
    assert seen > 80


def test_answers_are_the_librarys_own_types() -> None:
    hold = answer_of("reserve")
    assert hold == inventory.Reservation(
        reservation_id="cart-1",
        state=State.HELD,
        lines=(inventory.ReservationLine("TEE", "LON", 2, 2, 0, 0, 0),),
        expires_at_unix_ms=1765987217408,
        ended_at_unix_ms=None,
        lsn=8720,
        replayed=False,
        reheld=False,
        now_unix_ms=NOW_MS,
        units=2,
    )
    assert answer_of("reserve_replayed").replayed
    assert answer_of("reserve_free").reservation_id == ID_1
    assert [line.location for line in answer_of("reserve_free").lines] == ["LON", "PAR"]
    assert answer_of("commit_rehold").reheld
    assert answer_of("release_tombstone").state is State.RELEASED
    level = inventory.StockLevel("TEE", "LON", 100, 2, 0, 2, 98, 98, 0, 0, 0, 0, 0, 8720, NOW_MS)
    assert answer_of("receive") == inventory.StockChange(level, 8720, False, NOW_MS)
    assert answer_of("availability") == level
    found = answer_of("availability_sku")
    assert (found.totals.on_hand, [one.on_hand for one in found.levels]) == (103, [100, 3])
    assert answer_of("sku_ids").tolist() == [0, 4096, 0xFFFFFFFF]
    assert answer_of("sku_ids_create").dtype == np.uint32
    assert answer_of("location_ids").tolist() == [0, 1]
    assert answer_of("location_ids").dtype == np.uint16
    assert answer_of("sku_names") == ["TEE", "MUG"]
    assert answer_of("reserve_batch").tolist() == [0, 10]
    assert answer_of("commit_batch").tolist() == [0, 20]
    assert answer_of("cancel_batch").tolist() == []


def test_a_busy_row_is_asked_for_again() -> None:
    again = answer_of("reserve_batch_ttls")
    assert isinstance(again, _wire.Again)
    assert again.pause
    sent = msgpack.unpackb(_wire.request_bytes(again.request, 1, 1))
    assert sent[4] == uuid.UUID(ID_2).bytes  # the second row alone
    assert sent[8] == (90_000).to_bytes(4, "little")


REFUSALS: dict[str, tuple[type[inventory.InventoryError], dict[str, Any]]] = {
    "reserve_insufficient": (
        inventory.InsufficientStock,
        {
            "short": (inventory.ShortLine("TEE", "LON", 500, 98, False, ("PAR",)),),
            "retry_after_ms": None,
        },
    ),
    "reserve_mismatch": (inventory.IdempotencyMismatch, {"fields": ("lines", "ttl_ms")}),
    "reserve_qty_too_large": (
        inventory.BadRequest,
        {"field": "qty", "figure": 1 << 31, "limit": (1 << 31) - 1},
    ),
    "reserve_lines_bad_line": (
        inventory.BadRequest,
        {"field": "lines[1].qty", "figure": 0, "limit": 1},
    ),
    "commit_expired": (
        inventory.Expired,
        {
            "reservation_id": "cart-7",
            "expired_at_unix_ms": 1765986616408,
            "now_unix_ms": NOW_MS,
        },
    ),
    "commit_over": (
        inventory.OverCommit,
        {"remaining": (inventory.models.RemainingLine("MUG", "LON", 9, 1),)},
    ),
    "availability_unknown_sku": (inventory.UnknownSku, {"sku": "NOPE"}),
    "reservation_unknown": (inventory.UnknownReservation, {"reservation_id": ID_1}),
    "location_ids_unknown": (errors.UnknownLocation, {"location": "MOON"}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_the_librarys_own_errors(name: str) -> None:
    kind, details = REFUSALS[name]
    with pytest.raises(kind) as caught:
        answer_of(name)
    assert {key: getattr(caught.value, key) for key in details} == details
    assert str(caught.value)


def test_every_code_has_its_error() -> None:
    """With the fewest fields, as a later release may send them, and with too many."""
    request, _ = request_of("receive")
    for code, known in errors.CODES.items():
        if known.error is None:
            continue
        for rest in ([], [None, None, None, None, None, None, None, "more"]):
            if code in (17, 18, 31, 52, *range(11, 16), 19, 30, 33, 34) and rest:
                continue  # figures that may not be nil
            error = _wire.error_of(_wire.Reply(1, code, 0, 3, list(rest)), request)
            assert type(error) is known.error, code
            assert str(error)


def test_lines_that_had_no_room_are_asked_for() -> None:
    request, _ = request_of("cancel")
    reply = [1, 22, 0, 8720, 3, 6, None, 2, None, NOW_MS, NOW_MS, 0]
    again = request.answer(_wire.replies_of(msgpack.packb(reply))[0])
    assert isinstance(again, _wire.Again)
    assert again.applied
    sent = msgpack.unpackb(_wire.request_bytes(again.request, 23, 1))
    assert sent[2:] == [18, [None, 1], "cart-1", "acme"]
    rest = [1, [["TEE", "LON", 2, 2, 0, 0, 0]], 2, None, None, NOW_MS + 5, 0]
    found = again.request.answer(_wire.replies_of(msgpack.packb([1, 23, 0, 9999, 3, *rest]))[0])
    assert (found.state, found.lsn, found.now_unix_ms) == (State.CANCELLED, 8720, NOW_MS)
    assert [line.sku for line in found.lines] == ["TEE"]


# ---- the reference node -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name, vector in VECTORS.items() if vector.get("refused")]
)
def test_the_reference_node_refuses_as_the_vectors_say(name: str) -> None:
    clock = ManualClock(NOW_MS)
    with inventory.open(clock=clock, storage=MemoryStorage()) as inv:
        node = Node(inv)
        assert node.mark == 3
        reply = node.answer([bytes.fromhex(VECTORS[name]["request_hex"])])
        assert unpacked(reply) == plain(VECTORS[name]["reply"])
        assert inv.metrics().commands == 0


def unpacked(message: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(None, max_buffer_size=1 << 20)
    unpacker.feed(message)
    return list(unpacker)
