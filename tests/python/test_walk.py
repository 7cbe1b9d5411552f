# SPDX-License-Identifier: Apache-2.0
"""Walks: every row and every reservation once, as a read shows them; the log of closed stores."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streams
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant
from scale import scaled
from test_model import StoreAgainstModel

import inventory
from inventory import Inventory, State, export
from inventory.export import CHUNK_ROWS_MAX, ReservationChunk
from inventory.models import LogEntry, LogRecord
from inventory.testing import ManualClock

pa = pytest.importorskip("pyarrow")

OpenStore = Callable[..., Inventory]
SEGMENT_BYTES = 4 << 20
ROW_FIGURES = (
    "on_hand", "held", "allocated", "reserved", "available", "available_to_promise",
    "safety_stock", "short", "lsn",
)  # fmt: skip
MIB = 1 << 20
GROWTH_MAX_BYTES = 64 * MIB  # of an export of 1 M rows: pieces of 65,536, names, Arrow's own
FIXED_UUID = "0190b3c0-1111-7abc-8def-0123456789ab"


def rows_of(inv: Inventory, **options: Any) -> dict[tuple[str, str, str], dict[str, int]]:
    """All rows by (seller, sku, location); none may come twice."""
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    for chunk in inv.rows(**options):
        assert 0 < len(chunk) <= options.get("chunk_rows", 65_536)
        for i in range(len(chunk)):
            key = (chunk.seller[i], chunk.sku[i], chunk.location[i])
            assert key not in found
            found[key] = {name: int(getattr(chunk, name)[i]) for name in ROW_FIGURES}
    return found


def check_rows(inv: Inventory, **options: Any) -> int:
    """Compare every row of a walk with a read of it."""
    found = rows_of(inv, **options)
    for (seller, sku, location), figures in found.items():
        level = inv.availability(sku, location, seller=seller)
        assert figures == {name: getattr(level, name) for name in ROW_FIGURES}
    return len(found)


def lines_of(chunks: Iterator[ReservationChunk]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Places by (seller, reservation_id), in order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for chunk in chunks:
        names = [name for name in chunk.__struct_fields__ if name not in ("seller",)]
        for i in range(len(chunk)):
            place = {name: getattr(chunk, name)[i] for name in names}
            found.setdefault((chunk.seller[i], chunk.reservation_id[i]), []).append(place)
    return found


def check_reservations(inv: Inventory, *, ended: bool = True, chunk_rows: int = 65_536) -> set[str]:
    """Compare every reservation of a walk with a read of it."""
    found = lines_of(inv.reservations(ended=ended, chunk_rows=chunk_rows))
    for (seller, reservation_id), places in found.items():
        hold = inv.reservation(reservation_id, seller=seller)
        for place in places:
            assert place["state"] == hold.state
            assert place["lsn"] == hold.lsn
            assert place["units"] == hold.units
            assert (place["expires_at_unix_ms"] or None) == hold.expires_at_unix_ms
            assert (place["ended_at_unix_ms"] or None) == hold.ended_at_unix_ms
            assert place["line_count"] == len(hold.lines)
        if not hold.lines:
            assert [(p["sku"], p["location"], p["qty"]) for p in places] == [(None, None, 0)]
            continue
        for index, (place, line) in enumerate(zip(places, hold.lines, strict=True)):
            assert place["line"] == index
            for name in ("sku", "location", "qty", "held", "allocated", "shipped"):
                assert place[name] == getattr(line, name)
    return {reservation_id for _, reservation_id in found}


def a_bit_of_everything(inv: Inventory, clock: ManualClock) -> None:
    inv.receive("ÄPFEL", "Köln", 7, seller="bob")
    inv.receive("TEE", "LON", 3, seller="bob")
    inv.set_policy("TEE", "PAR", safety_stock=2)
    cart = [("TEE", "LON", 1), ("MUG", None, 2), ("TEE", "PAR", 1)]
    inv.reserve("TEE", 2, location="LON", reservation_id="held", account="ann")
    inv.reserve("TEE", 1, location="LON", reservation_id=FIXED_UUID.upper())
    inv.reserve("ÄPFEL", 1, seller="bob", reservation_id="held")
    inv.reserve_lines(cart, reservation_id="order")
    inv.commit("order", lines=[("MUG", "LON", 1)], final=False)
    inv.reserve("MUG", 1, reservation_id="given back")
    inv.release("given back")
    inv.reserve_lines([("MUG", None, 1), ("TEE", None, 1)], reservation_id="sent")
    inv.ship("sent")
    inv.reserve("MUG", 1, reservation_id="lapsed", ttl_ms=50)
    inv.release("never made", tombstone=True)
    clock.advance(100)
    inv.adjust("MUG", "LON", -2, reason="damage")


# ---- rows and reservations -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk_rows", [2, 3, 7, 65_536, CHUNK_ROWS_MAX])
def test_every_row_is_given_as_a_read_shows_it(
    inv: Inventory, clock: ManualClock, chunk_rows: int
) -> None:
    a_bit_of_everything(inv, clock)
    assert check_rows(inv, chunk_rows=chunk_rows) == 5 == inv.verify().rows


@pytest.mark.parametrize("chunk_rows", [3, 4, 65_536, CHUNK_ROWS_MAX])
def test_every_reservation_is_given_as_a_read_shows_it(
    inv: Inventory, clock: ManualClock, chunk_rows: int
) -> None:
    a_bit_of_everything(inv, clock)
    live = check_reservations(inv, ended=False, chunk_rows=chunk_rows)
    assert live == {"held", FIXED_UUID, "order"}
    known = check_reservations(inv, chunk_rows=chunk_rows)
    assert known - live == {"given back", "sent", "lapsed", "never made"}
    places = lines_of(inv.reservations())
    assert places["default", "held"][0]["account"] == "ann"
    assert places["bob", "held"][0]["sku"] == "ÄPFEL"


def test_an_empty_store_gives_nothing() -> None:
    with inventory.open() as inv:
        assert list(inv.rows()) == list(inv.reservations()) == []
        assert inv.to_arrow().read_all().num_rows == 0
        assert inv.to_arrow("reservations").read_all().num_rows == 0


def test_limits_of_a_chunk(inv: Inventory) -> None:
    for bad in (0, -1, CHUNK_ROWS_MAX + 1):
        for call in (inv.rows, inv.reservations, inv.to_arrow):
            with pytest.raises(inventory.BadRequest) as refusal:
                call(chunk_rows=bad)
            assert refusal.value.field == "chunk_rows"
    with pytest.raises(
        inventory.errors.LimitExceeded, match=r"chunk_rows is 1, .* 2 rows"
    ) as limit:
        list(inv.rows(chunk_rows=1))  # TEE has two
    assert (limit.value.field, limit.value.figure) == ("chunk_rows", 2)
    assert len(list(inv.rows(chunk_rows=2))) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda inv: inv.rows(chunk_rows="9"), "chunk_rows must be int"),
        (lambda inv: inv.rows(chunk_rows=True), "chunk_rows must be int"),
        (lambda inv: inv.reservations(ended=1), "ended must be bool"),
        (lambda inv: inv.to_arrow(ended=None), "ended must be bool"),
    ],
)
def test_wrong_types(inv: Inventory, call: Callable[[Inventory], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(inv)


def test_what_is_one_of_two(inv: Inventory) -> None:
    with pytest.raises(inventory.BadRequest, match="what: 'rows' or 'reservations'"):
        inv.to_arrow("holds")  # type: ignore[arg-type]


def test_a_store_closed_in_the_middle_of_a_walk(inv: Inventory) -> None:
    chunks = inv.rows(chunk_rows=2)
    first = next(chunks)
    inv.close()
    assert len(first) in (1, 2)  # what was given stays
    with pytest.raises(inventory.StoreClosed):
        next(chunks)
    with pytest.raises(inventory.StoreClosed):
        inv.to_arrow().read_all()


def test_without_pyarrow_it_says_how_to_install_it(
    inv: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'inventory-engine\[arrow\]'"):
        inv.to_arrow()
    assert len(list(inv.rows())) == 1  # numpy alone is enough for these


@pytest.mark.parametrize("what", ["rows", "reservations"])
def test_progress_rises_to_the_whole(inv: Inventory, clock: ManualClock, what: Any) -> None:
    a_bit_of_everything(inv, clock)
    seen: list[float] = []
    export.to_arrow(inv, what, 3, False, seen.append).read_all()
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_arrow_has_the_same_rows(inv: Inventory, clock: ManualClock) -> None:
    a_bit_of_everything(inv, clock)
    table = inv.to_arrow(chunk_rows=2).read_all()
    assert table.schema.field("sku").type == pa.string()
    assert {table.schema.field(name).type for name in ROW_FIGURES} == {pa.int64()}
    found = {
        (row.pop("seller"), row.pop("sku"), row.pop("location")): row for row in table.to_pylist()
    }
    assert found == rows_of(inv)


def test_arrow_has_the_same_reservations(inv: Inventory, clock: ManualClock) -> None:
    a_bit_of_everything(inv, clock)
    table = inv.to_arrow("reservations", ended=True, chunk_rows=4).read_all()
    expected = [
        place | {"seller": seller}
        for (seller, _), places in lines_of(inv.reservations(ended=True)).items()
        for place in places
    ]
    for row, place in zip(table.to_pylist(), expected, strict=True):
        for name in ("expires_at_unix_ms", "ended_at_unix_ms"):
            assert row.pop(name) == (place[name] or None)
        has_line = place["line_count"] > 0
        assert (row["sku"] is not None) == has_line
        for name, value in row.items():
            in_line = name in ("line", "qty", "held", "allocated", "shipped")
            assert value == (place[name] if has_line or not in_line else None), name


def test_a_walk_goes_on_while_others_write() -> None:
    """A unit moves from held to allocated at both places in one call: the rows stay alike."""
    units = 4_000
    with inventory.open() as inv:
        inv.receive("TEE", "LON", units)
        inv.receive("TEE", "PAR", units)
        inv.reserve_lines([("TEE", "LON", units), ("TEE", "PAR", units)], reservation_id="cart")

        def commit() -> None:
            for _ in range(units):
                inv.commit("cart", lines=[("TEE", "LON", 1), ("TEE", "PAR", 1)], final=False)

        thread = threading.Thread(target=commit)
        thread.start()
        allocated = 0
        while allocated < units:
            (chunk,) = inv.rows()
            assert (chunk.held + chunk.allocated).tolist() == [units, units]
            assert chunk.held[0] == chunk.held[1]
            assert chunk.lsn[0] == chunk.lsn[1]
            (places,) = lines_of(inv.reservations()).values()
            assert places[0]["held"] == places[1]["held"]
            assert allocated <= int(chunk.allocated[0])
            allocated = int(chunk.allocated[0])
        thread.join()


class WalksAgainstModel(StoreAgainstModel):
    """The traffic of the model test; after each step the walks must give what the model has."""

    @invariant()
    def walks_agree(self) -> None:
        found = rows_of(self.inv)
        assert {(sku, location) for _, sku, location in found} == {
            (sku, location) for sku, location, _ in self.model.known_rows()
        }
        for sku, location, row in self.model.known_rows():
            figures = found["default", sku, location]
            assert figures["on_hand"] == row.on_hand
            assert figures["held"] == row.held
            assert figures["allocated"] == row.allocated
            assert figures["available_to_promise"] == row.promise()
            assert figures["short"] == row.short
        holds = {key: hold.state for key, hold in self.model.holds.items()}
        walked = lines_of(self.inv.reservations(ended=True))
        assert {key: places[0]["state"] for (_, key), places in walked.items()} == holds
        live = {key for _, key in lines_of(self.inv.reservations())}
        assert live == {key for key, hold in self.model.holds.items() if hold.is_live}


WalksAgainstModel.TestCase.settings = settings(
    max_examples=scaled(15),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestWalksAgainstModel = WalksAgainstModel.TestCase


GROWTH = """
import re
import numpy as np
import pyarrow
import inventory

