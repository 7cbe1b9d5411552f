# SPDX-License-Identifier: Apache-2.0
"""Events tell everything, once and in order: a copy made of them alone is the store.

The copy is plain dictionaries; it knows no rule, only the deltas and states of events. It is held
against every row and every reservation of the store, after random lives, while threads write, over
SIGKILL, and while snapshots trim the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from scale import scaled

import inventory
from inventory import EventsTrimmed, State, aio, errors
from inventory.cli import main
from inventory.events import EVENT_TYPES, Event, Events, json_schema
from inventory.models import EventLine
from inventory.testing import ManualClock, MemoryStorage

OpenStore = Callable[..., inventory.Inventory]

SEGMENT_BYTES = 4 << 20
PATIENCE_S = 60.0
DOCS = Path(__file__).parents[2] / "docs" / "events.md"
SKUS = [f"SKU-{i}" for i in range(12)]
PLACES = ["LON", "PAR", "BER"]


class Copy:
    """What a consumer knows who does nothing but add up events."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        self.policies: dict[tuple[str, str, str | None], int] = {}
        self.states: dict[tuple[str, str], State] = {}
        self.deadlines: dict[tuple[str, str], int] = {}
        self.units: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self.at = (0, 0)
        self.count = 0

    def apply(self, event: Event) -> None:
        assert event.type in EVENT_TYPES
        follows = event.position > self.at and (event.index == 0 or event.lsn == self.at[0])
        assert follows, f"{event.position} after {self.at}"
        self.at = event.position
        self.count += 1
        for line in event.lines:
            if line.op == "SET_SAFETY":
                self.policies[event.seller, line.sku, line.location] = line.qty
                continue
            assert line.location is not None
            row = self.rows[event.seller, line.sku, line.location]
            row[0] += line.on_hand_delta
            row[1] += line.held_delta
            row[2] += line.allocated_delta
            assert min(row) >= 0, event
        if event.reservation_id is None:
            assert event.state is None
            return
        key = (event.seller, event.reservation_id)
        assert event.state is not None
        self.states[key] = event.state
        if event.expires_at_unix_ms is not None:
            self.deadlines[key] = event.expires_at_unix_ms
        units = self.units[key]
        units[0] += sum(line.held_delta for line in event.lines)
        units[1] += sum(line.allocated_delta for line in event.lines)

    def check(self, inv: inventory.Inventory) -> None:
        there = {
            (str(c.seller[i]), str(c.sku[i]), str(c.location[i])): [
                int(c.on_hand[i]), int(c.held[i]), int(c.allocated[i])
            ]
            for c in inv.rows()
            for i in range(len(c.sku))
        }  # fmt: skip
        assert {key: row for key, row in self.rows.items() if any(row)} == {
            key: row for key, row in there.items() if any(row)
        }
        live = {key for key, state in self.states.items() if state.is_live}
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for chunk in inv.reservations():
            for i in range(len(chunk.sku)):
                key = (str(chunk.seller[i]), str(chunk.reservation_id[i]))
                found[key][0] += int(chunk.held[i])
                found[key][1] += int(chunk.allocated[i])
        assert {key: self.units[key] for key in live} == found
        for (seller, key), state in self.states.items():
            hold = inv.reservation(key, seller=seller)
            assert hold.state == state
            if state is State.HELD:
                assert hold.expires_at_unix_ms == self.deadlines[seller, key]
        for (seller, sku, place), safety in self.policies.items():
            if place is not None:
                assert inv.availability(sku, place, seller=seller).safety_stock == safety


# ---- random lives --------------------------------------------------------------------------------


