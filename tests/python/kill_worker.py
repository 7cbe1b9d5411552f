# SPDX-License-Identifier: Apache-2.0
"""The process that `test_kill.py` kills: durable traffic on threads, an acknowledgement a line.

Run as `python kill_worker.py <store> <ledger> <round>`. Each thread writes `begin` before a call
and `done` after it, so that the reader knows what was acknowledged and what was in flight.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading

import inventory

THREADS = 4
SKUS = [f"SKU-{number}" for number in range(40)]
LOCATIONS = ["LON", "PAR", "OSL"]
TTL_MS = 3_600_000  # nothing expires by itself: every change is a call's


class Traffic:
    """One thread's calls. Its ids are its own, so nobody else touches its reservations."""

    def __init__(self, inv: inventory.Inventory, ledger: int, prefix: str) -> None:
        self.inv = inv
        self.ledger = ledger
        self.prefix = prefix
        self.random = random.Random(prefix)
        self.number = 0
        self.held: list[str] = []
        self.allocated: list[str] = []

    def write(self, *fields: object) -> None:
        """One whole line in one write(2): what is written outlives the process."""
        os.write(self.ledger, b"\n" + json.dumps(fields).encode() + b"\n")

    def next_id(self) -> str:
        self.number += 1
        return f"{self.prefix}-{self.number}"

    def run(self) -> None:
        while True:
            choice = self.random.random()
            if choice < 0.45:
                self.reserve()
            elif choice < 0.65 and self.held:
                self.settle("commit", self.held, self.allocated)
            elif choice < 0.75 and self.held:
                self.settle("release", self.held, None)
            elif choice < 0.88 and self.allocated:
                self.settle("ship", self.allocated, None)
            else:
                self.receive()

    def reserve(self) -> None:
        """A single line or a cart; both with and without a place given."""
        key = self.next_id()
        cart = [
            (sku, self.random.choice([None, *LOCATIONS]), self.random.randint(1, 3))
            for sku in self.random.sample(SKUS, self.random.choice([1, 1, 2, 5, 12]))
        ]
        self.write("begin", "reserve", key, cart)
        try:
            if len(cart) == 1:
                ((sku, location, qty),) = cart
                self.inv.reserve(sku, qty, location=location, reservation_id=key, ttl_ms=TTL_MS)
            else:
                self.inv.reserve_lines(cart, reservation_id=key, ttl_ms=TTL_MS)
        except inventory.InsufficientStock:
            self.write("refused", "reserve", key)
            return
        self.write("done", "reserve", key)
        self.held.append(key)

    def settle(self, kind: str, source: list[str], target: list[str] | None) -> None:
        key = source.pop(self.random.randrange(len(source)))
        self.write("begin", kind, key)
        getattr(self.inv, kind)(key)
        self.write("done", kind, key)
        if target is not None:
            target.append(key)

    def receive(self) -> None:
        key = self.next_id()
        sku, location = self.random.choice(SKUS), self.random.choice(LOCATIONS)
        qty = self.random.randint(1, 10)
        self.write("begin", "receive", key, [sku, location, qty])
        self.inv.receive(sku, location, qty, op_id=key)
        self.write("done", "receive", key)


def main(store: str, ledger_path: str, round_number: str) -> None:
    ledger = os.open(ledger_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with inventory.open(store, durability="durable", segment_bytes=4 << 20) as inv:
        os.write(ledger, b'\n["ready"]\n')
        threads = [
            threading.Thread(target=Traffic(inv, ledger, f"r{round_number}-t{index}").run)
            for index in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:4])