def anonymous_bytes():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+) kB", status.read())[1]) * 1024

with inventory.open() as inv:
    places = inv.location_ids([f"W{i}" for i in range(10)], create=True)
    skus = inv.sku_ids([f"SKU-{i:06}" for i in range(100_000)], create=True)
    units = np.arange(1, 1_000_001)
    inv.receive_batch(np.repeat(skus, 10), np.tile(places, 100_000), units)
    before = anonymous_bytes()
    rows, peak, total = 0, before, 0
    for batch in inv.to_arrow():
        rows += batch.num_rows
        total += sum(batch.column("on_hand").to_numpy())
        peak = max(peak, anonymous_bytes())
    assert (rows, total) == (1_000_000, sum(units))
    print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read RssAnon from")
def test_memory_does_not_grow_with_the_store() -> None:
    result = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < GROWTH_MAX_BYTES


@pytest.mark.slow
@pytest.mark.skipif(streams.data_dir() is None, reason="the order streams are not here")
def test_a_real_stream_loaded_reserved_and_exported() -> None:
    """Fifty thousand real order lines: what is exported is what plain Python makes of the file."""
    events = streams.journey_per_store()[:50_000]
    on_hand = streams.start_stock(streams.journey_per_store(), 60)
    held = dict.fromkeys(on_hand, 0)
    carts: dict[str, tuple[str, str, int]] = {}
    with inventory.open() as inv:
        for (store, sku), qty in on_hand.items():
            if qty:
                inv.receive(str(sku), str(store), qty)
        for _, number, (((store, sku), qty),) in events:
            fits = held[store, sku] + qty <= on_hand[store, sku]
            try:
                inv.reserve(str(sku), qty, location=str(store), reservation_id=f"order-{number}")
            except inventory.InventoryError:
                assert not fits
                continue
            assert fits
            held[store, sku] += qty
            carts[f"order-{number}"] = (str(sku), str(store), qty)
        rows = inv.to_arrow().read_all()
        lines = inv.to_arrow("reservations").read_all()
    assert 10_000 < len(carts) < len(events)
    assert rows.num_rows == sum(1 for qty in on_hand.values() if qty)
    for row in rows.to_pylist():
        key = int(row["location"]), int(row["sku"])
        assert (row["on_hand"], row["held"]) == (on_hand[key], held[key])
        assert row["available_to_promise"] == on_hand[key] - held[key]
    assert {
        line["reservation_id"]: (line["sku"], line["location"], line["held"])
        for line in lines.to_pylist()
    } == carts


