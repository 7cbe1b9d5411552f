# SPDX-License-Identifier: Apache-2.0
"""Many threads on one store: a unit is sold once; closing while others are inside is normal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from scale import scaled

import inventory
from inventory import InsufficientStock, Inventory, StoreClosed
from inventory.testing import MemoryStorage

THREADS = 8
Durability = Literal["durable", "interval", "memory"]


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before_s)


def run(count: int, work: Callable[[int], None]) -> None:
    """Run `work` on threads; what one raises fails the test."""
    raised: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("durability", ["memory", "interval"])
def test_one_unit_is_sold_exactly_once(tmp_path: Path, durability: Durability) -> None:
    rounds = scaled(10_000 if durability == "memory" else 2_500)
    path = None if durability == "memory" else tmp_path / "shop"
    wins: list[list[int]] = [[] for _ in range(THREADS)]
    barrier = threading.Barrier(THREADS)
    with inventory.open(path, durability=durability, segment_bytes=4 << 20) as inv:
        for number in range(rounds):
            inv.receive(f"S{number}", "LON", 1)

        def sell(number: int) -> None:
            for turn in range(rounds):
                if turn % 50 == 0:  # nobody runs far ahead
                    barrier.wait(60)
                try:
                    inv.reserve(f"S{turn}", 1)
                    wins[number].append(turn)
                except InsufficientStock:
                    continue

        run(THREADS, sell)
        assert sorted(turn for won in wins for turn in won) == list(range(rounds))
        report = inv.verify()
        assert report.ok, report.problems
        assert report.held == report.holds == rounds


def test_twenty_buyers_of_ten_units() -> None:
    """Odoo and ERPNext: 20 reserve 10 units at once: 10 succeed, nobody gets another error."""
    for _ in range(scaled(50)):
        with inventory.open() as inv:
            inv.receive("TEE", "LON", 10)
            outcome: list[bool] = []
            barrier = threading.Barrier(20)

            def buy(
                number: int,
                inv: Inventory = inv,
                outcome: list[bool] = outcome,
                barrier: threading.Barrier = barrier,
            ) -> None:
                barrier.wait(60)
                try:
                    inv.reserve("TEE", 1)
                    outcome.append(True)
                except InsufficientStock:
                    outcome.append(False)

            run(20, buy)
            assert (len(outcome), sum(outcome)) == (20, 10)


def test_carts_over_the_same_rows_never_oversell_and_never_stop() -> None:
    skus = [f"S{number}" for number in range(12)]
    with inventory.open() as inv:
        for sku in skus:
            inv.receive(sku, "LON", 1_000)

        def shop(number: int) -> None:
            for turn in range(scaled(1_500)):
                order = skus if (number + turn) % 2 else skus[::-1]
                key = f"{number}-{turn}"
                try:
                    inv.reserve_lines([(sku, None, 1) for sku in order], reservation_id=key)
                except InsufficientStock:
                    continue
                (inv.release, inv.ship, inv.cancel)[turn % 3](key)

        run(THREADS, shop)
        report = inv.verify()
        assert report.ok, report.problems
        assert report.held == report.allocated == 0


@pytest.mark.parametrize("durability", ["memory", "interval", "durable"])
def test_closing_while_threads_are_inside(durability: Durability) -> None:
    """Everybody gets an answer or StoreClosed; what was answered is there after reopening."""
    for _ in range(scaled(25)):
        storage = None if durability == "memory" else MemoryStorage()
        inv = inventory.open(storage=storage, durability=durability, segment_bytes=1 << 20)
        inv.receive("TEE", "LON", 1_000_000)
        held: set[str] = set()
        started = threading.Barrier(THREADS + 1)

        def work(
            number: int,
            inv: Inventory = inv,
            held: set[str] = held,
            started: threading.Barrier = started,
        ) -> None:
            started.wait(60)
            try:
                for turn in range(1_000_000):
                    hold = inv.reserve_lines(
                        [("TEE", None, 1)] * (1 + turn % 3), reservation_id=f"{number}-{turn}"
                    )
                    held.add(hold.reservation_id)
                    inv.availability("TEE")
            except StoreClosed:
                pass

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        started.wait(60)
        closers = [threading.Thread(target=inv.close) for _ in range(2)]
        for thread in closers:
            thread.start()
        for thread in [*closers, *threads]:
            thread.join()
        assert inv.closed
        if storage is not None:
            with inventory.open(storage=storage, segment_bytes=1 << 20) as again:
                for key in held:
                    assert again.reservation(key).state.is_live
                assert again.verify().ok


def test_open_and_close_from_many_threads(tmp_path: Path) -> None:
    def cycle(number: int) -> None:
        for turn in range(scaled(10)):
            with inventory.open(tmp_path / str(number), segment_bytes=4 << 20) as inv:
                inv.receive("TEE", "LON", 1)
                assert inv.availability("TEE", "LON").on_hand == turn + 1

    run(2, cycle)


def test_reads_see_whole_changes() -> None:
    """A transfer of promises between two SKUs in one cart is never seen half done in one row."""
    with inventory.open() as inv:
        inv.receive("TEE", "LON", 4)
        done = threading.Event()

        def change(_: int) -> None:
            for turn in range(scaled(20_000)):
                inv.reserve("TEE", 4, reservation_id=str(turn))
                inv.release(str(turn))
            done.set()

        def look(number: int) -> None:
            if number == 0:
                change(number)
                return
            while not done.is_set():
                level = inv.availability("TEE", "LON")
                assert level.held in (0, 4)
                assert level.available == level.on_hand - level.reserved

        run(3, look)
