# SPDX-License-Identifier: Apache-2.0
"""How fast is a snapshot written and loaded, and what do callers feel of one?

Row 15, durable, on disk; ``skus`` x ``locations`` rows and ``reservations`` live holds.

* ``write``: a snapshot of a store that nobody uses, from the call to the answer: copied, written,
  read back from the disk, named. Bytes of the file by that time.
* ``load``: opening the store over it. Bytes of the file by the time that opening takes, the new log
  segment included.
* ``meanwhile``: ``threads`` threads make 1,000 single durable reserves a second altogether, for
  ``seconds`` without a snapshot and for at least as long with one after the other. Latency counts
  from when a call was due. The figure is the p99 with by the p99 without.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture
from workload import Line, Load, Loaded, Sizes, location_names, must_be_ok, open_loaded, sku_names

import inventory

FULL = Sizes(
    skus=10_000_000,
    locations=10,
    reservations=1_000_000,
    ended=1_000_000,
    seconds=15,
    threads=4,
)
SMOKE = Sizes(skus=500, locations=2, reservations=1000, ended=10_000, seconds=0.3, threads=2)
RATE = 1_000  # calls a second of all threads


def line_of(sizes: Sizes, variant: str, figure: float, unit: str, **more: float | None) -> Line:
    return {
        "row": 15,
        "variant": variant,
        "what": "snapshot",
        "figure": figure,
        "unit": unit,
        "durability": "durable",
        "must": 500.0,
        "aim": 1000.0,
        "skus": sizes.skus,
        "locations": sizes.locations,
        "live": sizes.reservations,
        **more,
    }


def hold(loaded: Loaded, count: int) -> None:
    """Live reservations, in batches."""
    load = Load(loaded, 0, 1000)
    for _ in range(-(-count // 1000)):
        skus, locations, ids, _ = load.next_batch()
        must_be_ok(
            loaded.inv.reserve_batch(skus, locations, load.ones(1000), ids, ttl_ms=86_400_000)
        )


def p99_ms(inv: inventory.Inventory, sizes: Sizes, until: threading.Event | None) -> float:
    """Of reserves that were due in the next ``seconds``, and on until the event is set."""
    names, places = sku_names(0, min(sizes.skus, 100_000)), location_names(sizes.locations)
    latencies: list[list[float]] = [[] for _ in range(sizes.threads)]
    start_s = time.perf_counter() + 0.05

    def call(number: int) -> None:
        rng = np.random.default_rng(number)
        due_s = start_s + number / RATE
        while due_s < start_s + sizes.seconds or (until is not None and not until.is_set()):
            time.sleep(max(0.0, due_s - time.perf_counter()))
            sku, place = rng.integers(0, len(names)), rng.integers(0, len(places))
            inv.reserve(names[sku], 1, location=places[place], ttl_ms=5_000)
            latencies[number].append((time.perf_counter() - due_s) * 1e3)
            due_s += sizes.threads / RATE

    threads = [threading.Thread(target=call, args=(i,)) for i in range(sizes.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(np.percentile(np.concatenate(latencies), 99))


def meanwhile(inv: inventory.Inventory, sizes: Sizes) -> Line:
    normal_ms = p99_ms(inv, sizes, None)
    done, taken_s = threading.Event(), []

    def take() -> None:
        end_s = time.perf_counter() + sizes.seconds
        while not taken_s or time.perf_counter() < end_s:
            taken_s.append(inv.snapshot().duration_ns / 1e9)
        done.set()

    taker = threading.Thread(target=take)
    taker.start()
    with_ms = p99_ms(inv, sizes, done)
    taker.join()
    return line_of(
        sizes,
        "p99 of single reserves meanwhile",
        with_ms / normal_ms,
        "x normal",
        must=2.0,
        aim=1.5,
        p99_normal_ms=normal_ms,
        p99_meanwhile_ms=with_ms,
        snapshot_s=float(np.median(taken_s)),
    )


def run(directory: Path, sizes: Sizes) -> list[Line]:
    with open_loaded(directory, sizes, "durable") as loaded:
        inv = loaded.inv
        hold(loaded, sizes.reservations)
        taken = [inv.snapshot() for _ in range(3)]
        rates = [one.bytes / one.duration_ns * 1e3 for one in taken]
        lines = [line_of(sizes, "write and read back", float(np.median(rates)), "MB/s")]
        lines.append(meanwhile(inv, sizes))
        inv.snapshot()
        del loaded, inv
    with inventory.open(directory / "store") as inv:
        found = inv.recovery
        rate = found.snapshot_bytes / found.duration_ns * 1e3
        seconds = found.duration_ns / 1e9
        lines.append(line_of(sizes, "load", rate, "MB/s", open_s=seconds))
    return lines


def test_snapshot(benchmark: BenchmarkFixture, sizes: Sizes, work_dir: Path) -> None:
    found = benchmark.pedantic(run, args=(work_dir, sizes), rounds=1, iterations=1)
    assert all(line["figure"] > 0 for line in found)
    benchmark.extra_info["lines"] = found
