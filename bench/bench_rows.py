# SPDX-License-Identifier: Apache-2.0
"""How many bytes of memory does a stock row take, loaded as an importer would load it?

Rows 10 (``locations`` rows a SKU) and 11 (one row a SKU): a child process numbers the names, 12
characters each, and receives every row through the batch calls of the package, memory mode, once in
SKU order and once in location order. The figure is the growth of its anonymous resident memory
(``RssAnon``) over the load, by the rows loaded, once the store is at rest: the housekeeper packs
the tables when loading has ended. The note says what it was when the last row was in. The arrays of
numbers are there before the load.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from workload import Line, Loaded, Sizes

import inventory

FULL = Sizes(skus=10_000_000, locations=10)
SMOKE = Sizes(skus=2_000, locations=10)

# row -> must, aim
LIMITS = {10: (24, 20), 11: (80, 64)}


def rss_anon_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def at_rest_bytes() -> int:
    """Resident memory once it has been the same for 2 s; after 60 s as it is."""
    seen = [rss_anon_bytes()]
    for _ in range(120):
        time.sleep(0.5)
        seen.append(rss_anon_bytes())
        if len(seen) >= 4 and max(seen[-4:]) - min(seen[-4:]) < seen[-1] // 1000:
            break
    return seen[-1]


def load_in_child(order: str, skus: int, locations: int) -> None:
    """Runs in a process of its own, whose memory is nothing but this."""
    warm = Sizes(skus=1000, locations=1)  # whatever the first use of the calls allocates
    with inventory.open() as inv:
        Loaded(inv, warm).in_sku_order()
    with inventory.open() as inv:
        loaded = Loaded(inv, Sizes(skus=skus, locations=locations))
        before = rss_anon_bytes()
        start_s = time.perf_counter()
        (loaded.in_sku_order if order == "sku" else loaded.in_location_order)()
        seconds = time.perf_counter() - start_s
        peak = rss_anon_bytes() - before
        growth = at_rest_bytes() - before
        report = inv.verify() if skus * locations <= 1_000_000 else None
        assert report is None or (report.ok and report.rows == skus * locations)
        print(json.dumps({"growth_bytes": growth, "loaded_bytes": peak, "seconds": seconds}))


def run(row: int, order: str, sizes: Sizes) -> Line:
    locations = sizes.locations if row == 10 else 1
    arguments = [order, str(sizes.skus), str(locations)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout)
    rows = sizes.skus * locations
    must, aim = LIMITS[row]
    return {
        "row": row,
        "variant": f"{order} order",
        "what": f"bytes a row, {locations} location{'s' if locations > 1 else ''} a SKU",
        "figure": found["growth_bytes"] / rows,
        "unit": "bytes",
        "durability": "memory",
        "must": must,
        "aim": aim,
        "commands": rows,
        "seconds": found["seconds"],
        "load_rate": rows / found["seconds"],
        "loaded_bytes_a_row": found["loaded_bytes"] / rows,
        "skus": sizes.skus,
        "locations": locations,
    }


@pytest.mark.parametrize("order", ["sku", "location"])
@pytest.mark.parametrize("row", LIMITS)
def test_bytes_a_row(benchmark: BenchmarkFixture, sizes: Sizes, row: int, order: str) -> None:
    line = benchmark.pedantic(run, args=(row, order, sizes), rounds=1, iterations=1)
    assert line["figure"] > 0
    benchmark.extra_info.update(line)


if __name__ == "__main__":
    load_in_child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
