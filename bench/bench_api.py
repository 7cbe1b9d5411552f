# SPDX-License-Identifier: Apache-2.0
"""How many single ``reserve`` calls a second does one Python thread make?

Row 3 of the table: interval durability, a log on disk, a random SKU and a new id each, every
reservation later committed, released or expired inside the run. The figure is the rate inside the
reserve calls; ``overall_rate`` counts the whole time, ends of older reservations included.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import deque
from pathlib import Path

import inventory

BLOCK = 1000


def names(count: int) -> list[str]:
    return [f"S{index:011d}" for index in range(count)]


def run(directory: Path, skus: int, seconds: float, ttl_ms: int) -> dict[str, object]:
    """One timed run; the store is filled before."""
    chooser = random.Random(20240229)
    ids: deque[str] = deque()
    calls = ends = 0
    inside_s = 0.0
    with inventory.open(directory / "store", durability="interval") as shop:
        all_skus = names(skus)
        for sku in all_skus:
            shop.receive(sku, "LON", 1_000_000_000)
        reserve = shop.reserve
        started_s = time.perf_counter()
        while (now_s := time.perf_counter()) - started_s < seconds:
            block = chooser.choices(all_skus, k=BLOCK)
            now_s = time.perf_counter()
            made = [reserve(sku, 1, location="LON", ttl_ms=ttl_ms) for sku in block]
            inside_s += time.perf_counter() - now_s
            calls += BLOCK
            # One of ten is committed, one released; the others run out by themselves.
            ids.extend(hold.reservation_id for hold in made[: BLOCK // 5])
            for index in range(len(ids) - BLOCK // 5 if ttl_ms > 1000 else len(ids)):
                (shop.commit if index % 2 else shop.release)(ids.popleft())
                ends += 1
        total_s = time.perf_counter() - started_s
        live = shop.metrics().live_holds
    return {
        "row": 3,
        "what": "Python, single reserve, one thread",
        "figure": round(calls / inside_s, 1),
        "unit": "reserves/s",
        "durability": "interval",
        "must": 1e6,
        "aim": 1.6e6,
        "commands": calls + ends,
        "seconds": round(total_s, 3),
        "overall_rate": round(calls / total_s, 1),
        "skus": skus,
        "live": live,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--ttl-ms", type=int, default=12_000, help="how long most holds live")
    parser.add_argument("--dir", help="where the store's directory is made")
    parser.add_argument("--smoke", action="store_true", help="a moment only; its figure is nothing")
    flags = parser.parse_args()
    if flags.smoke:
        flags.skus, flags.seconds, flags.ttl_ms = 500, 0.3, 100
    with tempfile.TemporaryDirectory(prefix="bench_api.", dir=flags.dir) as directory:
        row = run(Path(directory), flags.skus, flags.seconds, flags.ttl_ms)
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
