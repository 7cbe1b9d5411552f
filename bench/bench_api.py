# SPDX-License-Identifier: Apache-2.0
"""How many single ``reserve`` calls a second does one Python thread make?

Row 3: interval durability, a log on disk; a random SKU and location and a new random id each, all
given as text. ``reservations`` holds are live and ``ended`` have ended before the clock starts;
each block of calls is followed by the ends of older ones (in batches), one in five expires. The
figure is the rate inside the reserve calls; ``overall_rate`` counts the ends too. Making names and
ids is in neither.
"""

from __future__ import annotations

import time
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture
from workload import Line, Load, Sizes, location_names, open_loaded

FULL = Sizes(
    skus=10_000_000,
    locations=10,
    reservations=10_000_000,
    ended=4_000_000,
    seconds=60,
    batch=1000,
)
SMOKE = Sizes(skus=500, locations=2, reservations=2_000, ended=1000, seconds=0.2, batch=100)


def run(directory: Path, sizes: Sizes) -> Line:
    with open_loaded(directory, sizes, "interval") as loaded:
        load = Load(loaded, 0, sizes.batch)
        load.warm_up(sizes.reservations, sizes.ended)
        places = location_names(sizes.locations)
        reserve = loaded.inv.reserve
        calls = inside_ns = end_ns = 0
        deadline_s = time.perf_counter() + sizes.seconds
        while time.perf_counter() < deadline_s:
            requests = load.next_texts(places)
            start_ns = time.perf_counter_ns()
            for sku, location, reservation_id, ttl_ms in requests:
                reserve(sku, 1, location=location, ttl_ms=ttl_ms, reservation_id=reservation_id)
            reserved_ns = time.perf_counter_ns()
            load.end_oldest()
            end_ns += time.perf_counter_ns() - reserved_ns
            inside_ns += reserved_ns - start_ns
            calls += len(requests)
        live = loaded.inv.metrics().live_holds
    return {
        "row": 3,
        "variant": "",
        "what": "Python, single reserve, one thread, inside the calls",
        "figure": calls / inside_ns * 1e9,
        "unit": "reserves/s",
        "durability": "interval",
        "must": 1e6,
        "aim": 1.6e6,
        "commands": calls + load.ended,
        "seconds": (inside_ns + end_ns) / 1e9,
        "overall_rate": calls / (inside_ns + end_ns) * 1e9,
        "skus": sizes.skus,
        "locations": sizes.locations,
        "live": live,
    }


def test_single_reserve(benchmark: BenchmarkFixture, sizes: Sizes, work_dir: Path) -> None:
    line = benchmark.pedantic(run, args=(work_dir, sizes), rounds=1, iterations=1)
    assert line["commands"] > 0
    benchmark.extra_info.update(line)
