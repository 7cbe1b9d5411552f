# SPDX-License-Identifier: Apache-2.0
"""docs/log-format.md and docs/snapshot-format.md are right: a reader written from them agrees.

`format_reader` replays stores made by the engine, closed and killed, with and without snapshots,
and must give the engine's own answers. Damaged files both refuse alike. The reader rules of the
page are tried with bytes crafted for each.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import struct
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import format_reader as reader
import pytest
from click.testing import CliRunner
from scale import scaled

import inventory
from inventory.cli import main
from inventory.testing import ManualClock

START_MS = 1_700_000_000_000
SEGMENT_BYTES = 64 << 10
SKUS = [f"SKU-{n}" for n in range(12)] + ["ü-Größe", "長" * 40]
LOCATIONS = ["LON", "PAR", "OSL", "東京"]
SELLERS = ["default", "default", "alpha", "β"]
OPTIONS: dict[str, Any] = {"segment_bytes": SEGMENT_BYTES, "snapshot_log_bytes": 0}
A_YEAR_MS = 365 * 86_400_000
KINDS = (
    "reserve", "reserve", "cart", "commit", "ship", "release", "cancel", "part", "extend",
    "tombstone", "rehold", "receive", "receive", "issue", "adjust", "count", "policy",
)  # fmt: skip
STATES = {1: "HELD", 3: "ALLOCATED", 4: "SHIPPED", 5: "RELEASED", 6: "CANCELLED", 7: "EXPIRED"}


# ---- traffic: every operation there is -----------------------------------------------------------


class Traffic:
    """Random calls, most of them meaningful; refusals are part of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ids: list[tuple[str, str]] = []  # (seller, id)
        self.op_ids: list[tuple[str, str]] = []
        self.done: set[str] = set()
        self.number = 0

    def new_id(self) -> str:
        self.number += 1
        choice = self.random.randrange(3)
        if choice == 0:
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        return f"cart-{self.number}" if choice == 1 else f"Bestellung №{self.number}" + "x" * 30

    def known(self) -> tuple[str, str]:
        return self.random.choice(self.ids[-40:]) if self.ids else ("default", "nobody")

    def common(self, seller: str) -> dict[str, Any]:
        notes: dict[str, Any] = {"seller": seller}
        if self.random.random() < 0.3:
            notes["account"] = self.random.choice(["till-1", "web", "Büro"])
        if self.random.random() < 0.3:
            notes["reason"] = self.random.choice(["sale", "count", "damage"])
        if self.random.random() < 0.2:
            notes["reference"] = f"doc-{self.random.randrange(50)}"
        return notes

    def with_op(self, seller: str, always: bool = False) -> dict[str, Any]:
        if not always and self.random.random() < 0.5:
            return {}
        self.op_ids.append((seller, self.new_id()))
        return {"op_id": self.op_ids[-1][1]}

    def line(self) -> tuple[str, str | None, int]:
        place = self.random.choice([None, *LOCATIONS])
        return self.random.choice(SKUS), place, self.random.randint(1, 4)

    def step(self, inv: inventory.Inventory) -> None:
        kind = self.random.choice(KINDS)
        with contextlib.suppress(inventory.InventoryError):
            getattr(self, kind)(inv)
            self.done.add(kind)

    def reserve(self, inv: inventory.Inventory) -> None:
        seller, own = self.random.choice(SELLERS), self.new_id()
        sku, location, qty = self.line()
        inv.reserve(
            sku, qty, location=location, reservation_id=own, ttl_ms=self.ttl_ms(),
            use_safety_stock=self.random.random() < 0.1, **self.common(seller),
        )  # fmt: skip
        self.ids.append((seller, own))

    def cart(self, inv: inventory.Inventory) -> None:
        seller, own = self.random.choice(SELLERS), self.new_id()
        lines = [self.line() for _ in range(self.random.choice([2, 3, 6]))]
        inv.reserve_lines(lines, reservation_id=own, ttl_ms=self.ttl_ms(), **self.common(seller))
        self.ids.append((seller, own))

    def ttl_ms(self) -> int:
        return self.random.choice([300, 2_000, 60_000, 86_400_000 * 20])

    def whole(self, inv: inventory.Inventory, kind: str) -> None:
        seller, own = self.known()
        getattr(inv, kind)(own, **self.common(seller))

    def commit(self, inv: inventory.Inventory) -> None:
        self.whole(inv, "commit")

    def ship(self, inv: inventory.Inventory) -> None:
        self.whole(inv, "ship")

    def release(self, inv: inventory.Inventory) -> None:
        self.whole(inv, "release")

    def cancel(self, inv: inventory.Inventory) -> None:
        self.whole(inv, "cancel")

    def part(self, inv: inventory.Inventory) -> None:
        seller, own = self.known()
        lines = inv.reservation(own, seller=seller).lines
        if not lines:  # it has ended
            return
        line = self.random.choice(lines)
        asked = [(line.sku, line.location, self.random.randint(1, line.qty))]
        kind = self.random.choice(["commit", "commit", "ship", "release", "cancel"])
        options = {"final": self.random.random() < 0.3} if kind == "commit" else {}
        options |= self.with_op(seller, always=True)
        getattr(inv, kind)(own, lines=asked, **options, **self.common(seller))

    def extend(self, inv: inventory.Inventory) -> None:
        seller, own = self.known()
        inv.extend(own, ttl_ms=self.ttl_ms(), shorten=True, **self.common(seller))

    def tombstone(self, inv: inventory.Inventory) -> None:
        seller, own = self.random.choice(SELLERS), self.new_id()
        inv.release(own, tombstone=True, **self.common(seller))
        self.ids.append((seller, own))

    def rehold(self, inv: inventory.Inventory) -> None:
        for seller, own in self.ids[-60:]:
            with contextlib.suppress(inventory.InventoryError):
                if inv.reservation(own, seller=seller).state == "EXPIRED":
                    inv.commit(own, if_expired="rehold", seller=seller)
                    return
        raise inventory.errors.UnknownReservation

    def stock(self, inv: inventory.Inventory, kind: str, *arguments: Any, **options: Any) -> None:
        seller = self.random.choice(SELLERS)
        sku, location = self.random.choice(SKUS), self.random.choice(LOCATIONS)
        call = getattr(inv, kind)
        call(sku, location, *arguments, **options, **self.with_op(seller), **self.common(seller))

    def receive(self, inv: inventory.Inventory) -> None:
        self.stock(inv, "receive", self.random.randint(1, 60))

    def issue(self, inv: inventory.Inventory) -> None:
        self.stock(inv, "issue", self.random.randint(1, 3))

    def adjust(self, inv: inventory.Inventory) -> None:
        self.stock(inv, "adjust", self.random.choice([-2, -1, 1, 5]))

    def count(self, inv: inventory.Inventory) -> None:
        sku, location = self.random.choice(SKUS), self.random.choice(LOCATIONS)
        there = inv.availability(sku, location).on_hand
        found = max(0, there + self.random.choice([-1, 0, 0, 2]))
        inv.set_on_hand(sku, location, found, if_on_hand=there, **self.with_op("default"))

    def policy(self, inv: inventory.Inventory) -> None:
        seller, sku = self.random.choice(SELLERS), self.random.choice(SKUS)
        place = self.random.choice([None, *LOCATIONS])
        inv.set_policy(
            sku, place, safety_stock=self.random.randrange(4), **self.with_op(seller),
            **self.common(seller),
        )  # fmt: skip