# ---- the log -------------------------------------------------------------------------------------


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A closed store on disk with a few changes in its log."""
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("TEE", "LON", 10, op_id="po-1", account="ann", reason="buy", reference="PO 1")
        inv.reserve("TEE", 2, reservation_id=FIXED_UUID)
        inv.commit(FIXED_UUID)
        inv.set_policy("TEE", safety_stock=1)
    return path


def entries_of(records: Iterator[LogRecord]) -> list[LogEntry]:
    return [entry for record in records for entry in record.entries]


def test_entries_say_what_was_done(closed: Path) -> None:
    entries = {entry.kind: entry for entry in entries_of(inventory.log.read(closed))}
    receive, reserve, commit = entries["RECEIVE"], entries["RESERVE"], entries["COMMIT"]
    assert (receive.op_id, receive.account, receive.reason) == ("po-1", "ann", "buy")
    assert (receive.reference, receive.reservation_id) == ("PO 1", None)
    assert receive.lines == (inventory.log.LogLine("TEE", "LON", 10, "ADD", False),)
    assert (reserve.reservation_id, reserve.state) == (FIXED_UUID, State.HELD)
    assert reserve.expires_at_unix_ms is not None
    assert reserve.lines == (inventory.log.LogLine("TEE", "LON", 2, "HOLD", True),)
    assert (commit.state, commit.whole, commit.lines[0].op) == (State.ALLOCATED, True, "COMMIT")
    policy = entries["POLICY"].lines[0]
    assert (policy.location, policy.op, policy.qty) == (None, "SET_SAFETY", 1)
    names = [entry for entry in entries_of(inventory.log.read(closed)) if entry.kind == "NAME"]
    assert {(entry.name_kind, entry.name) for entry in names} == {
        ("sku", "TEE"), ("location", "LON"), ("account", "ann"), ("reason", "buy"),
        ("reference", "PO 1"),
    }  # fmt: skip


def test_records_follow_one_another(closed: Path) -> None:
    log = inventory.log.read(closed)
    assert log.tail is None
    records = list(log)
    for before, after in itertools.pairwise(records):
        assert before.lsn_end == after.lsn
        assert before.now_unix_ms <= after.now_unix_ms
    assert log.tail is not None
    assert log.tail.lsn_end == log.tail.durable == records[-1].lsn_end
    assert log.tail.torn_bytes == log.tail.torn_records == 0
    assert list(log) == []


def test_an_entry_has_the_lsn_of_its_answer(open_store: OpenStore, tmp_path: Path) -> None:
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        lsns = [inv.receive("TEE", "LON", 1).lsn for _ in range(20)]
        lsns.append(inv.reserve("TEE", 3).lsn)
    entries = entries_of(inventory.log.read(path))
    assert [e.lsn for e in entries if e.kind in ("RECEIVE", "RESERVE")] == lsns


def test_after_an_lsn_names_are_still_known(closed: Path) -> None:
    records = list(inventory.log.read(closed))
    for index, record in enumerate(records):
        assert list(inventory.log.read(closed, after_lsn=record.lsn_end)) == records[index + 1 :]
        assert list(inventory.log.read(closed, after_lsn=record.lsn_end - 1)) == records[index:]


def test_replaying_the_log_by_hand_gives_the_stock(tmp_path: Path, clock: ManualClock) -> None:
    """What the entries say about rows, added up, is what the store has."""
    effects = {
        "HOLD": (0, 1, 0), "COMMIT": (0, -1, 1), "SHIP_HELD": (-1, -1, 0),
        "SHIP_ALLOCATED": (-1, 0, -1), "RELEASE": (0, -1, 0), "CANCEL_ALLOCATED": (0, 0, -1),
        "EXPIRE": (0, -1, 0), "REHOLD": (0, 0, 1), "ADD": (1, 0, 0), "SUB": (-1, 0, 0),
    }  # fmt: skip
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=SEGMENT_BYTES, clock=clock) as inv:
        for sku, location, qty in [("TEE", "LON", 10), ("MUG", "LON", 5), ("TEE", "PAR", 4)]:
            inv.receive(sku, location, qty)
        a_bit_of_everything(inv, clock)
        inv.receive("MUG", "LON", 5)
        inv.commit("lapsed", if_expired="rehold")
        inv.cancel("lapsed")
        expected = rows_of(inv)
    found: dict[tuple[str, str, str], list[int]] = {}
    for entry in entries_of(inventory.log.read(path)):
        for line in entry.lines:
            if line.op in effects and line.location is not None:
                row = found.setdefault((entry.seller, line.sku, line.location), [0, 0, 0])
                for i, sign in enumerate(effects[line.op]):
                    row[i] += sign * line.qty
    assert found == {
        key: [row["on_hand"], row["held"], row["allocated"]] for key, row in expected.items()
    }


def test_an_open_store_is_refused(closed: Path) -> None:
    inv = inventory.open(closed, segment_bytes=SEGMENT_BYTES)
    with inv, pytest.raises(inventory.errors.StoreLocked):
        inventory.log.read(closed)
    assert list(inventory.log.read(closed))


def test_a_store_may_open_while_its_log_is_read(closed: Path) -> None:
    expected = list(inventory.log.read(closed))
    log = inventory.log.read(closed)
    first = next(log)
    with inventory.open(closed, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("TEE", "LON", 1)
        assert [first, *log] == expected


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(inventory.errors.IoError):
        inventory.log.read(tmp_path / "absent")
    with pytest.raises(inventory.errors.IoError, match="no store"):
        inventory.log.read(tmp_path)
    with pytest.raises(TypeError, match="path"):
        inventory.log.read(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="after_lsn"):
        inventory.log.read(tmp_path, after_lsn="0")  # type: ignore[arg-type]
    with pytest.raises(inventory.BadRequest, match="after_lsn"):
        inventory.log.read(tmp_path, after_lsn=-1)


def test_a_closed_log_gives_nothing_more(closed: Path) -> None:
    with inventory.log.read(closed) as log:
        next(log)
    assert list(log) == []
    assert log.tail is None
    log.close()


KILLED = """
import os, signal, sys
import inventory
inv = inventory.open(sys.argv[1], segment_bytes=4 << 20)
for number in range(50):
    print(inv.receive(f"SKU-{number}", "LON", number + 1).lsn, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_store(path: Path) -> list[int]:
    """A store whose process was killed; the lsns it had acknowledged."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    return [int(line) for line in result.stdout.split()]


def test_the_log_of_a_killed_store_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    lsns = killed_store(tmp_path / "shop")
    assert len(lsns) == 50
    entries = entries_of(inventory.log.read(tmp_path / "shop"))
    assert [entry.lsn for entry in entries if entry.kind == "RECEIVE"] == lsns
    with inventory.open(tmp_path / "shop", segment_bytes=SEGMENT_BYTES) as inv:
        assert inv.verify().on_hand == sum(range(1, 51))


def write_at(path: Path, record: LogRecord, offset: int, data: bytes) -> None:
    with (path / f"wal-{record.segment:016x}").open("r+b") as file:
        file.seek(record.offset + offset)
        file.write(data)


def test_a_torn_tail_is_told_apart_from_the_log(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    killed_store(path)
    records = list(inventory.log.read(path))
    write_at(path, records[-1], records[-1].lsn_end - records[-1].lsn, b"\xab" * 99)
    log = inventory.log.read(path)
    assert list(log) == records
    assert log.tail is not None
    assert log.tail.lsn_end == records[-1].lsn_end
    assert 99 <= log.tail.torn_bytes < 108


def test_a_corrupt_byte_is_named_after_what_is_whole(closed: Path) -> None:
    records = list(inventory.log.read(closed))
    broken = records[2]
    write_at(closed, broken, 50, b"\xff\xff")
    log = inventory.log.read(closed)
    assert [next(log), next(log)] == records[:2]
    with pytest.raises(inventory.errors.LogCorrupt) as error:
        next(log)
    assert (error.value.segment, error.value.offset) == (broken.segment, broken.offset)
    assert error.value.lsn == broken.lsn < error.value.lsn_end
    assert re.search(rf"segment {broken.segment} offset {broken.offset}\b", str(error.value))
