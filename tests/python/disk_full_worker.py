# SPDX-License-Identifier: Apache-2.0
"""The process that works on a disk that fills, for ``test_disk_full.py``.

Run as `python disk_full_worker.py <directory of a small disk> <cycles>`. Writes one line of JSON
for each cycle; ends with a failed assertion when something is wrong.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inventory
from inventory import State
from inventory.errors import DiskFull

THREADS = 4
SKUS = [f"SKU-{number}" for number in range(50)]
CART = [(sku, "LON", 1) for sku in SKUS]  # much log for one call
OPTIONS: dict[str, Any] = {
    "segment_bytes": 4 << 20,  # the smallest
    "snapshot_log_bytes": 6 << 20,
    "durability": "durable",
}
LONG_MS = 30 * 24 * 3_600_000
SHORT_MS = 1_500
BALLAST_PIECE = 64 * 1024
WAIT_S = 60.0


class Ballast:
    """A file of others that takes all the room there is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def grow(self, leave_bytes: int = 0) -> None:
        with self.path.open("ab") as file:
            while True:
                status = os.statvfs(self.path.parent)
                if leave_bytes and status.f_bavail * status.f_frsize <= leave_bytes:
                    break
                try:
                    os.write(file.fileno(), bytes(BALLAST_PIECE))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    if not leave_bytes:
                        self.last_blocks(file.fileno())
                    break
            os.fsync(file.fileno())

    def last_blocks(self, file: int) -> None:
        """A short write takes what a whole piece did not get."""
        try:
            while os.write(file, bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        self.path.unlink(missing_ok=True)


class Shop:
    """One store over all cycles, and what it has acknowledged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = Ballast(path.parent / "ballast")
        self.states: dict[str, State] = {}  # of holds that do not lapse
        self.lapsing: list[str] = []
        self.lock = threading.Lock()
        self.number = 0

    def next_id(self, cycle: int) -> str:
        with self.lock:
            self.number += 1
            return f"c{cycle}-{self.number}"

    def check(self, inv: inventory.Inventory) -> None:
        """Everything acknowledged is there, and nothing else is held."""
        report = inv.verify()
        assert report.ok, report.problems
        held = allocated = 0
        for key, state in self.states.items():
            found = inv.reservation(key).state
            assert found is state, f"{key}: {found}, acknowledged {state}"
            held += found is State.HELD
            allocated += found is State.ALLOCATED
        lapsing = sum(inv.reservation(key).state is State.HELD for key in self.lapsing)
        totals = [inv.availability(sku).totals for sku in SKUS]
        for level in totals:  # a unit of each SKU is in every cart
            assert level.allocated == allocated
            assert held <= level.held <= held + lapsing

    def sell(self, inv: inventory.Inventory, cycle: int, ttl_ms: int) -> bool:
        """One hold; False: refused, and no trace of it."""
        key = self.next_id(cycle)
        try:
            inv.reserve_lines(CART, reservation_id=key, ttl_ms=ttl_ms)
        except DiskFull:
            return False
        with self.lock:
            if ttl_ms == LONG_MS:
                self.states[key] = State.HELD
            else:
                self.lapsing.append(key)
        return True

    def settle(self, inv: inventory.Inventory, key: str) -> None:
        kind, state = random.choice(
            [
                (inv.commit, State.ALLOCATED),
                (inv.release, State.RELEASED),
                (inv.cancel, State.CANCELLED),
                (inv.ship, State.SHIPPED),
            ]
        )
        kind(key)
        self.states[key] = state

    def clear(self, inv: inventory.Inventory) -> None:
        left = [key for key, state in self.states.items() if state in (State.HELD, State.ALLOCATED)]

        def work() -> int:
            count = 0
            while True:
                try:
                    key = left.pop()
                except IndexError:
                    return count
                inv.ship(key)
                self.states[key] = State.SHIPPED
                count += 1

        on_threads(work)


def until(condition: Callable[[], bool], what: str) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_s, f"not in {WAIT_S} s: {what}"
        time.sleep(0.005)


def on_threads(work: Callable[[], int]) -> int:
    """Run `work` on all threads; the sum of what they return."""
    done: list[int] = []
    failed: list[BaseException] = []

    def one() -> None:
        try:
            done.append(work())
        except BaseException as error:  # shown by the main thread
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(done)


def fill(shop: Shop, inv: inventory.Inventory, cycle: int) -> int:
    """Sell until the disk refuses; returns what was sold."""

    def work() -> int:
        count = 0
        while shop.sell(inv, cycle, LONG_MS):
            count += 1
        return count

    return on_threads(work)


def refusing(shop: Shop, inv: inventory.Inventory, cycle: int, counts: dict[str, int]) -> None:
    """What goes on while sales are refused: reads, promises, expiry."""
    keys = [key for key, state in shop.states.items() if state is State.HELD]
    random.shuffle(keys)
    for key in keys[:200]:
        assert inv.metrics().disk_state == 1
        assert not shop.sell(inv, cycle, LONG_MS)
        counts["refused"] += 1
        shop.settle(inv, key)
        counts["kept"] += 1
        assert inv.availability(SKUS[0]).totals.on_hand > 0
    before = inv.metrics().expired
    lapsed = shop.lapsing[:]
    until(
        lambda: all(inv.reservation(key).state is State.EXPIRED for key in lapsed),
        "holds lapse on a full disk",
    )
    counts["expired"] += len(lapsed)
    assert inv.metrics().expired >= before


def drain(shop: Shop, inv: inventory.Inventory) -> int:
    """Keep promises until the reserve is used up too; others take what is freed meanwhile."""
    count = 0
    keys = [key for key, state in shop.states.items() if state is State.HELD]
    for key in keys:
        if count % 50 == 0:
            shop.ballast.grow()
        try:
            shop.settle(inv, key)
        except DiskFull:
            return count
        count += 1
    return count + on_threads(lambda: remember(shop, inv))


def remember(shop: Shop, inv: inventory.Inventory) -> int:
    """Release what never was, which is logged too, until that is refused."""
    count = 0
    while True:
        if count % 500 == 0:
            with shop.lock:
                shop.ballast.grow()
        try:
            inv.release(f"{shop.next_id(0)}-never-was".ljust(64, "."), tombstone=True)
        except DiskFull:
            return count
        count += 1


def one_cycle(shop: Shop, cycle: int) -> dict[str, int]:
    counts = {"reserved": 0, "refused": 0, "kept": 0, "expired": 0, "read_only": 0}
    with inventory.open(shop.path, **OPTIONS) as inv:
        until(lambda: inv.metrics().reserve_segments == 2, "the reserve is there")
        for sku in SKUS:
            inv.receive(sku, "LON", 100_000)
        shop.ballast.grow(leave_bytes=(cycle % 3) * (3 << 20) + (1 << 20))
        for _ in range(20):
            if not shop.sell(inv, cycle, SHORT_MS):
                break
        counts["reserved"] = fill(shop, inv, cycle)
        assert inv.metrics().disk_state == 1
        shop.ballast.grow()
        if inv.metrics().disk_state == 1:
            refusing(shop, inv, cycle, counts)
        shop.check(inv)
        if cycle % 2 == 1:
            counts["kept"] += drain(shop, inv)
            assert inv.metrics().disk_state == 2
            counts["read_only"] = inv.metrics().disk_read_only_count
            shop.check(inv)
        if cycle % 4 < 2:
            shop.ballast.free()
            until(lambda: inv.metrics().disk_state == 0, "it comes back by itself")
            assert inv.metrics().reserve_segments == 2
            assert shop.sell(inv, cycle, LONG_MS)
            shop.check(inv)
    if cycle % 4 >= 2:  # opened again while the disk still is full
        try:
            with inventory.open(shop.path, **OPTIONS) as inv:
                shop.check(inv)
        except DiskFull:  # the reserve was used up before
            assert cycle % 2 == 1
            with inventory.open(shop.path, read_only=True) as inv:
                shop.check(inv)
        shop.ballast.free()
    with inventory.open(shop.path, **OPTIONS) as inv:
        shop.check(inv)
        shop.clear(inv)  # the next cycle starts with no holds
        for key, state in shop.states.items():
            assert inv.reservation(key).state is state
        shop.states.clear()
        shop.lapsing.clear()
    shrink(shop)
    return counts


def shrink(shop: Shop) -> None:
    """Forget what has ended and trim the log: the next cycle has the disk that this one had."""
    with inventory.open(shop.path, id_retention_ms=1, **OPTIONS) as inv:
        until(lambda: inv.metrics().ended_ids == 0, "ended ids are forgotten")
        inv.snapshot()
        inv.snapshot()


def main(place: str, cycles: str) -> None:
    random.seed(64)
    shop = Shop(Path(place) / "shop.inv")
    for cycle in range(int(cycles)):
        print(json.dumps(one_cycle(shop, cycle)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