def end_life(inv: inventory.Inventory, path: Path, how: str) -> None:
    if how == "closed":
        inv.close()
        return
    inv._abandon()
    if how == "relog":  # nothing proves the last records: opening writes them again
        (path / "HINT").unlink(missing_ok=True)
    if how == "torn":
        log = reader.read(path).log
        assert log is not None
        patch(path, log, log.end, b"\xe7\x01\x03\0 not a record")


def segment_at(log: reader.Log, lsn: int) -> reader.Segment:
    return next(segment for segment in log.chain if segment.base <= lsn < segment.capacity_end)


def patch(path: Path, log: reader.Log, lsn: int, data: bytes) -> None:
    segment = segment_at(log, lsn)
    with (path / segment.name).open("r+b") as file:
        file.seek(segment.offset(lsn))
        file.write(data)


def live(path: Path, seed: int, lives: list[str], steps: int) -> Traffic:
    """A store with so many lives, each ended in its way; one snapshot where a life says so."""
    traffic, clock = Traffic(seed), ManualClock(START_MS)
    for life in lives:
        how, _, snapshot = life.partition("+")
        inv = inventory.open(
            path, clock=clock, id_retention_ms=30_000, ended_ids_max=60, restart_grace_ms=0,
            durability=traffic.random.choice(["durable", "interval", "interval"]), **OPTIONS,
        )  # fmt: skip
        inv.location_ids(["spare " + life], create=True)
        for sku in SKUS:
            inv.receive(sku, traffic.random.choice(LOCATIONS), 40)
        for step in range(steps):
            traffic.step(inv)
            if step % 9 == 0:
                clock.advance(traffic.random.choice([1, 400, 1_000]))
            if snapshot and step == steps // 2:
                inv.snapshot()
        end_life(inv, path, how)
    return traffic


