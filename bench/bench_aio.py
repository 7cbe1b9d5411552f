# SPDX-License-Identifier: Apache-2.0
"""How long is an event loop kept busy while 200,000 reserves are in flight?

Row 18, beyond the table of targets: a durable store on disk; one task a reserve, 100 new tasks in a
turn of the loop. Twice, on the loop of asyncio itself and on uvloop where it is installed:

* ``at once``: the log writer is held back until all calls are made, so that all of them are in
  flight at one moment; then it is let go.
* ``flowing``: nothing is held back; latencies are of this run.

A heartbeat task measures every turn of the loop. ``loop_block_ms_max``, the figure, is the longest
turn by the wall clock, whatever the machine did meanwhile; ``loop_own_ms_max`` the longest without
the time its thread stood in the queue for a processor that others used; ``gc_ms_max`` the longest
garbage collection. Collection is set as docs/how-to/embedding.md advises, unless ``--gc-default``.

Runs by itself too: ``python bench/bench_aio.py [--smoke]`` prints one JSON line a run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from held_disk import HeldDisk
from pytest_benchmark.fixture import BenchmarkFixture
from workload import Line, Loaded, Sizes, sku_names

import inventory

try:
    import uvloop
except ImportError:
    uvloop = None

FULL = Sizes(skus=1_000, reservations=200_000)
SMOKE = Sizes(skus=100, reservations=2_000)

IN_FLIGHT_MAX = FULL.reservations
TASKS_A_TURN = 100
LOOPS = ["asyncio", *(["uvloop"] if uvloop is not None else [])]
FLOWS = ["at once", "flowing"]


class Collections:
    """Garbage collections while it is active: how many, and the longest."""

    def __init__(self) -> None:
        self.count = 0
        self.ms_max = 0.0
        self._began_s = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        else:
            self.count += 1
            self.ms_max = max(self.ms_max, (time.perf_counter() - self._began_s) * 1e3)


class Heartbeat:
    """The longest turn of the loop."""

    def __init__(self) -> None:
        self.block_ms_max = self.own_ms_max = 0.0
        self.turns = 0

    async def run(self) -> None:
        schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        try:
            wall_ns, queued_ns = time.perf_counter_ns(), self.queued_ns(schedstat)
            while True:
                await asyncio.sleep(0)
                before = wall_ns, queued_ns
                wall_ns, queued_ns = time.perf_counter_ns(), self.queued_ns(schedstat)
                turn_ms = (wall_ns - before[0]) / 1e6
                own_ms = turn_ms - (queued_ns - before[1]) / 1e6
                self.block_ms_max = max(self.block_ms_max, turn_ms)
                self.own_ms_max = max(self.own_ms_max, own_ms)
                self.turns += 1
        finally:
            os.close(schedstat)

    @staticmethod
    def queued_ns(schedstat: int) -> int:
        """How long this thread has waited for a processor."""
        return int(os.pread(schedstat, 64, 0).split()[1])


def fill(directory: Path, sizes: Sizes) -> list[str]:
    """A store with stock of every SKU, made before anything is measured; their names."""
    with inventory.open(directory / "store") as inv:
        Loaded(inv, Sizes(skus=sizes.skus, locations=1)).in_sku_order()
    return sku_names(0, sizes.skus)


async def measure(
    directory: Path, skus: list[str], count: int, at_once: bool, collections: Collections
) -> dict[str, Any]:
    disk = HeldDisk()
    if not at_once:
        disk.release()
    with disk.holding():
        inv = await inventory.aio.open(directory / "store")
    waits_s: list[float] = []
    in_flight = in_flight_max = 0
    all_answered = asyncio.Event()

    async def reserve(number: int) -> None:
        nonlocal in_flight, in_flight_max
        in_flight += 1
        in_flight_max = max(in_flight_max, in_flight)
        began_s = time.perf_counter()
        await inv.reserve(skus[number % len(skus)], 1)
        waits_s.append(time.perf_counter() - began_s)
        in_flight -= 1
        if len(waits_s) == count:
            all_answered.set()

    heartbeat = Heartbeat()
    beating = asyncio.ensure_future(heartbeat.run())
    tasks: list[asyncio.Task[None]] = []  # a set of 200,000 takes milliseconds to grow
    gc.callbacks.append(collections)
    began_s = time.perf_counter()
    for at in range(0, count, TASKS_A_TURN):
        for number in range(at, min(at + TASKS_A_TURN, count)):
            tasks.append(asyncio.ensure_future(reserve(number)))
        await asyncio.sleep(0)
    disk.release()
    await all_answered.wait()
    total_s = time.perf_counter() - began_s
    gc.callbacks.remove(collections)
    beating.cancel()
    live = (await inv.metrics()).live_holds
    assert live == count, f"{live:,} of {count:,} holds"
    await inv.close()
    waits_s.sort()
    return {
        "in_flight": in_flight_max,
        "rate": round(count / total_s, 1),
        "loop_block_ms_max": round(heartbeat.block_ms_max, 2),
        "loop_own_ms_max": round(heartbeat.own_ms_max, 2),
        "p50_ms": round(waits_s[len(waits_s) // 2] * 1e3, 2),
        "p99_ms": round(waits_s[len(waits_s) * 99 // 100] * 1e3, 2),
        "loop_turns": heartbeat.turns,
    }


def run(directory: Path, sizes: Sizes, loop: str, flow: str, gc_default: bool = False) -> Line:
    new_loop: Callable[[], asyncio.AbstractEventLoop] = (
        asyncio.new_event_loop if loop == "asyncio" else uvloop.new_event_loop
    )
    collections = Collections()
    skus = fill(directory, sizes)
    count = min(sizes.reservations, IN_FLIGHT_MAX)
    thresholds = gc.get_threshold()
    gc.collect()
    if not gc_default:
        gc.freeze()
        gc.set_threshold(1_000, 10, 1_000_000)
    runner = new_loop()
    try:
        seen = runner.run_until_complete(
            measure(directory, skus, count, flow == "at once", collections)
        )
        runner.run_until_complete(runner.shutdown_default_executor())
    finally:
        runner.close()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    return {
        "row": 18,
        "variant": f"{loop}, {flow}",
        "what": "Python, asyncio, longest turn of the loop under very many reserves",
        "figure": seen["loop_block_ms_max"],
        "unit": "ms",
        "durability": "durable",
        "must": 10.0,
        "aim": 5.0,
        **seen,
        "gc_count": collections.count,
        "gc_ms_max": round(collections.ms_max, 2),
    }


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("loop", LOOPS)
def test_turns(
    benchmark: BenchmarkFixture, sizes: Sizes, work_dir: Path, loop: str, flow: str
) -> None:
    line = benchmark.pedantic(run, args=(work_dir, sizes, loop, flow), rounds=1, iterations=1)
    assert line["in_flight"] > 0
    benchmark.extra_info.update(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", help="where the store's directory is made")
    parser.add_argument("--gc-default", action="store_true", help="Python's own gc settings")
    parser.add_argument("--smoke", action="store_true", help="a moment only; its figure is nothing")
    flags = parser.parse_args()
    for loop in LOOPS:
        for flow in FLOWS:
            with tempfile.TemporaryDirectory(prefix="inventory-bench.", dir=flags.dir) as directory:
                sizes = SMOKE if flags.smoke else FULL
                print(json.dumps(run(Path(directory), sizes, loop, flow, flags.gc_default)))


if __name__ == "__main__":
    main()
