# SPDX-License-Identifier: Apache-2.0
"""The process that does the work, and that the demo kills: load the stock, replay the baskets.

Every call is durable when it returns, and is written to the ledger only then. A second life starts
from the beginning with the same ids: what is done already answers as a replay, then it goes on.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import inventory
from inventory.demo.baskets import Basket, Key, load_baskets, start_stock
from inventory.demo.job import Job
from inventory.demo.ledger import (
    COMMITTED,
    FINISHED,
    LOADED,
    REFUSED,
    SHIPPED,
    STARTED,
    TAKEN,
    Ledger,
)

EXPIRY_WAIT_S = 30.0
Part = TypeVar("Part")


class Worker:
    """One life of the replay over an open store."""

    def __init__(self, job: Job, inv: inventory.Inventory, ledger: Ledger) -> None:
        self.job = job
        self.inv = inv
        self.ledger = ledger

    def load(self, stock: Sequence[tuple[Key, int]]) -> None:
        """Receive the start stock; the op_id of a row makes it count once."""
        for (store, sku), qty in stock:
            change = self.inv.receive(sku, store, qty, op_id=f"stock-{store}-{sku}")
            self.ledger.append(LOADED, store, sku, qty, change.lsn)

    def replay(self, baskets: Sequence[Basket]) -> None:
        """Serve baskets one after the other: reserve, and unless abandoned commit and ship."""
        for basket in baskets:
            hold = self.take(basket)
            if hold is None:
                self.ledger.append(REFUSED, basket.basket_id, _now_ms())
            elif not self.job.abandons(basket.basket_id):
                self.settle(basket, hold)

    def take(self, basket: Basket) -> inventory.Reservation | None:
        """Reserve the whole basket; if lines of it are short, the others; None if nothing is left.

        Both attempts go under the basket's one id. A refusal leaves nothing behind, so the second
        is judged afresh; and once either has succeeded, in this life or an earlier one, the id is
        known and the other can't take anything more.
        """
        lines = [(sku, basket.store, qty) for sku, qty in basket.lines]
        try:
            return self._reserve(basket, lines)
        except inventory.InsufficientStock as refusal:
            short = {line.sku for line in refusal.short}
        except inventory.IdempotencyMismatch:  # an earlier life took a part of it
            hold = self.inv.reservation(basket.reservation_id)
            units = {line.sku: line.qty for line in hold.lines}
            self._acknowledge(basket, units, 0, hold)
            return hold
        lines = [line for line in lines if line[0] not in short]
        try:
            return self._reserve(basket, lines) if lines else None
        except inventory.InsufficientStock:  # somebody else was faster: once is enough
            return None

    def _reserve(self, basket: Basket, lines: list[tuple[str, str, int]]) -> inventory.Reservation:
        begin_ns = time.perf_counter_ns()
        hold = self.inv.reserve_lines(
            lines,
            reservation_id=basket.reservation_id,
            ttl_ms=self.job.ttl_ms(basket.basket_id),
        )
        micros = max(1, (time.perf_counter_ns() - begin_ns) // 1000)
        units: dict[str, int] = defaultdict(int)
        for sku, _, qty in lines:
            units[sku] += qty
        self._acknowledge(basket, units, 0 if hold.replayed else micros, hold)
        return hold

    def _acknowledge(
        self, basket: Basket, units: dict[str, int], micros: int, hold: inventory.Reservation
    ) -> None:
        self.ledger.append(TAKEN, basket.basket_id, units, micros, hold.lsn, _now_ms())

    def settle(self, basket: Basket, hold: inventory.Reservation) -> None:
        """Commit and ship what is held, from wherever an earlier life left it."""
        if hold.state is inventory.State.HELD:
            change = self.inv.commit(basket.reservation_id)
            self.ledger.append(COMMITTED, basket.basket_id, change.lsn)
        change = self.inv.ship(basket.reservation_id)
        self.ledger.append(SHIPPED, basket.basket_id, change.lsn)

    def await_expiry(self, baskets: Sequence[Basket]) -> None:
        """Wait until no abandoned basket is held any more."""
        deadline_s = time.monotonic() + EXPIRY_WAIT_S
        for basket in baskets:
            while self.job.abandons(basket.basket_id) and time.monotonic() < deadline_s:
                try:
                    if not self.inv.reservation(basket.reservation_id).state.is_live:
                        break
                except inventory.UnknownReservation:
                    break  # nothing of it was ever taken
                time.sleep(0.02)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def spread_by_store(baskets: Sequence[Basket], parts: int) -> list[list[Basket]]:
    """Share the stores out evenly by baskets: within a store, so within a row, the order stays.

    With fewer stores than parts the baskets are dealt out in turn: the row is where they meet.
    """
    by_store: dict[str, list[Basket]] = defaultdict(list)
    for basket in baskets:
        by_store[basket.store].append(basket)
    if len(by_store) < parts:
        return [list(baskets[part::parts]) for part in range(parts)]
    shares: list[list[list[Basket]]] = [[] for _ in range(parts)]
    sizes = [0] * parts
    for of_store in sorted(by_store.values(), key=len, reverse=True):
        smallest = sizes.index(min(sizes))
        shares[smallest].append(of_store)
        sizes[smallest] += len(of_store)
    position = {basket.basket_id: number for number, basket in enumerate(baskets)}
    merged = [[basket for of_store in share for basket in of_store] for share in shares]
    return [sorted(share, key=lambda basket: position[basket.basket_id]) for share in merged]


def in_threads(function: Callable[[Sequence[Part]], None], parts: Sequence[Sequence[Part]]) -> None:
    """Call `function` once a part, a thread each; raise the first failure after all have ended."""
    failures: list[BaseException] = []

    def call(part: Sequence[Part]) -> None:
        try:
            function(part)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(part,)) for part in parts if part]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main(argument: str) -> None:
    """Live one life: load, replay, wait for the abandoned holds to lapse, close."""
    job = Job.from_json(argument)
    baskets = load_baskets(job.source_path, columns=job.columns, limit=job.basket_count_max)
    stock = list(start_stock(baskets).items())
    with Ledger(job.ledger) as ledger, inventory.open(job.store, durability="durable") as inv:
        worker = Worker(job, inv, ledger)
        in_threads(worker.load, [stock[part :: job.threads] for part in range(job.threads)])
        ledger.append(STARTED, _now_ms())
        in_threads(worker.replay, spread_by_store(baskets, job.threads))
        worker.await_expiry(baskets)
        ledger.append(FINISHED, _now_ms())


if __name__ == "__main__":
    main(sys.argv[1])