# ---- both tell the same --------------------------------------------------------------------------


def engine_levels(inv: inventory.Inventory) -> dict[tuple[str, str, str], tuple[int, ...]]:
    found = {}
    for chunk in inv.rows():
        columns = (chunk.on_hand, chunk.held, chunk.allocated, chunk.safety_stock)
        for i in range(len(chunk)):
            key = (chunk.seller[i], chunk.sku[i], chunk.location[i])
            found[key] = tuple(int(column[i]) for column in columns)
    return found


def check_levels(inv: inventory.Inventory, store: reader.Store) -> None:
    levels = store.levels()
    assert engine_levels(inv) == levels
    for (seller, sku, location), (on_hand, held, allocated, safety) in levels.items():
        level = inv.availability(sku, location, seller=seller)
        promised = max(0, on_hand - held - allocated - safety)
        assert (level.on_hand, level.held, level.allocated) == (on_hand, held, allocated)
        assert level.available_to_promise == promised


def check_reservations(inv: inventory.Inventory, store: reader.Store) -> None:
    holds = store.reservations()
    seen: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for chunk in inv.reservations(ended=True):
        for i in range(len(chunk)):
            key = (chunk.seller[i], chunk.reservation_id[i])
            hold = holds[key]
            assert STATES[hold.state] == chunk.state[i]
            assert (hold.lsn, hold.units) == (chunk.lsn[i], chunk.units[i]), key
            assert store.names[reader.ACCOUNT][hold.account] == chunk.account[i]
            expires = hold.deadline if hold.state == reader.HELD else 0
            ended = hold.ended_ms if hold.ended else 0
            shown = (max(0, chunk.expires_at_unix_ms[i]), max(0, chunk.ended_at_unix_ms[i]))
            assert shown == (expires, ended), key
            lines = seen.setdefault(key, [])
            if chunk.line_count[i]:
                figures = (chunk.qty[i], chunk.held[i], chunk.allocated[i], chunk.shipped[i])
                lines.append((chunk.sku[i], chunk.location[i], *map(int, figures)))
    assert seen.keys() == holds.keys()
    for key, lines in seen.items():
        own = [
            (store.skus[x.sku][1], store.names[reader.LOCATION][x.location], x.qty, x.held,
             x.allocated, x.shipped)
            for x in holds[key].lines or []
        ]  # fmt: skip
        assert not lines or own == lines, key
        assert lines or holds[key].ended


def check_names(inv: inventory.Inventory, store: reader.Store) -> None:
    locations = store.names[reader.LOCATION]
    assert inv.location_ids(locations).tolist() == list(range(len(locations)))
    for seller in set(SELLERS):
        own = {
            number: name
            for number, (of, name) in store.skus.items()
            if store.names[reader.SELLER][of] == seller
        }
        assert inv.sku_ids(list(own.values()), seller=seller).tolist() == list(own)


