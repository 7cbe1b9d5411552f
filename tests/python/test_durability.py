# SPDX-License-Identifier: Apache-2.0
"""What is acknowledged survives: power cuts on a disk in memory, and reopening gives the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from scale import scaled

import inventory
from inventory import Inventory, State
from inventory.testing import ManualClock, MemoryStorage

OpenStore = Callable[..., Inventory]
SKUS = [f"S{number}" for number in range(20)]
LOCATIONS = ["LON", "PAR", "OSL"]


class Shop:
    """Random everyday traffic by a seed; remembers every answer it got."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0
        self.answers: dict[str, inventory.Reservation] = {}

    def step(self, inv: Inventory) -> None:
        self.number += 1
        key = f"r-{self.number}"
        sku = self.random.choice(SKUS)
        location = self.random.choice(LOCATIONS)
        choice = self.random.random()
        try:
            if choice < 0.3:
                inv.receive(sku, location, self.random.randint(1, 9), op_id=f"po-{key}")
            elif choice < 0.5:
                self.answers[key] = inv.reserve(
                    sku,
                    self.random.randint(1, 3),
                    location=self.random.choice([location, None]),
                    reservation_id=key,
                    ttl_ms=self.random.choice([50, 5_000, 3_600_000]),
                )
            elif choice < 0.65:
                cart = [
                    (other, self.random.choice([location, None]), 1)
                    for other in self.random.sample(SKUS, 4)
                ]
                self.answers[key] = inv.reserve_lines(cart, reservation_id=key)
            elif choice < 0.7:
                inv.adjust(sku, location, self.random.choice([-2, -1, 1]), reason="count")
            elif choice < 0.73:
                inv.set_policy(sku, location, safety_stock=self.random.randint(0, 3))
            elif self.answers:
                key = self.random.choice(list(self.answers))
                name = self.random.choice(["commit", "ship", "release", "cancel"])
                self.answers[key] = getattr(inv, name)(key)
        except inventory.errors.StoreError:
            raise
        except inventory.InventoryError:
            pass


def picture(inv: Inventory, shop: Shop) -> dict[str, Any]:
    """Everything a user can see, without positions in the log."""
    seen: dict[str, Any] = {}
    for sku in SKUS:
        try:
            found = inv.availability(sku)
        except inventory.UnknownSku:
            continue
        seen[sku] = (
            found.totals,
            [
                (row.location, row.on_hand, row.held, row.allocated, row.safety_stock)
                for row in found.levels
            ],
        )
    for key in shop.answers:
        hold = inv.reservation(key)
        seen[key] = hold.state, hold.units, hold.expires_at_unix_ms, hold.ended_at_unix_ms, hold.lsn
        if hold.state.is_live:
            seen[key] = (*seen[key], hold.lines)
    return seen


@pytest.mark.parametrize("seed", range(scaled(5)))
def test_reopening_gives_the_same(open_store: OpenStore, clock: ManualClock, seed: int) -> None:
    shop = Shop(seed)
    inv = open_store()
    for round_number in range(6):
        for _ in range(150):
            shop.step(inv)
            clock.advance(shop.random.choice([0, 0, 1, 20]))
        before = picture(inv, shop)
        assert inv.verify().ok
        inv.close()
        inv = open_store()
        assert inv.recovery.clean_shutdown, round_number
        assert inv.recovery.torn_bytes_dropped == 0
        assert picture(inv, shop) == before
        assert inv.verify().ok


@pytest.mark.parametrize("seed", range(scaled(20)))
def test_a_power_cut_loses_nothing_acknowledged(
    open_store: OpenStore, clock: ManualClock, storage: MemoryStorage, seed: int
) -> None:
    shop = Shop(seed)
    inv = open_store()
    for cut in range(5):
        for _ in range(60):
            shop.step(inv)
            clock.advance(shop.random.choice([0, 0, 1, 20]))
        before = picture(inv, shop)
        storage.power_cut(seed=cut and seed * 10 + cut)
        assert inv.closed
        inv = open_store()
        assert not inv.recovery.clean_shutdown
        assert picture(inv, shop) == before
        report = inv.verify()
        assert report.ok, report.problems


def test_interval_mode_loses_at_most_what_was_not_synced(
    open_store: OpenStore, storage: MemoryStorage
) -> None:
    inv = open_store(durability="interval", interval_ms=10_000)
    inv.receive("TEE", "LON", 1_000)
    inv.barrier()
    for number in range(100):
        inv.reserve("TEE", 1, reservation_id=f"cart-{number}")
    storage.power_cut()
    inv = open_store()
    report = inv.verify()
    assert report.ok
    assert report.on_hand == 1_000
    known = [number for number in range(100) if is_known(inv, f"cart-{number}")]
    assert known == list(range(len(known)))  # a prefix: never a later one without an earlier one
    assert report.held == len(known)


def test_barrier_makes_interval_mode_durable(open_store: OpenStore, storage: MemoryStorage) -> None:
    inv = open_store(durability="interval", interval_ms=10_000)
    inv.receive("TEE", "LON", 10)
    inv.reserve("TEE", 2, reservation_id="cart-1")
    inv.barrier()
    storage.power_cut()
    assert open_store().reservation("cart-1").state is State.HELD


def is_known(inv: Inventory, reservation_id: str) -> bool:
    try:
        inv.reservation(reservation_id)
    except inventory.UnknownReservation:
        return False
    return True


def test_a_cut_store_refuses_and_a_second_cut_is_fine(
    inv: Inventory, storage: MemoryStorage
) -> None:
    storage.power_cut()
    with pytest.raises(inventory.StoreClosed):
        inv.receive("TEE", "LON", 1)
    inv.close()
    storage.power_cut(seed=1)
    with inventory.open(storage=storage) as again:
        assert again.availability("TEE", "LON").on_hand == 10


def test_replays_are_known_after_a_power_cut(open_store: OpenStore, storage: MemoryStorage) -> None:
    inv = open_store()
    inv.receive("TEE", "LON", 10, op_id="po-1")
    inv.reserve("TEE", 4, reservation_id="cart-1")
    inv.commit("cart-1", lines=[("TEE", "LON", 1)], final=False, op_id="c-1")
    storage.power_cut()
    inv = open_store()
    assert inv.receive("TEE", "LON", 10, op_id="po-1").replayed
    assert inv.reserve("TEE", 4, reservation_id="cart-1").replayed
    assert inv.commit("cart-1", lines=[("TEE", "LON", 1)], final=False, op_id="c-1").replayed
    level = inv.availability("TEE", "LON")
    assert (level.on_hand, level.held, level.allocated) == (10, 3, 1)


def test_recovery_says_what_it_found(open_store: OpenStore, storage: MemoryStorage) -> None:
    inv = open_store()
    assert inv.recovery.created
    assert inv.recovery.entries_replayed == 0
    inv.receive("TEE", "LON", 10)
    lsn = inv.reserve("TEE", 1).lsn
    storage.power_cut()
    found = open_store().recovery
    assert not found.created
    assert found.records_replayed >= 2
    assert found.lsn_first <= lsn <= found.lsn_end
    assert found.epoch > inv.recovery.epoch


def test_a_log_of_many_segments(open_store: OpenStore) -> None:
    inv = open_store(segment_bytes=64 * 1024)
    inv.receive("TEE", "LON", 100_000)
    for number in range(5_000):
        inv.reserve("TEE", 1, reservation_id=f"cart-{number}")
    inv.close()
    inv = open_store(segment_bytes=64 * 1024)
    assert inv.recovery.segments_read > 2
    assert inv.availability("TEE", "LON").held == 5_000
    assert inv.verify().ok
