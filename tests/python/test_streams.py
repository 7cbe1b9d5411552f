# SPDX-License-Identifier: Apache-2.0
"""Real order streams through the engine: every figure and digest of the table, to the unit."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import streams
from streams import Event, Tally

import inventory

Line = tuple[str, str | None, int]  # sku, location or None, qty
KeyToLine = Callable[[Any], tuple[str, str | None]]

THREADS = 8
ONE_PLACE = "MAIN"

pytestmark = pytest.mark.skipif(
    streams.data_dir() is None,
    reason="the order streams are not here: INVENTORY_SHARED_DATA names their folder",
)


class Replay:
    """A stream through an open store, all of it or one thread's share."""

    def __init__(self, inv: inventory.Inventory, line_of: KeyToLine) -> None:
        self.inv = inv
        self.line_of = line_of
        self.tally = Tally()

    def run(self, events: Iterable[Event[Any]]) -> None:
        for kind, number, lines in events:
            if kind == "take":
                self.take(f"order-{number}", lines)
                continue
            (key, qty), *_ = lines
            sku, location = self.line_of(key)
            if kind == "back":
                self.bring_back(sku, location or ONE_PLACE, qty)
            else:
                self.write_off(sku, location or ONE_PLACE, qty)

    def take(self, reservation_id: str, lines: Sequence[tuple[Any, int]]) -> None:
        """Reserve, commit, ship; or the refusal."""
        inv, tally = self.inv, self.tally
        units = sum(qty for _, qty in lines)
        try:
            if len(lines) == 1:
                sku, location = self.line_of(lines[0][0])
                inv.reserve(sku, units, location=location, reservation_id=reservation_id)
            else:
                asked: list[Line] = [(*self.line_of(key), qty) for key, qty in lines]
                inv.reserve_lines(asked, reservation_id=reservation_id)
        except inventory.InsufficientStock:
            tally.refused += 1
            tally.refused_units += units
            return
        inv.commit(reservation_id)
        inv.ship(reservation_id)
        tally.taken += 1
        tally.taken_units += units

    def bring_back(self, sku: str, location: str, qty: int) -> None:
        self.inv.receive(sku, location, qty)
        self.tally.back += 1
        self.tally.back_units += qty

    def write_off(self, sku: str, location: str, qty: int) -> None:
        """What is written off can't be more than there is."""
        try:
            written = min(qty, self.inv.availability(sku, location).on_hand)
        except inventory.UnknownSku:
            written = 0
        if written:
            self.inv.adjust(sku, location, -written, reason="write-off")
        self.tally.written_off += 1
        self.tally.written_off_units += written
        self.tally.clamped += written < qty


def load(inv: inventory.Inventory, stock: Mapping[Any, int], line_of: KeyToLine) -> None:
    for key, qty in stock.items():
        if qty:
            sku, location = line_of(key)
            inv.receive(sku, location or ONE_PLACE, qty)


def load_pooled(inv: inventory.Inventory, stock: Mapping[int, int]) -> None:
    """Spread a SKU's stock over the stores that sell it, equal shares, the rest to the first."""
    stores: dict[int, dict[int, None]] = {}
    for _, _, (((store, sku), _),) in streams.journey_per_store():
        stores.setdefault(sku, {})[store] = None
    for sku, qty in stock.items():
        share, rest = divmod(qty, len(stores[sku]))
        for index, store in enumerate(stores[sku]):
            here = share + (rest if index == 0 else 0)
            if here:
                inv.receive(str(sku), str(store), here)


def final_stock(
    inv: inventory.Inventory, keys: Iterable[Any], line_of: KeyToLine
) -> dict[Any, int]:
    final = {}
    for key in keys:
        sku, location = line_of(key)
        try:
            if location is None:
                final[key] = inv.availability(sku).totals.on_hand
            else:
                final[key] = inv.availability(sku, location).on_hand
        except inventory.UnknownSku:  # never had any stock
            final[key] = 0
    return final


def in_one_place(sku: str) -> tuple[str, str | None]:
    return sku, ONE_PLACE


def in_its_store(key: tuple[int, int]) -> tuple[str, str | None]:
    return str(key[1]), str(key[0])