def check_log(path: Path, store: reader.Store) -> None:
    """Entry by entry, with names, against the engine's reader of logs."""
    assert store.log is not None
    log = reader.Log(store.log.chain, store.log.seed, 0)
    own = []
    for record in log.read(0):
        if record.type == 1:
            own += [(record.lsn, entry) for entry in reader.entries_of(record)]
    with inventory.log.read(path) as records:
        theirs = [(record.lsn, entry) for record in records for entry in record.entries]
        tail = records.tail
    assert tail is not None
    assert (tail.lsn_end, tail.torn_bytes > 0) == (log.end, log.torn)
    assert len(own) == len(theirs)
    for (lsn, mine), (their_lsn, entry) in zip(own, theirs, strict=True):
        assert (lsn, mine.lsn, mine.whole) == (their_lsn, entry.lsn, entry.whole)
        assert entry.state == STATES.get(mine.state)
        assert [(x.qty, x.free) for x in mine.lines] == [(x.qty, x.free) for x in entry.lines]
        if mine.kind == reader.NAME:
            assert entry.name == (mine.blob or b"").decode()
            continue
        assert store.names[reader.SELLER][mine.seller] == entry.seller
        assert store.names[reader.ACCOUNT][mine.account] == entry.account
        reasons = store.names[reader.REASON]
        assert entry.reason == ("" if mine.reason == reader.NONE else reasons[mine.reason])
        ids = entry.op_id if mine.kind in reader.STOCK else entry.reservation_id
        assert ids == (None if mine.id is None else reader.shown(mine.id))


def check_op_ids(path: Path, store: reader.Store, traffic: Traffic) -> None:
    """Those the reader knows are known to the engine, and no others. Writes to the store."""
    known = store.op_ids()
    with inventory.open(
        path, clock=ManualClock(store.engine_ms), id_retention_ms=A_YEAR_MS, **OPTIONS
    ) as inv:
        for seller, op_id in traffic.op_ids:
            try:
                inv.receive("PROBE", "PROBE", 1, op_id=op_id, seller=seller)
            except inventory.IdempotencyMismatch:
                assert (seller, op_id) in known
            else:
                assert (seller, op_id) not in known
    assert known


def check_all(path: Path, store: reader.Store) -> None:
    with inventory.open(path, read_only=True) as inv:
        recovery = inv.recovery
        assert store.log is not None
        assert (recovery.lsn_end, recovery.durable_proven) == (store.log.end, store.log.durable)
        assert (recovery.torn_bytes_dropped > 0) == store.log.torn
        assert (recovery.format.major, recovery.format.minor) == store.format
        check_levels(inv, store)
        check_reservations(inv, store)
        check_names(inv, store)


LIVES = {
    "closed": ["closed"],
    "killed": ["killed"],
    "torn": ["killed", "torn"],
    "re-logged": ["relog", "relog", "killed"],
    "snapshot": ["closed", "killed+snapshot", "relog"],
    "trimmed": ["closed+snapshot", "relog+snapshot", "torn+snapshot"],
}


