# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments under durable traffic: what was acknowledged is there, once, and whole.

One store lives through all rounds. Each round a child works on it with 4 threads and writes a
ledger (see kill_worker.py) until it is killed; then the store is opened and every reservation and
every row is compared with what the ledgers of all rounds say. A call in flight at the kill may have
happened or not, but only once and only whole, and what it did must stay so in later rounds.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scale import SEED, Rounds, units

import inventory
from inventory import State

WORKER = Path(__file__).with_name("kill_worker.py")
ROUNDS = 50
ROUNDS_A_STORE = 100  # then a new one: all that it ever promised is compared after each kill
READY_TIMEOUT_S = 30.0
SEGMENT_BYTES = 4 << 20  # small: opening writes one full ahead of use
STATES_AFTER = {
    "reserve": State.HELD,
    "commit": State.ALLOCATED,
    "release": State.RELEASED,
    "ship": State.SHIPPED,
}


@dataclass
class Expected:
    """What the ledgers say must be true of the store."""

    carts: dict[str, list[Any]] = field(default_factory=dict)  # what each reservation asked for
    states: dict[str, State | None] = field(default_factory=dict)  # None: not there
    received: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    in_flight: dict[str, tuple[str, Any]] = field(default_factory=dict)  # id -> kind, body
    acknowledged: int = 0
    acknowledged_carts: int = 0

    def fold(self, path: Path) -> None:
        """Read one round's ledger; what it leaves open was in flight when the worker died."""
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line) if line else None
            except ValueError:
                continue  # cut by the kill: nobody saw it
            if not record or record[0] == "ready":
                continue
            event, kind, key, *body = record
            if event == "begin":
                self.in_flight[key] = (kind, body[0] if body else None)
                if kind == "reserve":
                    self.carts[key] = body[0]
                continue
            kind, body_begun = self.in_flight.pop(key)
            if event == "refused":
                self.states[key] = None
                continue
            self.acknowledged += 1
            self.acknowledged_carts += kind == "reserve" and len(self.carts[key]) > 1
            self.happened(kind, key, body_begun)

    def happened(self, kind: str, key: str, body: Any) -> None:
        if kind == "receive":
            sku, location, qty = body
            self.received[sku, location] += qty
        else:
            self.states[key] = STATES_AFTER[kind]

    def settle_in_flight(self, inv: inventory.Inventory) -> None:
        """Find out of each call in flight whether it happened; from now on that is the truth."""
        for key, (kind, body) in self.in_flight.items():
            if kind == "receive":
                sku, location, qty = body
                self.received[sku, location] += qty  # now it has, whether it had or not
                inv.receive(sku, location, qty, op_id=key)
                continue
            before = self.states.get(key)
            state = state_of(inv, key)
            assert state in (before, STATES_AFTER[kind]), f"{key}: {state} after {kind}"
            self.states[key] = state
        self.in_flight.clear()


def state_of(inv: inventory.Inventory, key: str) -> State | None:
    try:
        return inv.reservation(key).state
    except inventory.UnknownReservation:
        return None


def check(inv: inventory.Inventory, expected: Expected) -> None:
    """Every reservation in its state and whole, every row the sum of what happened."""
    report = inv.verify()
    assert report.ok, report.problems
    expected.settle_in_flight(inv)
    figures: dict[tuple[str, str | None], list[int]] = defaultdict(lambda: [0, 0, 0])
    shipped_units: dict[str, int] = defaultdict(int)
    for key, state in expected.states.items():
        if state is None:
            assert state_of(inv, key) is None, f"{key} was refused and is there"
            continue
        hold = inv.reservation(key)
        assert hold.state is state, f"{key}: {hold.state}, acknowledged {state}"
        cart = expected.carts[key]
        assert hold.units == sum(qty for _, _, qty in cart), f"{key} is there in part"
        if state is State.SHIPPED:
            for sku, _, qty in cart:
                shipped_units[sku] += qty
            continue
        if not state.is_live:
            continue
        by_line: dict[str, int] = defaultdict(int)
        for line in hold.lines:
            by_line[line.sku] += line.qty
            figures[line.sku, line.location][1] += line.held
            figures[line.sku, line.location][2] += line.allocated
        assert by_line == {sku: qty for sku, _, qty in cart}, f"{key} has other lines"
    check_rows(inv, expected, figures, shipped_units)


def check_rows(
    inv: inventory.Inventory,
    expected: Expected,
    figures: dict[tuple[str, str | None], list[int]],
    shipped_units: dict[str, int],
) -> None:
    """Where a cart's units were shipped from is the engine's choice: on_hand is compared by SKU."""
    received: dict[str, int] = defaultdict(int)
    for (sku, _), qty in expected.received.items():
        received[sku] += qty
    for sku, received_units in received.items():
        answer = inv.availability(sku)
        assert answer.totals.on_hand == received_units - shipped_units[sku], sku
        assert answer.totals.short == 0
        for level in answer.levels:
            _, held, allocated = figures[sku, level.location]
            assert (level.held, level.allocated) == (held, allocated), (sku, level.location)


def run_until_killed(store: Path, ledger: Path, number: int, delay_s: float) -> None:
    """Let one child work for `delay_s` seconds after it is ready, then kill it."""
    command = [sys.executable, str(WORKER), str(store), str(ledger), str(number)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as worker:
        try:
            give_up_s = time.monotonic() + READY_TIMEOUT_S
            while not (ledger.exists() and ledger.stat().st_size):
                if worker.poll() is not None or time.monotonic() > give_up_s:
                    break
                time.sleep(0.002)
            time.sleep(delay_s)
            ended = worker.poll()
        finally:
            worker.kill()
            _, said = worker.communicate()
    assert ended is None, f"the worker ended by itself: {said.decode()}"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_acknowledged_work_survives_sigkill(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    expected = Expected()
    acknowledged = carts = torn_bytes = 0
    rounds = Rounds(ROUNDS)
    for number in rounds:
        if number % ROUNDS_A_STORE == 0:
            expected = Expected()
        store = tmp_path / f"store-{number // ROUNDS_A_STORE}"
        ledger = tmp_path / f"ledger-{number}"
        before = expected.acknowledged, expected.acknowledged_carts
        run_until_killed(store, ledger, SEED + number, moments.uniform(0.0, 0.25))
        expected.fold(ledger)
        acknowledged += expected.acknowledged - before[0]
        carts += expected.acknowledged_carts - before[1]
        with inventory.open(store, durability="durable", segment_bytes=SEGMENT_BYTES) as inv:
            torn_bytes += inv.recovery.torn_bytes_dropped
            check(inv, expected)
    assert acknowledged > rounds.begun, "the workers did next to nothing"
    print(
        f"{rounds.begun} kills: {acknowledged:,} acknowledged calls, "
        f"{carts:,} carts, {torn_bytes:,} torn bytes; none lost"
    )
    units(rounds.begun, "kills", rounds.begun)