class Life:
    """Random calls of all kinds; refusals are part of it."""

    def __init__(self, inv: inventory.Inventory, name: str, seed: int) -> None:
        self.inv = inv
        self.name = name
        self.random = random.Random(seed)
        self.ids: list[str] = []
        self.sellers = ["default", "other"]
        self.skus = inv.sku_ids(SKUS, create=True)
        self.places = inv.location_ids(PLACES, create=True)

    def step(self) -> None:
        choose = self.random.choice
        seller = choose(self.sellers)
        sku, place = choose(SKUS), choose(PLACES)
        call = choose(
            [self.stock, self.stock, self.reserve, self.reserve, self.cart, self.cart, self.move,
             self.move, self.move, self.part, self.batch, self.policy, self.tombstone]
        )  # fmt: skip
        # A refusal is a part of life; or there is nothing to choose from yet.
        with contextlib.suppress(inventory.InventoryError, IndexError):
            call(seller, sku, place)

    def new_id(self) -> str:
        name = f"{self.name}-{len(self.ids)}"
        if self.random.random() < 0.5:
            name = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        self.ids.append(name)
        return name

    def stock(self, seller: str, sku: str, place: str) -> None:
        inv, qty, kind = self.inv, self.random.randint(1, 20), self.random.randrange(6)
        note: Any = {"seller": seller, "account": "web", "reason": "r", "reference": f"DN-{qty}"}
        if kind < 3:
            inv.receive(sku, place, qty, op_id=self.random.choice([None, f"op-{qty}"]), **note)
        elif kind == 3:
            inv.issue(sku, place, qty // 4 + 1, seller=seller)
        elif kind == 4:
            inv.adjust(sku, place, self.random.choice([-2, 3]), seller=seller)
        else:
            there = inv.availability(sku, place, seller=seller).on_hand
            inv.set_on_hand(sku, place, self.random.randint(0, 9), if_on_hand=there, seller=seller)

    def reserve(self, seller: str, sku: str, place: str) -> None:
        self.inv.reserve(
            sku, self.random.randint(1, 3), location=self.random.choice([None, place]),
            reservation_id=self.new_id(), ttl_ms=self.random.choice([300, 60_000]), seller=seller,
        )  # fmt: skip

    def cart(self, seller: str, sku: str, place: str) -> None:
        lines = [
            (name, self.random.choice([None, place]), self.random.randint(1, 2))
            for name in self.random.sample(SKUS, self.random.randint(2, 5))
        ]
        self.inv.reserve_lines(
            lines, reservation_id=self.new_id(), ttl_ms=self.random.choice([300, 60_000]),
            seller=seller,
        )  # fmt: skip

    def move(self, seller: str, sku: str, place: str) -> None:
        key = self.random.choice(self.ids)
        kind = self.random.randrange(6)
        if kind == 0:
            self.inv.extend(key, ttl_ms=90_000, seller=seller)
        elif kind == 1:
            self.inv.commit(key, if_expired="rehold", seller=seller)
        else:
            name = ("commit", "ship", "release", "cancel")[kind - 2]
            getattr(self.inv, name)(key, seller=seller)

    def part(self, seller: str, sku: str, place: str) -> None:
        key = self.random.choice(self.ids)
        lines = self.inv.reservation(key, seller=seller).lines
        line = self.random.choice(lines)
        part = [(line.sku, line.location, 1)]
        if self.random.random() < 0.5:
            final = self.random.random() < 0.5
            self.inv.commit(key, lines=part, final=final, op_id=self.new_id(), seller=seller)
        else:
            name = self.random.choice(["ship", "release", "cancel"])
            getattr(self.inv, name)(key, lines=part, op_id=self.new_id(), seller=seller)

    def batch(self, seller: str, sku: str, place: str) -> None:
        n = self.random.randint(1, 80)
        which = np.array([self.random.randrange(len(SKUS)) for _ in range(n)])
        where = np.array([self.random.randrange(len(PLACES)) for _ in range(n)])
        qty = np.ones(n, "int64")
        if self.random.random() < 0.5:
            self.inv.receive_batch(self.skus[which], self.places[where], qty)
            return
        ids = [uuid.UUID(int=self.random.getrandbits(128), version=4) for _ in range(n)]
        raw = np.frombuffer(b"".join(key.bytes for key in ids), "uint8").reshape(-1, 16)
        self.inv.reserve_batch(self.skus[which], self.places[where], qty, raw, ttl_ms=400)
        self.ids += [str(key) for key in ids[:3]]
        self.inv.commit_batch(raw[: n // 3])

    def policy(self, seller: str, sku: str, place: str) -> None:
        safety = self.random.randint(0, 3)
        self.inv.set_policy(sku, place, safety_stock=safety, seller=seller)

    def tombstone(self, seller: str, sku: str, place: str) -> None:
        self.inv.release(self.new_id(), tombstone=True, seller=seller)


@pytest.mark.parametrize("seed", range(scaled(6)))
def test_a_copy_made_of_events_is_the_store(
    seed: int, open_store: OpenStore, clock: ManualClock, storage: MemoryStorage
) -> None:
    """Expiry, carts, parts, batches, snapshots that trim, restarts and power cuts."""
    copy, moments = Copy(), random.Random(seed)
    life: Life | None = None
    ids: list[str] = []
    for round_ in range(5):
        inv = open_store(consumer_log_bytes_max=1 << 40)
        life = Life(inv, f"{seed}-{round_}", seed * 100 + round_)
        life.ids = ids
        consumer = inv.consumer("copy")
        for step in range(200):
            life.step()
            if step % 7 == 0:
                clock.advance(moments.choice([1, 50, 400]))
            if step % 60 == 59:
                inv.barrier()  # expiries are no call's: nobody has waited for them
                for event in consumer.events():
                    if event.position > copy.at:
                        copy.apply(event)
                if moments.random() < 0.5:
                    consumer.acknowledge(event)
                copy.check(inv)
                inv.snapshot()
                # From the acknowledged position it is the same again.
                again = [event.position for event in consumer.events()]
                assert not again or again[-1] == copy.at
        ids = life.ids
        inv.barrier()
        for event in inv.events(after=copy.at):
            copy.apply(event)
        consumer.acknowledge(copy.at[0])
        copy.check(inv)
        assert inv.verify().ok
        if round_ % 2:
            storage.power_cut(seed + 1)
        else:
            inv.close()
    assert copy.count > 1000
    assert len(set(copy.states.values())) >= 5


def follow(inv: inventory.Inventory, name: str, copy: Copy, failures: list[BaseException]) -> None:
    consumer = inv.consumer(name)
    try:
        with consumer.events(follow=True) as events:
            for event in events:
                copy.apply(event)
                if copy.count % 500 == 0:
                    consumer.acknowledge(event)
    except inventory.StoreClosed:
        pass
    except BaseException as error:
        failures.append(error)


@pytest.mark.parametrize("durability", ["durable", "interval"])
def test_followers_while_threads_write_and_the_log_is_trimmed(
    durability: Any, tmp_path: Path
) -> None:
    copies, failures = [Copy(), Copy()], list[BaseException]()
    with inventory.open(
        tmp_path / "s", segment_bytes=SEGMENT_BYTES, durability=durability,
        snapshot_log_bytes=1_000_000,
    ) as inv:  # fmt: skip
        lives = [Life(inv, f"t{i}", i) for i in range(3)]

        def live(life: Life) -> None:
            for _ in range(scaled(1500)):
                life.step()

        followers = [
            threading.Thread(target=follow, args=(inv, f"follower-{i}", copy, failures))
            for i, copy in enumerate(copies)
        ]
        writers = [threading.Thread(target=live, args=(life,)) for life in lives]
        for thread in followers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        time.sleep(0.5)  # the last short holds lapse
        inv.barrier()
        wait_for(lambda: failures or not behind(inv, copies))
        assert not failures
        for copy in copies:
            copy.check(inv)
        assert inv.metrics().consumers_cut_off == 0
    for thread in followers:
        thread.join()
    assert not failures
    assert copies[0].at == copies[1].at
    assert copies[0].count == copies[1].count


def behind(inv: inventory.Inventory, copies: list[Copy]) -> bool:
    last = max(copy.at for copy in copies)
    for event in inv.events(after=last):
        last = event.position
    return any(copy.at != last for copy in copies)


def wait_for(condition: Callable[[], Any]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.01)


# ---- SIGKILL -------------------------------------------------------------------------------------

CHILD = """
    import sys, threading
    import inventory
    path, round_, done = sys.argv[1:]
    with inventory.open(path, segment_bytes=4 << 20, snapshot_log_bytes=300_000) as inv:
        inv.receive("MUG", "LON", 1_000_000)
        def write(name):
            for i in range(10**9):
                inv.reserve("MUG", 1, reservation_id=f"{round_}-{name}-{i}", ttl_ms=20)
        for name in "ab":
            threading.Thread(target=write, args=(name,), daemon=True).start()
        consumer = inv.consumer("ledger")
        out = open(done, "a")
        for event in consumer.events(follow=True):
            out.write(f"{event.lsn} {event.index} {event.type} {event.reservation_id}\\n")
            out.flush()
            if event.lsn // 4 % 10 == 0:
                consumer.acknowledge(event)
                out.write(f"acknowledged {event.lsn} {event.index}\\n")
                out.flush()
"""


def read_ledger(done: Path) -> tuple[list[tuple[tuple[int, int], str]], tuple[int, int]]:
    """What a killed consumer saw, in its order, and the last it knows to be acknowledged."""
    seen, acknowledged = [], (0, 0)
    for line in done.read_text().split("\n")[:-1]:
        words = line.split()
        if words[0] == "acknowledged":
            acknowledged = (int(words[1]), int(words[2]))
        else:
            seen.append(((int(words[0]), int(words[1])), " ".join(words[2:])))
    return seen, acknowledged


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_consumer_goes_on_without_a_gap(tmp_path: Path) -> None:
    """Each round sees exactly what follows the position that was kept, and nothing that it saw or
    acknowledged is undone."""
    moments, path, copy = random.Random(4), tmp_path / "store", Copy()
    options: dict[str, Any] = {"segment_bytes": SEGMENT_BYTES}
    with inventory.open(path, **options) as inv:
        position = inv.consumer("ledger").position
    total = repeated = 0
    for round_ in range(scaled(6)):
        done = tmp_path / f"done-{round_}"
        done.touch()
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(path), str(round_), str(done)]
        with subprocess.Popen(command) as child:
            try:
                wait_for(lambda d=done, c=child: d.stat().st_size > 30_000 or c.poll() is not None)
                time.sleep(moments.uniform(0, 0.2))
                ended = child.poll()
            finally:
                child.send_signal(signal.SIGKILL)
        assert ended is None, "the child ended by itself"
        seen, acknowledged = read_ledger(done)
        with inventory.open(path, **options) as inv:
            wait_for(lambda inv=inv: inv.metrics().live_holds == 0)  # all lapse
            inv.barrier()
            lsn, index = position
            after: Any = {"after_lsn": lsn} if index is None else {"after": (lsn, index)}
            there = list(inv.events(**after))
            told = [(e.position, f"{e.type} {e.reservation_id}") for e in there[: len(seen)]]
            assert seen == told, "a gap, a repetition or something that did not last"
            for event in there:
                if event.position > copy.at:
                    copy.apply(event)
            copy.check(inv)
            position = inv.consumer("ledger").position
            assert acknowledged <= (position[0], position[1] or 0) <= seen[-1][0]
            assert inv.metrics().consumers_cut_off == 0
            assert inv.verify().ok
        total += len(seen)
        repeated += sum(at > (position[0], position[1] or 0) for at, _ in seen)
    assert total > 1000
    assert repeated > 0
    print(f"{total:,} events seen over the kills, {repeated:,} to be seen again")


# ---- positions and refusals ----------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> inventory.Inventory:
    inv = inventory.open(tmp_path / "shop.inv", segment_bytes=SEGMENT_BYTES)
    inv.receive("TEE", "LON", 10)
    inv.reserve("TEE", 4, reservation_id="cart")
    inv.commit("cart", lines=[("TEE", "LON", 3)])
    return inv


def test_positions(shop: inventory.Inventory) -> None:
    with shop as inv:
        every = list(inv.events())
        assert [(e.type, e.index) for e in every] == [
            ("stock.received", 0),
            ("reservation.held", 0),
            ("reservation.committed", 0),
            ("reservation.released", 1),
        ]
        assert every[2].lsn == every[3].lsn == inv.reservation("cart").lsn
        for i, event in enumerate(every):
            assert list(inv.events(after=event)) == every[i + 1 :]
            assert list(inv.events(after=event.position)) == every[i + 1 :]
        assert list(inv.events(after_lsn=every[1].lsn)) == every[2:]
        assert list(inv.events(after_lsn=every[3].lsn)) == []
        end = inv.metrics().lsn_appended
        inv.barrier()
        assert list(inv.events(after_lsn=end)) == []
        with pytest.raises(inventory.BadRequest, match="the log ends at"):
            inv.events(after_lsn=end + 1)
        for wrong in (True, "1", 1.5, (1,), (1, 2, 3)):
            with pytest.raises(TypeError):
                inv.events(after=wrong)  # type: ignore[arg-type]
        with pytest.raises(inventory.BadRequest):
            inv.events(after=(1, -1))
        with pytest.raises(inventory.BadRequest, match="not both"):
            inv.events(after_lsn=1, after=(1, 1))
        with pytest.raises(TypeError):
            inv.events(follow=1)  # type: ignore[arg-type]
        with pytest.raises(inventory.BadRequest):
            inv.events(follow=True, timeout_s=-1)
    with pytest.raises(inventory.StoreClosed):
        shop.events()


def test_events_are_for_stores_with_a_log() -> None:
    with inventory.open() as inv:
        with pytest.raises(inventory.BadRequest, match="no log"):
            inv.events()
        with pytest.raises(inventory.BadRequest, match="no log"):
            inv.consumer("a")
        assert inv.consumers() == []


def test_batches_and_waiting(shop: inventory.Inventory) -> None:
    with shop as inv, inv.events(follow=True) as events:
        assert [event.index for event in events.batch(3)] == [0, 0, 0]
        first = next(events)
        assert first.index == 1
        began_s = time.monotonic()
        assert events.batch(timeout_s=0.3) == []
        assert 0.25 < time.monotonic() - began_s < 10
        timer = threading.Timer(0.2, inv.receive, ("TEE", "LON", 1))
        timer.start()
        assert [event.type for event in events.batch(timeout_s=PATIENCE_S)] == ["stock.received"]
        timer.join()
        for _ in range(600):
            inv.receive("TEE", "LON", 1)
        assert next(events).type == "stock.received"  # reads ahead
        sizes = [len(events.batch(n)) for n in (1, 100, 1000)]
        assert sizes[:2] == [1, 100]
        assert sum(sizes) + len(events.batch()) == 599
        for wrong in (0, 1_000_001):
            with pytest.raises(inventory.BadRequest):
                events.batch(wrong)
        assert not events.ended
        quick = inv.events(follow=True, timeout_s=0.05)
        assert len(list(quick)) == 605


def test_close_and_ctrl_c_end_a_wait(shop: inventory.Inventory) -> None:
    ended = list[str]()

    def wait(events: Events) -> None:
        try:
            ended.append(f"{len(list(events))} events")
        except inventory.StoreClosed:
            ended.append("StoreClosed")

    one, two = shop.events(follow=True), shop.events(follow=True)
    threads = [threading.Thread(target=wait, args=(events,)) for events in (one, two)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    with pytest.raises(RuntimeError, match="one thread"):
        next(two)
    one.close()
    one.close()
    threads[0].join()
    assert ended == ["4 events"]
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), shop.events(follow=True) as mine:
        list(mine)
    timer.join()
    began_s = time.monotonic()
    shop.close()
    threads[1].join()
    assert time.monotonic() - began_s < 5
    assert ended == ["4 events", "StoreClosed"]


def test_a_reader_outlives_its_store_and_does_nothing(shop: inventory.Inventory) -> None:
    events, idle = shop.events(), shop.events()
    next(events)
    shop.close()
    assert len(list(itertools.islice(events, 3))) == 3  # what it had read ahead
    with pytest.raises(inventory.StoreClosed):
        next(idle)
    with pytest.raises(inventory.StoreClosed):
        next(events)
    del events, idle, shop


def test_a_follower_hurries_no_sync(tmp_path: Path) -> None:
    """Who waits for events waits for the sync that comes anyway: writers must not feel it."""
    with inventory.open(
        tmp_path / "s", segment_bytes=SEGMENT_BYTES, durability="interval", interval_ms=500
    ) as inv:
        thread = threading.Thread(target=inv.events(follow=True, timeout_s=1.5).batch,
                                  args=(1_000_000,), kwargs={"timeout_s": 1.5})  # fmt: skip
        thread.start()
        before, end_s = inv.metrics().groups, time.monotonic() + 1
        for _ in range(50_000):  # far less than the window, which would ask for syncs itself
            inv.receive("MUG", "LON", 1)
            if time.monotonic() > end_s:
                break
        time.sleep(max(0.0, end_s - time.monotonic()))
        assert inv.metrics().groups - before <= 4
        thread.join()


# ---- consumers -----------------------------------------------------------------------------------


def test_consumers(shop: inventory.Inventory, tmp_path: Path) -> None:
    with shop as inv:
        web = inv.consumer("web")
        every = list(web.events())
        web.acknowledge(every[2])
        assert web.position == every[2].position
        assert list(web.events()) == every[3:]
        web.acknowledge(every[0])  # behind: nothing changes
        assert web.position == every[2].position
        web.acknowledge(every[3].lsn)
        assert web.position == (every[3].lsn, None)
        late = inv.consumer("late", after_lsn=every[1].lsn)
        assert list(late.events()) == every[2:]
        assert [info.name for info in inv.consumers()] == ["late", "web"]
        metrics = inv.metrics()
        assert (metrics.consumers, metrics.consumers_cut_off) == (2, 0)
        assert metrics.consumer_lag_bytes == late.info.lag_bytes > web.info.lag_bytes >= 0
        for name in ("", "A", "-x", "a" * 33, "a/b", "ä"):
            with pytest.raises(inventory.BadRequest, match="name"):
                inv.consumer(name)
        with pytest.raises(TypeError):
            inv.consumer(7)  # type: ignore[arg-type]
        with pytest.raises(inventory.BadRequest, match="not durable"):
            web.acknowledge(inv.metrics().lsn_durable + 1)
        with pytest.raises(TypeError):
            web.acknowledge(True)
        reading = web.events(follow=True)
        web.reset(after_lsn=every[0].lsn)
        with pytest.raises(inventory.BadRequest, match="reset"):
            list(reading)
        assert list(web.events()) == every[1:]
        late.remove()
        for call in (late.remove, late.reset, late.events, lambda: late.acknowledge(1)):
            with pytest.raises(inventory.BadRequest, match="no consumer"):
                call()
        with pytest.raises(inventory.BadRequest):
            _ = late.position
    with inventory.open(tmp_path / "shop.inv", read_only=True) as inv:
        assert [info.name for info in inv.consumers()] == ["web"]
        assert list(inv.consumer("web").events()) == every[1:]
        with pytest.raises(errors.Forbidden):
            inv.consumer("web").acknowledge(every[1])
        with pytest.raises(errors.Forbidden):
            inv.consumer("new")
        with pytest.raises(inventory.BadRequest, match="follow"):
            inv.events(follow=True)


def test_sixty_four_consumers(shop: inventory.Inventory) -> None:
    with shop as inv:
        for i in range(64):
            inv.consumer(f"c{i}")
        assert len(inv.consumers()) == 64
        with pytest.raises(errors.LimitExceeded, match="64"):
            inv.consumer("one-more")
        inv.consumer("c7").remove()
        inv.consumer("one-more")


def test_cut_off_loudly(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    acknowledged = 0
    for round_ in range(4):  # each opening begins a segment: three go
        with inventory.open(path, segment_bytes=SEGMENT_BYTES, consumer_log_bytes_max=1000) as inv:
            if round_ == 0:
                slow = inv.consumer("slow")
                slow.acknowledge(inv.receive("MUG", "LON", 1).lsn)
                acknowledged = slow.position[0]
            for _ in range(20):
                inv.receive("MUG", "LON", 1)
            inv.snapshot()
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        slow = inv.consumer("slow")
        assert slow.info.state == "cut_off"
        for call in (slow.events, lambda: slow.acknowledge(inv.receive("MUG", "LON", 1).lsn)):
            with pytest.raises(EventsTrimmed, match="cut off") as caught:
                call()
            assert caught.value.lsn == acknowledged
            oldest = caught.value.lsn_end
            assert oldest > acknowledged
        with pytest.raises(EventsTrimmed):
            inv.events(after_lsn=acknowledged)
        with pytest.raises(EventsTrimmed):
            slow.reset(after_lsn=acknowledged)
        slow.reset()
        assert slow.position == (oldest, None)
        assert slow.info.state == "live"
        assert list(slow.events()) == list(inv.events()) == list(inv.events(after_lsn=oldest))
    with pytest.raises(inventory.BadRequest, match="consumer_log_bytes_max"):
        inventory.open(path, consumer_log_bytes_max=(1 << 50) + 1)


def test_damage_is_raised_behind_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "shop.inv"
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        for _ in range(50):
            inv.receive("MUG", "LON", 1)
        every = list(inv.events())
        (segment,) = sorted(path.glob("wal-*"))[:1]
        with open(segment, "r+b") as file:
            file.seek(every[30].lsn - 20)  # in the 31st entry, or the end of its record
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        events = inv.events()
        found = list(itertools.islice(events, 30))
        with pytest.raises(errors.LogCorrupt, match="segment 1") as caught:
            next(events)
        assert found == every[:30]
        assert every[29].lsn <= caught.value.lsn < every[30].lsn
        with pytest.raises(errors.LogCorrupt):
            next(events)  # it stays so
        with open(segment, "r+b") as file:
            file.seek(every[30].lsn - 20)
            file.write(byte)


# ---- other shapes --------------------------------------------------------------------------------


def test_the_page_has_the_schema_of_the_code_and_every_type() -> None:
    page = DOCS.read_text()
    block = page[page.index("```json\n") + 8 :]
    assert json.loads(block[: block.index("\n```")]) == json_schema()
    for kind in EVENT_TYPES:
        assert f"| `{kind}` |" in page, kind


def test_events_obey_their_schema(shop: inventory.Inventory) -> None:
    with shop as inv:
        for event in inv.events():
            assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
    required = json_schema()["$defs"]["Event"]["required"]
    assert required == list(Event.__struct_fields__)


def test_cloudevents(shop: inventory.Inventory) -> None:
    with shop as inv:
        every = list(inv.events())
    clouds = [event.to_cloudevent() for event in every]
    assert len({cloud["id"] for cloud in clouds}) == 4
    assert sorted(clouds, key=lambda cloud: cloud["sequence"]) == clouds
    for event, cloud in zip(every, clouds, strict=True):
        assert cloud["source"] == f"urn:uuid:{event.store_id}"
        assert cloud["time"].startswith("20")
        assert cloud["time"].endswith("Z")
        assert cloud["subject"] == (event.reservation_id or "TEE")
        assert msgspec.convert(cloud["data"], Event) == event
        assert all(name.isalnum() and name.islower() for name in cloud)  # attribute names
    other = every[0].to_cloudevent(source="/shop", type_prefix="com.example.")
    assert (other["source"], other["type"]) == ("/shop", "com.example.stock.received")
    bare = Event("x.y", 1, 0, 1, "", "", None, None, "", "", None, None, False, (), "u")
    assert "subject" not in bare.to_cloudevent()
    assert bare.to_cloudevent()["time"] == "1970-01-01T00:00:00.001Z"
    assert EventLine("A", None, 1, "SET_SAFETY", 0, 0, 0).location is None


def test_on_the_command_line(shop: inventory.Inventory, tmp_path: Path) -> None:
    path = str(tmp_path / "shop.inv")
    with shop as inv:
        every = list(inv.events())
        found = CliRunner().invoke(main, ["events", path, "--json"])
        assert found.exit_code == 3
        assert "STORE_LOCKED" in found.output
    found = CliRunner().invoke(main, ["events", path, "--json"])
    assert found.exit_code == 0, found.output
    assert [msgspec.json.decode(line, type=Event) for line in found.output.splitlines()] == every
    found = CliRunner().invoke(main, ["events", path, "--after", str(every[1].lsn), "--limit", "1"])
    assert found.exit_code == 0
    assert "cart  -> ALLOCATED  COMMIT 3" in found.output
    assert found.output.count("\n") == 1
    found = CliRunner().invoke(
        main, ["events", path, "--cloudevents", "--source", "/s", "--type-prefix", "p."]
    )
    assert [json.loads(line) for line in found.output.splitlines()] == [
        json.loads(msgspec.json.encode(e.to_cloudevent(source="/s", type_prefix="p.")))
        for e in every
    ]
    found = CliRunner().invoke(main, ["events", path, "--after", "99999999"])
    assert found.exit_code == 3


def test_the_command_line_tells_a_change_as_the_log_does(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        inv.receive("A\x1b[31m", "LON", 5, account="ann", reason="return", reference="PO 1")
        inv.reserve("A\x1b[31m", 2, reservation_id="cart 1")
        inv.receive("A", "LON", 1, seller="other", op_id="op-1")
    by_command = {}
    for command in ("events", "log"):
        found = CliRunner().invoke(main, [command, path])
        assert found.exit_code == 0, found.output
        lines = [re.split("  +", line.strip(), maxsplit=3) for line in found.output.splitlines()]
        by_command[command] = [line[3] for line in lines if line[2][:2] in ("st", "RE", "re")]
    assert by_command["events"] == by_command["log"]
    received, held, others = by_command["events"]
    assert received == 'ADD 5 "A\\u001b[31m" LON  account=ann  reason=return  reference="PO 1"'
    assert held.startswith('"cart 1"  -> HELD  HOLD 2 "A\\u001b[31m" LON  expires=20')
    assert others == "ADD 1 A LON  seller=other  op_id=op-1"


def test_asyncio(tmp_path: Path) -> None:
    async def work() -> None:
        async with aio.open(tmp_path / "s", segment_bytes=SEGMENT_BYTES) as inv:
            calls = [inv.receive("MUG", "LON", 1) for _ in range(2500)]
            await asyncio.gather(*calls)
            assert len([event async for event in inv.events()]) == 2500
            events = inv.events(follow=True)
            first = [await anext(events) for _ in range(2500)]
            assert [e.position for e in first] == sorted({e.position for e in first})
            for _ in range(3):  # cancelled: the next one asked for is the one waited for
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(events), 0.05)
            await inv.receive("TEE", "LON", 1)
            assert (await anext(events)).lines[0].sku == "TEE"
            began_s = time.monotonic()
            assert len([e async for e in inv.events(follow=True, timeout_s=0.3)]) == 2501
            assert time.monotonic() - began_s < 10
            consumer = await inv.consumer("web")
            async with consumer.events() as mine:
                event = await anext(mine)
                await consumer.acknowledge(event)
            assert (await consumer.info()).lsn == event.lsn
            await consumer.reset()
            with pytest.raises(inventory.BadRequest):
                await anext(inv.events(after_lsn=1 << 40))
            # Many followers keep nobody waiting.
            waiting = [asyncio.create_task(one(inv)) for _ in range(50)]
            await asyncio.sleep(0.1)
            await asyncio.to_thread(time.sleep, 0)  # the usual threads are free
            await inv.receive("CUP", "LON", 1)
            assert await asyncio.gather(*waiting) == ["CUP"] * 50
            await consumer.remove()
            assert await inv.consumers() == []
            assert (await anext(events)).lines[0].sku == "CUP"
            pending = asyncio.create_task(anext(events))
            await asyncio.sleep(0.05)
        with pytest.raises(inventory.StoreClosed):
            await pending
        await events.aclose()

    async def one(inv: aio.Inventory) -> str:
        async with inv.events(after_lsn=(await inv.metrics()).lsn_durable, follow=True) as events:
            return (await anext(events)).lines[0].sku

    asyncio.run(work())
    wait_for(lambda: not [t for t in threading.enumerate() if "inventory" in t.name])
