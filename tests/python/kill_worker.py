# SPDX-License-Identifier: Apache-2.0
"""The process that `test_kill.py` kills: durable traffic on threads, an acknowledgement a line.

Run as `python kill_worker.py <store> <ledger> <round>`. Each thread writes `begin` before a call
and `done` after it, so that the reader knows what was acknowledged and what was in flight. Some
calls are batches: of those every row has its own lines in the ledger.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

import inventory

THREADS = 8
SKUS = [f"SKU-{number}" for number in range(40)]
LOCATIONS = ["LON", "PAR", "OSL"]
BATCH_ROWS = 40  # more than one run of the core
ANY_PLACE = 0xFFFF
INSUFFICIENT = 10
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
        self.held_rows: list[str] = []  # reservations of batches: their ids are UUIDs
        self.allocated_rows: list[str] = []
        self.skus = inv.sku_ids(SKUS, create=True)
        self.places = inv.location_ids(LOCATIONS, create=True)

    def write(self, *fields: object) -> None:
        """One whole line in one write(2): what is written outlives the process."""
        os.write(self.ledger, b"\n" + json.dumps(fields).encode() + b"\n")

    def write_rows(
        self, events: list[str], kind: str, keys: list[str], bodies: Sequence[object]
    ) -> None:
        rows = zip(events, keys, bodies, strict=True)
        lines = [json.dumps([event, kind, key, body]) for event, key, body in rows]
        os.write(self.ledger, ("\n" + "\n".join(lines) + "\n").encode())

    def next_id(self) -> str:
        self.number += 1
        return f"{self.prefix}-{self.number}"

    def run(self) -> None:
        while True:
            choice = self.random.random()
            if self.random.random() < 0.15:
                self.batch()
            elif choice < 0.45:
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

    def batch(self) -> None:
        choice = self.random.random()
        if choice < 0.4:
            self.reserve_rows()
        elif choice < 0.6 and self.held_rows:
            self.settle_rows("commit", self.held_rows, self.allocated_rows)
        elif choice < 0.7 and self.held_rows:
            self.settle_rows("release", self.held_rows, None)
        elif choice < 0.8 and self.allocated_rows:
            self.settle_rows("ship", self.allocated_rows, None)
        else:
            self.receive_rows()

    def next_rows(self) -> list[str]:
        count = self.random.randint(1, BATCH_ROWS)
        return [str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(count)]

    def call_rows(
        self, kind: str, keys: list[str], bodies: Sequence[object], *columns: Any
    ) -> list[int]:
        """One batch; the ids and the options of the kind come last."""
        ids = np.frombuffer(b"".join(uuid.UUID(key).bytes for key in keys), "uint8").reshape(-1, 16)
        self.write_rows(["begin"] * len(keys), kind, keys, bodies)
        call = getattr(self.inv, f"{kind}_batch")
        if kind == "receive":
            codes = call(*columns, op_ids=ids)
        elif kind == "reserve":
            codes = call(*columns, ids, ttl_ms=TTL_MS)
        else:
            codes = call(ids)
        found: list[int] = codes.tolist()
        assert set(found) <= {0, INSUFFICIENT}, found
        events = ["refused" if code == INSUFFICIENT else "done" for code in found]
        self.write_rows(events, kind, keys, [None] * len(keys))
        return found

    def lines(self, count: int, places: Sequence[str | None], most: int) -> tuple[Any, ...]:
        """What is asked for: as the ledger has it, and as columns."""
        which = [self.random.randrange(len(SKUS)) for _ in range(count)]
        where = [self.random.choice(places) for _ in range(count)]
        qty = [self.random.randint(1, most) for _ in range(count)]
        numbers = [ANY_PLACE if w is None else self.places[LOCATIONS.index(w)] for w in where]
        bodies = [[SKUS[s], w, q] for s, w, q in zip(which, where, qty, strict=True)]
        return bodies, self.skus[which], np.array(numbers, "uint16"), np.array(qty, "int64")

    def reserve_rows(self) -> None:
        keys = self.next_rows()
        lines, *columns = self.lines(len(keys), [None, *LOCATIONS], 3)
        codes = self.call_rows("reserve", keys, [[line] for line in lines], *columns)
        self.held_rows += [key for key, code in zip(keys, codes, strict=True) if code == 0]

    def settle_rows(self, kind: str, source: list[str], target: list[str] | None) -> None:
        keys = [source.pop() for _ in range(min(len(source), BATCH_ROWS))]
        self.call_rows(kind, keys, [None] * len(keys))
        if target is not None:
            target += keys

    def receive_rows(self) -> None:
        keys = self.next_rows()
        lines, *columns = self.lines(len(keys), LOCATIONS, 10)
        self.call_rows("receive", keys, lines, *columns)

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