@pytest.mark.parametrize("seed", range(scaled(3)))
@pytest.mark.parametrize("name", LIVES)
def test_a_reader_of_the_pages_agrees(tmp_path: Path, name: str, seed: int) -> None:
    path = tmp_path / "shop.inv"
    traffic = live(path, seed, LIVES[name], 900 // len(LIVES[name]))
    store = reader.read(path)
    check_all(path, store)
    check_log(path, store)
    assert store.log is not None
    assert (store.snapshot_lsn > 0) == ("snapshot" in LIVES[name][-1] or name == "snapshot")
    if name == "re-logged":
        assert reader.check_archive(store.log.chain) >= 2
    if name == "trimmed":
        assert store.log.chain[0].base > reader.LSN_FIRST
    else:
        alone = reader.read(path, use_snapshot=False)
        for snapshot in path.glob("snap-*"):
            shutil.copytree(path, tmp_path / "bare")
            (tmp_path / "bare" / snapshot.name).unlink()
            check_all(tmp_path / "bare", alone)
        check_all(path, alone)
        assert (alone.digests > 0) == ("closed" in LIVES[name])
        assert alone.op_ids().keys() == store.op_ids().keys()
    check_op_ids(path, store, traffic)
    assert traffic.done == set(KINDS)


def test_a_snapshot_of_a_store_that_goes_on(tmp_path: Path) -> None:
    """Its stripes are of different moments; with the log from its start they are of one."""
    for attempt in range(30):  # until the copying and the changes were at it together
        if snapshot_meanwhile(tmp_path / f"{attempt}.inv", seed=attempt):
            return
    pytest.fail("30 snapshots, and nothing came in between")


def snapshot_meanwhile(path: Path, seed: int) -> bool:
    traffic = Traffic(seed)
    with inventory.open(path, durability="interval", **OPTIONS) as inv:
        for _ in range(200):
            traffic.step(inv)
        stop = threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                traffic.step(inv)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            inv.snapshot()
        finally:
            stop.set()
            thread.join()
    store = reader.read(path)
    assert store.fuzzy_end >= store.snapshot_lsn > 0
    assert len(set(store.floors.values())) > 2
    check_all(path, store)
    check_all(path, reader.read(path, use_snapshot=False))
    return store.fuzzy_end > store.snapshot_lsn


def test_checksums_and_hash() -> None:
    assert reader.crc(0, b"123456789") == 0xE3069283
    assert reader.crc(reader.crc(0, b"1234"), b"56789") == 0xE3069283


# ---- damage --------------------------------------------------------------------------------------


def verdict_of_reader(path: Path) -> str:
    try:
        reader.read(path)
    except reader.Unknown:
        return "unknown"
    except reader.Damage:
        return "damage"
    return "open"


def verdict_of_engine(path: Path) -> str:
    try:
        inventory.open(path, read_only=True).close()
    except inventory.errors.FormatUnknown:
        return "unknown"
    except (inventory.errors.LogCorrupt, inventory.errors.IoError):
        return "damage"
    return "open"


def check_same_verdict(path: Path, what: str) -> str:
    own = verdict_of_reader(path)
    assert verdict_of_engine(path) == own, what
    if own == "open":
        check_all(path, reader.read(path))
    return own


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store with a snapshot, a recovered segment and a tail behind it."""
    path: Path = tmp_path_factory.mktemp("shop") / "shop.inv"
    live(path, 1, ["relog+snapshot", "killed"], 80)
    return path


@pytest.mark.parametrize("without", [(), ("snap-*",), ("snap-*", "HINT")], ids="_".join)
def test_flipped_bytes_have_the_same_verdict(
    shop: Path, tmp_path: Path, without: tuple[str, ...]
) -> None:
    chance, verdicts = random.Random(2), []
    path = tmp_path / "copy"
    shutil.copytree(shop, path)
    for pattern in without:  # proofs of what was durable
        for file in path.glob(pattern):
            file.unlink()
    log = reader.read(path).log
    assert log is not None
    used = {s.name: s.offset(min(log.end, s.end)) for s in log.chain if s.base < log.end}
    others = (file for name in ("snap-*", "STATE", "HINT") for file in path.glob(name))
    files = [*(path / name for name in used), *others]
    for number in range(scaled(120)):
        file = files[number % len(files)]
        data = file.read_bytes()
        at = chance.randrange(min(len(data), used.get(file.name, len(data)) + 100))
        flipped = bytes([data[at] ^ 1 << chance.randrange(8)])
        (path / file.name).write_bytes(data[:at] + flipped + data[at + 1 :])
        verdicts.append(check_same_verdict(path, f"{file.name} at {at}"))
        (path / file.name).write_bytes(data)
    assert "open" in verdicts
    assert "damage" in verdicts or not without


def test_missing_and_short_files_have_the_same_verdict(shop: Path, tmp_path: Path) -> None:
    verdicts = []
    for file in sorted(shop.iterdir()):
        if file.name == "LOCK":
            continue
        for keep in (None, 0, 1000, 5000, file.stat().st_size - 1):
            path = tmp_path / "copy"
            shutil.copytree(shop, path)
            if keep is None:
                (path / file.name).unlink()
            else:
                (path / file.name).write_bytes(file.read_bytes()[:keep])
            verdicts.append(check_same_verdict(path, f"{file.name} cut to {keep}"))
            shutil.rmtree(path)
    assert {"open", "damage"} <= set(verdicts)


def test_another_stores_files_have_the_same_verdict(shop: Path, tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "copy"
    live(other, 9, ["relog+snapshot", "killed"], 40)
    for name in ("STATE", "HINT", *(file.name for file in shop.glob("wal-*"))):
        if not (other / name).exists():
            continue
        shutil.copytree(shop, path)
        shutil.copy(other / name, path / name)
        check_same_verdict(path, name)
        shutil.rmtree(path)


# ---- reader rules, by crafted bytes --------------------------------------------------------------


def tick_entry(**fields: int) -> bytes:
    """A CLOCK_TICK, or with other fields something that is none."""
    blob = struct.pack("<5Q", START_MS, 0, 0, 0, 0)
    return entry(reader.CLOCK_TICK, blob=blob, **fields)


def entry(
    kind: int, *, flags: int = 0, more: int = 0, number: int = 0, body: int = 0,
    lines: bytes = b"", blob: bytes | None = None,
) -> bytes:  # fmt: skip
    head = struct.pack(
        "<BBHHBBIII16x", kind, flags | (16 if blob is not None else 0), len(lines) // 12, 0, 0,
        more, number, body, 0,
    )  # fmt: skip
    tail = b"" if blob is None else struct.pack("<H", len(blob)) + blob
    return head + lines + tail + bytes(-len(tail) % 4)


def line(*, op: int = 9, flags: int = 0) -> bytes:
    return struct.pack("<IIHBB", 0, 1, 0, op, flags)


def gate(major: int, minor: int, features: int = 0) -> bytes:
    return entry(reader.FORMAT_GATE, blob=struct.pack("<HHIQ", major, minor, 0, features))


class Crafted(NamedTuple):
    what: str
    verdict: str
    payload: bytes
    type: int = 1
    flags: int = 3
    message: str = ""


APPENDED = [
    Crafted("a tick", "open", tick_entry()),
    Crafted("ignorable flags of a record", "open", tick_entry(), flags=0xFF03),
    Crafted("flags of a record", "unknown", tick_entry(), flags=7, message="flag bits 0x4"),
    Crafted("no batch end", "unknown", tick_entry(), flags=1, message="batch of several"),
    Crafted("a type", "unknown", b"", type=9, message="type 9"),
    Crafted("a type to skip", "skip", b"whatever", type=9, flags=2),
    Crafted("a type to skip with flags", "unknown", b"", type=9, flags=0x82, message="0x80"),
    Crafted("a kind", "unknown", entry(200), message="entry of kind 200"),
    Crafted("a reserved kind", "unknown", entry(25), message="entry of kind 25"),
    Crafted("flags of an entry", "unknown", tick_entry(flags=64), message="bits 0x40"),
    Crafted("more flags of an entry", "unknown", tick_entry(more=2), message="bits 0x200"),
    Crafted("an operation", "unknown", entry(12, lines=line(op=12)), message="operation 12"),
    Crafted("flags of a line", "unknown", entry(12, lines=line(flags=2)), message="of a line"),
    Crafted("a kind of name", "unknown", entry(27, body=7, blob=b"x"), message="name of kind 7"),
    Crafted("a gate to this format", "open", gate(1, 0)),
    Crafted("a gate to a minor version", "open", gate(1, 7)),
    Crafted("a gate", "unknown", gate(2, 0), message="gate to format 2.0"),
    Crafted("a gate to a feature", "unknown", gate(1, 0, 4), message="feature bits 0x4"),
    Crafted("a tick too short", "damage", entry(28, blob=b"short")),
    Crafted("a gate too short", "damage", entry(31, blob=b"short")),
    Crafted("an entry too short", "damage", tick_entry()[:20]),
    Crafted("a digest that says nothing", "open", entry(29, blob=bytes(16))),
    Crafted("a digest too short", "state", entry(29, blob=bytes(8)), message="kind 29"),
    Crafted(
        "another digest", "state", entry(29, blob=struct.pack("<QQ", 1, 4096)), message="was there"
    ),
]


def append(path: Path, crafted: Crafted) -> None:
    """Writes one more record behind the log of a closed store."""
    log = reader.read(path).log
    assert log is not None
    body = crafted.payload
    if crafted.type == 1:
        body = struct.pack("<QQ", START_MS, 0) + body
    padded = body + bytes(-len(body) % 8)
    head = struct.pack(
        "<BBHIQQIII", 0xE7, crafted.type, crafted.flags, len(body), log.end, 0,
        segment_at(log, log.end).epoch, reader.crc(0, padded), 0,
    )  # fmt: skip
    head += struct.pack("<I", reader.crc(log.seed, head))
    patch(path, log, log.end, head + padded)


@pytest.mark.parametrize("crafted", APPENDED, ids=lambda crafted: crafted.what)
def test_what_a_reader_may_pass_over(tmp_path: Path, crafted: Crafted) -> None:
    path = tmp_path / "shop.inv"
    live(path, 3, ["closed"], 30)
    append(path, crafted)
    if crafted.verdict in ("open", "skip"):
        assert check_same_verdict(path, crafted.what) == "open"
        store = reader.read(path)
        assert store.log is not None
        skipped = int(crafted.verdict == "skip")
        assert store.log.skipped == skipped
        before = engine_verdict_and_levels(path)
        shown = CliRunner().invoke(main, ["log", str(path)])
        assert shown.exit_code == 0
        assert ("1 records are of a later release" in shown.stderr) == bool(skipped)
        with inventory.open(path, **OPTIONS) as inv:  # and goes on behind it
            assert inv.recovery.records_skipped == skipped
            assert engine_levels(inv) == before
            inv.receive("AFTER", "LON", 1)
        assert check_same_verdict(path, crafted.what) == "open"
        return
    if crafted.verdict == "state":  # only who rebuilds it can tell
        assert check_same_verdict(path, crafted.what) == "damage"
        assert list(inventory.log.read(path))[-1].entries[0].kind == "DIGEST"
        with pytest.raises(inventory.errors.LogCorrupt, match=crafted.message):
            inventory.open(path)
        return
    assert check_same_verdict(path, crafted.what) == crafted.verdict
    for call in (lambda: inventory.open(path).close(), lambda: list(inventory.log.read(path))):
        if crafted.verdict == "unknown":
            with pytest.raises(inventory.errors.FormatUnknown, match=crafted.message) as refused:
                call()
            assert "format 1.0" in str(refused.value)
            assert refused.value.segment == 1
        else:
            with pytest.raises(inventory.errors.LogCorrupt):
                call()


def engine_verdict_and_levels(path: Path) -> dict[tuple[str, str, str], tuple[int, ...]]:
    with inventory.open(path, read_only=True) as inv:
        return engine_levels(inv)


class Header(NamedTuple):
    """Where a header's copies are in its file, and where its version and CRC are in a copy."""

    files: str
    copies: tuple[int, ...]
    features: int
    crc: int


HEADERS = {
    "STATE": Header("STATE", (0, 4096), 104, 4092),
    "segment": Header("wal-*", (0, 2048), 104, 2044),
    "snapshot": Header("snap-*", (0,), 88, 4092),
}
# format and offset in a header: major, minor, features that must and that may be understood
PLACES: dict[str, Callable[[Header], tuple[str, int, int]]] = {
    "major": lambda header: ("<H", 8, 2),
    "no major": lambda header: ("<H", 8, 0),
    "minor": lambda header: ("<H", 10, 7),
    "must": lambda header: ("<Q", header.features, 1 << 40),
    "may": lambda header: ("<Q", header.features + 8, 1 << 40),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HEADERS)
def test_versions_and_features_of_headers(
    shop: Path, tmp_path: Path, name: str, place: str
) -> None:
    header = HEADERS[name]
    path = tmp_path / "copy"
    shutil.copytree(shop, path)
    form, offset, value = PLACES[place](header)
    for file in sorted(path.glob(header.files))[-1:]:
        data = bytearray(file.read_bytes())
        for copy in header.copies:
            struct.pack_into(form, data, copy + offset, value)
            check = reader.crc(0, bytes(data[copy : copy + header.crc]))
            struct.pack_into("<I", data, copy + header.crc, check)
        file.write_bytes(data)
    expected = "unknown" if place in ("major", "no major", "must") else "open"
    assert check_same_verdict(path, f"{place} of {name}") == expected
    if expected == "open":
        with inventory.open(path, **OPTIONS) as inv:
            minor = 7 if place == "minor" else 0
            assert (inv.recovery.format.major, inv.recovery.format.minor) == (1, minor)
        return
    with pytest.raises(inventory.errors.FormatUnknown) as refused:
        inventory.open(path)
    message = {
        "major": "format 2.0; this release knows format 1.0",
        "no major": "format 0.0; this release knows format 1.0",
        "must": "feature bits 0x10000000000 that this release (format 1.0) does not know",
    }[place]
    assert message in str(refused.value)
    assert str(refused.value).startswith({"segment": "wal-", "snapshot": "snap-"}.get(name, name))


def test_a_section_of_an_unknown_kind(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(shop, path)
    (file,) = path.glob("snap-*")
    data = bytearray(file.read_bytes())
    footer, size = struct.unpack_from("<QQ", data, len(data) - 32)
    index = footer + size - 8 - 32  # of the last block: NAME_LISTs and CLOCK
    block, _, length = struct.unpack_from("<QII", data, index)
    seed = reader.state_slots((path / "STATE").read_bytes())[0].identity.seed
    struct.pack_into("<I", data, block + 32 + length - 80 - 16, 99)
    check = reader.crc(0, bytes(data[block + 32 : block + 32 + (length + 7) // 8 * 8]))
    struct.pack_into("<I", data, block + 20, check)
    struct.pack_into("<I", data, block + 28, reader.crc(seed, bytes(data[block : block + 28])))
    struct.pack_into("<I", data, index + 24, check)
    check = reader.crc(0, bytes(data[footer : footer + size - 8]))
    struct.pack_into("<I", data, footer + size - 8, check)
    file.write_bytes(data)
    assert check_same_verdict(path, "a section") == "unknown"
    with pytest.raises(inventory.errors.FormatUnknown, match="section of kind 99"):
        inventory.open(path)


# ---- finalize ------------------------------------------------------------------------------------


def test_finalize(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    with inventory.open(path, **OPTIONS) as inv:
        assert str(inv.recovery.format) == "1.0"
        before = inv.barrier()
        assert inv.finalize() == inv.finalize() == inv.recovery.format
        assert inv.barrier() == before  # one format only: there is nothing to log
    shown = CliRunner().invoke(main, ["finalize", str(path), "--json"])
    assert (shown.exit_code, shown.output) == (0, '{"major":1,"minor":0,"features":0}\n')
    with inventory.open(path, read_only=True) as inv, pytest.raises(inventory.errors.Forbidden):
        inv.finalize()
    with inventory.open() as inv, pytest.raises(inventory.BadRequest):
        inv.finalize()


def test_the_gate_is_kept(tmp_path: Path) -> None:
    """A format put in force by a gate stays in force: in STATE, segments and snapshots."""
    path = tmp_path / "shop.inv"
    live(path, 3, ["closed"], 30)
    append(path, Crafted("", "", gate(1, 7)))
    with inventory.open(path, **OPTIONS) as inv:
        assert str(inv.recovery.format) == str(inv.finalize()) == "1.7"
        inv.snapshot()
    (file,) = path.glob("snap-*")
    assert struct.unpack_from("<HH", file.read_bytes(), 8) == (1, 7)
    slots = reader.state_slots((path / "STATE").read_bytes())
    assert max(slots, key=lambda slot: slot.sequence).format == (1, 7)
    shown = CliRunner().invoke(main, ["log", str(path)])
    assert "FORMAT_GATE  format 1.7" in shown.output
    (path / "HINT").unlink()
    with inventory.open(path, **OPTIONS) as inv:
        assert str(inv.recovery.format) == "1.7"
    log = reader.read(path).log
    assert log is not None
    assert log.chain[-1].format == (1, 7)