def anywhere(sku: int) -> tuple[str, str | None]:
    return str(sku), None


LINE_OF: dict[str, KeyToLine] = {
    "retail-line-60": in_one_place,
    "retail-line-90": in_one_place,
    "retail-order-60": in_one_place,
    "journey-per-store-60": in_its_store,
    "journey-pooled-60": anywhere,
}
EVENTS: dict[str, Callable[[], Sequence[Event[Any]]]] = {
    "retail-line-60": streams.retail_by_line,
    "retail-line-90": streams.retail_by_line,
    "retail-order-60": streams.retail_by_order,
    "journey-per-store-60": streams.journey_per_store,
    "journey-pooled-60": streams.journey_pooled,
}


def shares_by_sku(events: Sequence[Event[Any]], line_of: KeyToLine) -> list[list[Event[Any]]]:
    """One share a thread: all events of a SKU in one, in their order."""
    shares: list[list[Event[Any]]] = [[] for _ in range(THREADS)]
    for event in events:
        _, _, lines = event
        assert len(lines) == 1, "a stream of whole orders can't be shared out by SKU"
        sku, _ = line_of(lines[0][0])
        shares[zlib.crc32(sku.encode()) % THREADS].append(event)
    return shares


def run_shares(inv: inventory.Inventory, row: str) -> Tally:
    """Replay one stream with a thread a share, and add up what they did."""
    replays = [Replay(inv, LINE_OF[row]) for _ in range(THREADS)]
    failures: list[BaseException] = []

    def run(replay: Replay, share: list[Event[Any]]) -> None:
        try:
            replay.run(share)
        except BaseException as error:
            failures.append(error)

    shares = shares_by_sku(EVENTS[row](), LINE_OF[row])
    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(replays, shares, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    total = Tally()
    for replay in replays:
        total.add(replay.tally)
    return total


def replay_row(inv: inventory.Inventory, row: str, *, threads: bool) -> Tally:
    """Load the start stock of a row of the table, replay its stream, fill in the whole tally."""
    events, line_of = EVENTS[row](), LINE_OF[row]
    stock = streams.start_stock(events, int(row.rpartition("-")[2]))
    if row == "journey-pooled-60":
        load_pooled(inv, stock)
    else:
        load(inv, stock, line_of)
    if threads:
        tally = run_shares(inv, row)
    else:
        replay = Replay(inv, line_of)
        replay.run(events)
        tally = replay.tally
    report = inv.verify()
    assert report.ok, report.problems
    final = final_stock(inv, stock, line_of)
    tally.start = sum(stock.values())
    tally.final = sum(final.values())
    tally.digest = streams.digest_of(final)
    assert report.on_hand == tally.final
    assert (report.held, report.allocated) == (0, 0)
    return tally


@pytest.mark.parametrize("row", streams.EXPECTED)
def test_dictionary_gives_the_table(row: str) -> None:
    events = EVENTS[row]()
    stock = streams.start_stock(events, int(row.rpartition("-")[2]))
    assert streams.replay_in_dictionary(events, stock) == streams.EXPECTED[row]


@pytest.mark.parametrize("row", streams.EXPECTED)
def test_engine_gives_the_table(row: str) -> None:
    with inventory.open(None) as inv:
        assert replay_row(inv, row, threads=False) == streams.EXPECTED[row]


@pytest.mark.parametrize("row", [row for row in streams.EXPECTED if "order" not in row])
def test_threads_change_nothing(row: str) -> None:
    """8 threads that share a stream by SKU give what one gives."""
    with inventory.open(None) as inv:
        assert replay_row(inv, row, threads=True) == streams.EXPECTED[row]


def test_on_disk_and_again_after_reopening(tmp_path: Path) -> None:
    """A row of the table with a log under it; reopened, the store holds the same final stock."""
    row = "retail-order-60"
    with inventory.open(tmp_path / "store", durability="interval") as inv:
        assert replay_row(inv, row, threads=False) == streams.EXPECTED[row]
    with inventory.open(tmp_path / "store", durability="interval") as inv:
        assert inv.verify().ok
        final = final_stock(inv, streams.start_stock(streams.retail_by_order(), 60), in_one_place)
        assert streams.digest_of(final) == streams.EXPECTED[row].digest
