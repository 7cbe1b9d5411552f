# SPDX-License-Identifier: Apache-2.0
"""Wrong input: each gives the named error, says which field and limit, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import inventory
from inventory import BadRequest, IdempotencyMismatch, Inventory, StoreClosed
from inventory.errors import DiskFull, IoError, LimitExceeded, QtyOutOfRange, StoreLocked
from inventory.testing import ManualClock, MemoryStorage

QTY_MAX = 2_147_483_647
TTL_MS_MAX = 30 * 86_400_000
SURROGATE = "T\ud800"

OpenStore = Callable[..., Inventory]


def picture(inv: Inventory) -> tuple[Any, ...]:
    """All that a refused call must leave alone."""
    rows = tuple(inv.availability(sku) for sku in ("TEE", "MUG"))
    report = inv.verify()
    assert report.ok, report.problems
    return rows, report, inv.metrics().lsn_appended, inv.reservation("kept")


@pytest.fixture
def kept(inv: Inventory) -> Inventory:
    """The usual stock, and 3 TEE of LON under the id "kept"."""
    inv.reserve("TEE", 3, location="LON", reservation_id="kept")
    return inv


Call = Callable[[Inventory], object]

WRONG_TYPE: dict[str, Call] = {
    "float qty": lambda inv: inv.reserve("TEE", 1.0),  # type: ignore[arg-type]
    "bool qty": lambda inv: inv.reserve("TEE", True),
    "str qty": lambda inv: inv.reserve("TEE", "1"),  # type: ignore[arg-type]
    "None qty": lambda inv: inv.reserve("TEE", None),  # type: ignore[arg-type]
    "float qty received": lambda inv: inv.receive("TEE", "LON", 2.5),  # type: ignore[arg-type]
    "bool qty issued": lambda inv: inv.issue("TEE", "LON", True),
    "bool delta": lambda inv: inv.adjust("TEE", "LON", False),
    "float count": lambda inv: inv.set_on_hand("TEE", "LON", 1.0, if_on_hand=10),  # type: ignore[arg-type]
    "bool if_on_hand": lambda inv: inv.set_on_hand("TEE", "LON", 1, if_on_hand=True),
    "float safety_stock": lambda inv: inv.set_policy("TEE", safety_stock=1.5),  # type: ignore[arg-type]
    "bytes sku": lambda inv: inv.reserve(b"TEE", 1),  # type: ignore[arg-type]
    "int sku": lambda inv: inv.reserve(7, 1),  # type: ignore[arg-type]
    "None sku": lambda inv: inv.reserve(None, 1),  # type: ignore[arg-type]
    "int location": lambda inv: inv.reserve("TEE", 1, location=1),  # type: ignore[arg-type]
    "None location": lambda inv: inv.receive("TEE", None, 1),  # type: ignore[arg-type]
    "int reservation_id": lambda inv: inv.reserve("TEE", 1, reservation_id=17),  # type: ignore[arg-type]
    "None reservation_id": lambda inv: inv.commit(None),  # type: ignore[arg-type]
    "int op_id": lambda inv: inv.receive("TEE", "LON", 1, op_id=7),  # type: ignore[arg-type]
    "None account": lambda inv: inv.reserve("TEE", 1, account=None),  # type: ignore[arg-type]
    "None seller": lambda inv: inv.reserve("TEE", 1, seller=None),  # type: ignore[arg-type]
    "float ttl_ms": lambda inv: inv.reserve("TEE", 1, ttl_ms=1.5),  # type: ignore[arg-type]
    "bool ttl_ms": lambda inv: inv.extend("kept", ttl_ms=True),
    "int final": lambda inv: inv.commit("kept", final=1),  # type: ignore[arg-type]
    "int tombstone": lambda inv: inv.release("kept", tombstone=1),  # type: ignore[arg-type]
    "None use_safety_stock": lambda inv: inv.reserve("TEE", 1, use_safety_stock=None),  # type: ignore[arg-type]
    "lines of two": lambda inv: inv.reserve_lines([("TEE", 1)]),  # type: ignore[list-item]
    "lines of text": lambda inv: inv.reserve_lines("TEE"),  # type: ignore[arg-type]
    "no lines": lambda inv: inv.reserve_lines(None),  # type: ignore[arg-type]
    "float in a line": lambda inv: inv.reserve_lines([("TEE", None, 1.0)]),  # type: ignore[list-item]
    "bytes in a line": lambda inv: inv.commit("kept", lines=[(b"TEE", "LON", 1)]),  # type: ignore[list-item]
    "int sku read": lambda inv: inv.availability(1),  # type: ignore[call-overload]
    "option unknown": lambda inv: inv.reserve("TEE", 1, ttl=1),  # type: ignore[call-arg]
    "positional option": lambda inv: inv.reserve("TEE", 1, "LON"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", WRONG_TYPE)
def test_a_wrong_type_is_a_type_error(kept: Inventory, name: str) -> None:
    before = picture(kept)
    with pytest.raises(TypeError):
        WRONG_TYPE[name](kept)
    assert picture(kept) == before


WRONG_VALUE: dict[str, tuple[str, Call]] = {
    "sku empty": ("sku", lambda inv: inv.reserve("", 1)),
    "sku too long": ("sku", lambda inv: inv.reserve("x" * 129, 1)),
    "sku too long in bytes": ("sku", lambda inv: inv.receive("ä" * 65, "LON", 1)),
    "sku no UTF-8": ("sku", lambda inv: inv.reserve(SURROGATE, 1)),
    "sku of megabytes": ("sku", lambda inv: inv.reserve("x" * 5_000_000, 1)),
    "location empty": ("location", lambda inv: inv.reserve("TEE", 1, location="")),
    "location too long": ("location", lambda inv: inv.receive("TEE", "x" * 65, 1)),
    "location no UTF-8": ("location", lambda inv: inv.receive("TEE", SURROGATE, 1)),
    "id empty": ("reservation_id", lambda inv: inv.reserve("TEE", 1, reservation_id="")),
    "id too long": ("reservation_id", lambda inv: inv.reserve("TEE", 1, reservation_id="x" * 65)),
    "id no UTF-8": ("reservation_id", lambda inv: inv.commit(SURROGATE)),
    "id empty in commit": ("reservation_id", lambda inv: inv.commit("")),
    "id too long in ship": ("reservation_id", lambda inv: inv.ship("x" * 65)),
    "id too long in a read": ("reservation_id", lambda inv: inv.reservation("x" * 65)),
    "op_id empty": ("op_id", lambda inv: inv.receive("TEE", "LON", 1, op_id="")),
    "op_id too long": ("op_id", lambda inv: inv.receive("TEE", "LON", 1, op_id="x" * 65)),
    "account too long": ("account", lambda inv: inv.reserve("TEE", 1, account="x" * 65)),
    "seller empty": ("seller", lambda inv: inv.reserve("TEE", 1, seller="")),
    "seller too long": ("seller", lambda inv: inv.reserve("TEE", 1, seller="x" * 65)),
    "reason too long": ("reason", lambda inv: inv.adjust("TEE", "LON", 1, reason="x" * 65)),
    "reference too long": (
        "reference",
        lambda inv: inv.receive("TEE", "LON", 1, reference="x" * 129),
    ),
    "qty zero": ("qty", lambda inv: inv.reserve("TEE", 0)),
    "qty negative": ("qty", lambda inv: inv.reserve("TEE", -1)),
    "qty too large by one": ("qty", lambda inv: inv.reserve("TEE", QTY_MAX + 1)),
    "qty beyond 64 bits": ("qty", lambda inv: inv.reserve("TEE", 1 << 64)),
    "qty received zero": ("qty", lambda inv: inv.receive("TEE", "LON", 0)),
    "qty received negative": ("qty", lambda inv: inv.receive("TEE", "LON", -5)),
    "qty received too large": ("qty", lambda inv: inv.receive("TEE", "LON", QTY_MAX + 1)),
    "qty issued negative": ("qty", lambda inv: inv.issue("TEE", "LON", -(1 << 70))),
    "delta zero": ("delta", lambda inv: inv.adjust("TEE", "LON", 0)),
    "delta too large": ("delta", lambda inv: inv.adjust("TEE", "LON", QTY_MAX + 1)),
    "delta too small": ("delta", lambda inv: inv.adjust("TEE", "LON", -QTY_MAX - 1)),
    "count negative": ("qty", lambda inv: inv.set_on_hand("TEE", "LON", -1, if_on_hand=10)),
    "count without if_on_hand": ("if_on_hand", lambda inv: inv.set_on_hand("TEE", "LON", 1)),
    "safety_stock negative": (
        "safety_stock",
        lambda inv: inv.set_policy("TEE", safety_stock=-1),
    ),
    "safety_stock too large": (
        "safety_stock",
        lambda inv: inv.set_policy("TEE", safety_stock=QTY_MAX + 1),
    ),
    "ttl_ms zero": ("ttl_ms", lambda inv: inv.reserve("TEE", 1, ttl_ms=0)),
    "ttl_ms negative": ("ttl_ms", lambda inv: inv.reserve("TEE", 1, ttl_ms=-1)),
    "ttl_ms too long": ("ttl_ms", lambda inv: inv.reserve("TEE", 1, ttl_ms=TTL_MS_MAX + 1)),
    "ttl_ms beyond 64 bits": ("ttl_ms", lambda inv: inv.extend("kept", ttl_ms=1 << 65)),
    "extend zero": ("ttl_ms", lambda inv: inv.extend("kept", ttl_ms=0)),
    "extend too long": ("ttl_ms", lambda inv: inv.extend("kept", ttl_ms=TTL_MS_MAX + 1)),
    "if_expired": ("if_expired", lambda inv: inv.commit("kept", if_expired="no")),  # type: ignore[arg-type]
    "no line": ("lines", lambda inv: inv.reserve_lines([])),
    "no line named": ("lines", lambda inv: inv.commit("kept", lines=[])),
    "qty in a line": (
        "lines[1].qty",
        lambda inv: inv.reserve_lines([("TEE", None, 1), ("MUG", None, 0)]),
    ),
    "sku in a line": (
        "lines[2].sku",
        lambda inv: inv.reserve_lines([("TEE", None, 1), ("MUG", None, 1), ("", "LON", 1)]),
    ),
    "surrogate in a line": (
        "lines[0].location",
        lambda inv: inv.reserve_lines([("TEE", SURROGATE, 1)]),
    ),
    "qty in a partial call": (
        "lines[0].qty",
        lambda inv: inv.ship("kept", lines=[("TEE", "LON", -2)]),
    ),
}


@pytest.mark.parametrize("name", WRONG_VALUE)
def test_a_wrong_value_is_a_bad_request(kept: Inventory, name: str) -> None:
    field, call = WRONG_VALUE[name]
    before = picture(kept)
    with pytest.raises(BadRequest) as caught:
        call(kept)
    assert caught.value.field == field
    assert field in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert picture(kept) == before


LATER_OPTIONS: dict[str, object] = {
    "mode": "best_effort",
    "min_qty": 1,
    "backorder": True,
    "split": False,
    "backorder_ttl_ms": 1_000,
    "soft_ttl_ms": 1_000,
    "priority": 1,
    "promised_unix_ms": 1,
    "locations": ["LON"],
    "strategy": "nearest",
    "region": "EU",
    "max_splits": 1,
    "replaces": ["kept"],
    "wait_ms": 100,
}


@pytest.mark.parametrize("name", LATER_OPTIONS)
def test_an_option_of_a_later_release_is_refused(kept: Inventory, name: str) -> None:
    before = picture(kept)
    option: dict[str, Any] = {name: LATER_OPTIONS[name]}
    calls: list[Callable[[], object]] = [
        lambda: kept.reserve("TEE", 1, **option),
        lambda: kept.reserve_lines([("TEE", None, 1)], **option),
    ]
    for call in calls:
        with pytest.raises(BadRequest, match="not supported by this release") as caught:
            call()
        assert caught.value.field == name
    assert picture(kept) == before


def test_defaults_spelled_out_are_fine(kept: Inventory) -> None:
    hold = kept.reserve(
        "TEE", 1, mode="".join(["all_or_", "nothing"]), priority=0, replaces=[], wait_ms=0
    )
    assert hold.units == 1


def test_best_effort_of_one_line_is_refused(kept: Inventory) -> None:
    for line in (inventory.Line("TEE", 2, min_qty=1), inventory.Line("TEE", 2, split=False)):
        with pytest.raises(BadRequest, match="not supported by this release"):
            kept.reserve_lines([line])


def test_limits_of_text_are_reachable(kept: Inventory) -> None:
    """The longest of everything works; one byte more is in the table above."""
    kept.receive("s" * 128, "l" * 64, 2, op_id="o" * 64, reason="r" * 64, reference="f" * 128)
    hold = kept.reserve("s" * 128, 1, location="l" * 64, reservation_id="i" * 64, account="a" * 64)
    assert hold.lines[0].sku == "s" * 128
    assert hold.lines[0].location == "l" * 64
    assert kept.reservation("i" * 64).units == 1
    kept.receive("s", "l", 1, seller="x" * 64)
    kept.receive("ä" * 64, "€" * 21, 1)
    assert kept.availability("ä" * 64).levels[0].location == "€" * 21


def test_limits_of_figures_are_reachable(kept: Inventory, clock: ManualClock) -> None:
    kept.receive("BOLT", "LON", QTY_MAX)
    hold = kept.reserve("BOLT", QTY_MAX, ttl_ms=TTL_MS_MAX)
    assert hold.expires_at_unix_ms == clock.now_unix_ms + TTL_MS_MAX
    assert kept.reserve("TEE", 1, ttl_ms=1).expires_at_unix_ms == clock.now_unix_ms + 1
    kept.set_policy("BOLT", "LON", safety_stock=QTY_MAX)
    kept.set_on_hand("BOLT", "LON", 0, if_on_hand=QTY_MAX)
    kept.set_on_hand("BOLT", "LON", QTY_MAX, if_on_hand=0)
    kept.adjust("BOLT", "LON", -QTY_MAX)
    assert kept.verify().ok


def test_a_counter_may_not_leave_its_range(kept: Inventory) -> None:
    kept.receive("BOLT", "LON", QTY_MAX)
    before = picture(kept)
    calls: list[Callable[[], object]] = [
        lambda: kept.receive("BOLT", "LON", 1),
        lambda: kept.adjust("BOLT", "LON", 1),
        lambda: kept.adjust("TEE", "LON", -11),
    ]
    for call in calls:
        with pytest.raises(QtyOutOfRange) as caught:
            call()
        assert caught.value.limit is not None
    assert picture(kept) == before


def test_4096_lines_are_a_cart_and_4097_are_not(open_store: OpenStore) -> None:
    kept = open_store(segment_bytes=4 << 20)  # a small segment bounds a record before that
    kept.receive("TEE", "LON", 10)
    kept.receive("MUG", "LON", 5)
    kept.reserve("TEE", 3, location="LON", reservation_id="kept")
    before = picture(kept)
    with pytest.raises(LimitExceeded) as caught:
        kept.reserve_lines([("TEE", "LON", 1)] * 4_097)
    assert (caught.value.field, caught.value.limit) == ("lines", 4_096)
    with pytest.raises(LimitExceeded):
        kept.commit("kept", lines=[("TEE", "LON", 1)] * 4_097)
    assert picture(kept) == before
    with pytest.raises(inventory.InsufficientStock) as short:
        kept.reserve_lines([("TEE", "LON", 1)] * 4_096)
    assert short.value.short[0].requested == 4_096
    with pytest.raises(inventory.InsufficientStock) as every:
        kept.reserve_lines([(f"S{number}", None, 1) for number in range(4_096)])
    assert len(every.value.short) == 4_096
    assert picture(kept) == before


def test_a_bad_line_refuses_the_cart_and_what_follows_works(kept: Inventory) -> None:
    """TigerBeetle: one request [15, then an invalid line], then a single 15."""
    kept.receive("JAR", "LON", 20)
    with pytest.raises(BadRequest) as caught:
        kept.reserve_lines([("JAR", "LON", 15), ("JAR", "LON", -1)])
    assert caught.value.field == "lines[1].qty"
    kept.reserve("JAR", 15)
    assert kept.availability("JAR", "LON").available == 5


def test_unknown_ids_change_nothing(kept: Inventory) -> None:
    before = picture(kept)
    for call in (kept.commit, kept.ship, kept.release, kept.cancel, kept.reservation):
        with pytest.raises(inventory.UnknownReservation):
            call("nobody")
    with pytest.raises(inventory.UnknownReservation):
        kept.extend("nobody", ttl_ms=1_000)
    assert picture(kept) == before


def test_an_id_with_another_body_changes_nothing(kept: Inventory) -> None:
    before = picture(kept)
    with pytest.raises(IdempotencyMismatch):
        kept.reserve("TEE", 4, location="LON", reservation_id="kept")
    assert picture(kept) == before


# ---- stores that can't be used ------------------------------------------------------------------


def every_operation(inv: Inventory) -> list[Callable[[], object]]:
    return [
        lambda: inv.receive("TEE", "LON", 1),
        lambda: inv.issue("TEE", "LON", 1),
        lambda: inv.adjust("TEE", "LON", 1),
        lambda: inv.set_on_hand("TEE", "LON", 1, if_on_hand=10),
        lambda: inv.set_policy("TEE", safety_stock=1),
        lambda: inv.reserve("TEE", 1),
        lambda: inv.reserve_lines([("TEE", None, 1), ("MUG", None, 1)]),
        lambda: inv.commit("kept"),
        lambda: inv.ship("kept"),
        lambda: inv.release("kept"),
        lambda: inv.cancel("kept"),
        lambda: inv.extend("kept", ttl_ms=1_000),
        lambda: inv.availability("TEE"),
        lambda: inv.availability("TEE", "LON"),
        lambda: inv.reservation("kept"),
        inv.verify,
        inv.metrics,
        inv.barrier,
    ]


READS = 6  # how many of them at the end change nothing


def test_a_closed_store_refuses_everything(kept: Inventory) -> None:
    kept.close()
    for call in every_operation(kept):
        with pytest.raises(StoreClosed):
            call()
    assert kept.closed
    assert kept.recovery.created


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_sees_the_store_as_closed(kept: Inventory) -> None:
    before = picture(kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what we test
        child = os.fork()
    if child == 0:
        wrong = 0
        for call in every_operation(kept):
            try:
                call()
                wrong += 1
            except StoreClosed:
                pass
            except BaseException:
                wrong += 100
        wrong += not kept.closed
        kept.close()
        os._exit(min(wrong, 255))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert picture(kept) == before
    kept.reserve("TEE", 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_makes_ids_of_its_own(kept: Inventory) -> None:
    kept.reserve("TEE", 1)  # the parent's pool of random bytes is filled
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with inventory.open() as own:
            own.receive("TEE", "LON", 1)
            os.write(write_end, own.reserve("TEE", 1).reservation_id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read_end, 100).decode()
    assert len(theirs) == 36
    assert kept.reserve("TEE", 1).reservation_id[-12:] != theirs[-12:]
    os.close(read_end)
    os.close(write_end)


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=4 << 20) as inv:
        inv.receive("TEE", "LON", 1)
        with pytest.raises(StoreLocked):
            inventory.open(path)
        with pytest.raises(StoreLocked):
            inventory.verify(path)
        assert inv.availability("TEE", "LON").on_hand == 1
    inventory.open(path, segment_bytes=4 << 20).close()


def test_a_second_opener_of_a_disk_in_memory(inv: Inventory, storage: MemoryStorage) -> None:
    with pytest.raises(StoreLocked):
        inventory.open(storage=storage)
    assert inv.availability("TEE", "LON").on_hand == 10


def test_read_only_answers_and_refuses_changes(open_store: OpenStore) -> None:
    with open_store() as inv:
        inv.receive("TEE", "LON", 10)
        inv.receive("MUG", "LON", 10)
        inv.reserve("TEE", 3, location="LON", reservation_id="kept")
        before = picture(inv)[0]
    inv = open_store(read_only=True)
    *changes, _, _, _, _, _, _ = every_operation(inv)
    for change in changes:
        with pytest.raises(inventory.InventoryError):
            change()
    after = tuple(inv.availability(sku) for sku in ("TEE", "MUG"))
    assert [row.levels[0].held for row in after] == [row.levels[0].held for row in before]
    assert inv.reservation("kept").units == 3
    assert inv.verify().ok


def test_read_only_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(inventory.InventoryError):
        inventory.open(tmp_path / "absent", read_only=True)
    with pytest.raises(inventory.InventoryError):
        inventory.verify(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_verify_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=4 << 20) as inv:
        inv.receive("TEE", "LON", 10)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert inventory.verify(path).ok
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only directory")
def test_a_read_only_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(IoError) as caught:
            inventory.open(tmp_path / "shop")
        assert isinstance(caught.value, PermissionError | OSError)
    finally:
        tmp_path.chmod(0o700)


def test_a_path_whose_parent_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(IoError) as caught:
        inventory.open(tmp_path / "a" / "b")
    assert caught.value.errno == 2


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(IoError):
        inventory.open(tmp_path / "file")


def test_a_full_disk_refuses_changes_and_answers_reads(
    kept: Inventory, storage: MemoryStorage
) -> None:
    storage.set_capacity(1)
    number = 0
    with contextlib.suppress(DiskFull):
        while number < 1_000_000:
            kept.receive("FILL", "LON", 1)  # no change has a smaller record
            number += 1
    before = picture(kept)
    filled = kept.availability("FILL", "LON").on_hand
    assert filled == number
    with pytest.raises(DiskFull):
        kept.receive("FILL", "LON", 1, op_id="late")
    with pytest.raises(DiskFull):
        kept.reserve("TEE", 1)
    assert picture(kept) == before
    storage.set_capacity(0)
    for _ in range(500):
        try:
            kept.receive("FILL", "LON", 1, op_id="late")
            break
        except DiskFull:  # the file preparer has not seen yet that there is room
            time.sleep(0.01)
    assert kept.availability("FILL", "LON").on_hand == filled + 1
    assert kept.verify().ok


def test_a_disk_too_small_to_open(storage: MemoryStorage) -> None:
    storage.set_capacity(4_096)
    with pytest.raises(DiskFull):
        inventory.open(storage=storage)
    storage.set_capacity(0)
    inventory.open(storage=storage).close()


WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "durability": {"durability": "maybe"},
    "interval_ms": {"interval_ms": 0},
    "segment_bytes": {"segment_bytes": 1},
    "strategy": {"strategy": "nearest"},
    "default_ttl_ms": {"default_ttl_ms": TTL_MS_MAX + 1},
    "id_retention_ms": {"id_retention_ms": -1},
    "ended_ids_max": {"ended_ids_max": -1},
    "restart_grace_ms": {"restart_grace_ms": -1},
    "downtime_ms_max": {"downtime_ms_max": TTL_MS_MAX + 1},
}


@pytest.mark.parametrize("field", WRONG_OPTIONS)
def test_a_wrong_option_of_open(storage: MemoryStorage, field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        inventory.open(storage=storage, **WRONG_OPTIONS[field])


def test_memory_durability_with_a_path(tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        inventory.open(tmp_path / "shop", durability="memory")
    assert caught.value.field == "durability"
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize("path", [b"shop", 7])
def test_a_wrong_type_of_path(path: Any) -> None:
    with pytest.raises(TypeError):
        inventory.open(path)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_wrong_path(path: str) -> None:
    with pytest.raises(BadRequest):
        inventory.open(path)


@pytest.mark.parametrize(
    ("option", "value"), [("interval_ms", 1.5), ("read_only", 1), ("default_ttl_ms", True)]
)
def test_a_wrong_type_of_option(option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=option):
        inventory.open(**{option: value})


def test_a_forgotten_store_warns_and_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    inv = inventory.open(path, segment_bytes=4 << 20)
    inv.receive("TEE", "LON", 3)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del inv
    with inventory.open(path, segment_bytes=4 << 20) as again:
        assert not again.recovery.clean_shutdown
        assert again.availability("TEE", "LON").on_hand == 3
