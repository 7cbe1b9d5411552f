# SPDX-License-Identifier: Apache-2.0
"""A store under a steady load for a long time: does anything grow that should not?

    python bench/soak.py --seconds 1800 --dir /var/tmp

``--rate`` durable reserves a second, open loop (a batch is due every ``--batch / --rate`` seconds
of each thread, whatever became of the one before). Of ten, six are released and two committed and
shipped after ``--keep`` seconds; two are left to expire. Ended ids are known for ``--retention``
seconds, snapshots are taken and the log is trimmed as a store does by itself.

Every ``--sample`` seconds a line of JSON: rate, latency of a batch from when it was due, memory
(anonymous, of the whole process, the generator's own included), bytes of log and snapshots on
disk, lag of engine time, descriptors. At the end one line with the slope of memory by least squares
and its standard error, over all samples after twice the retention and the longest ttl. Exit status
1: something is not bounded (memory: the slope minus two standard errors).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from workload import Loaded, Sizes, must_be_ok, random_ids

import inventory

TTL_SHORT_MS = 8_000
TTL_LONG_MS = 600_000
SLOPE_MIB_H_MAX = 1.0
LAG_MS_MAX = 1_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=int, default=300_000, help="reserves a second")
    parser.add_argument("--batch", type=int, default=3_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skus", type=int, default=200_000)
    parser.add_argument("--locations", type=int, default=10)
    parser.add_argument("--keep", type=float, default=5.0, help="seconds until an end by a caller")
    parser.add_argument("--retention", type=int, default=60, help="seconds ended ids are known")
    parser.add_argument("--sample", type=float, default=10.0)
    parser.add_argument("--dir", default=None, help="a disk, not memory")
    parser.add_argument("--json", type=Path, default=None, help="a file for the lines, too")
    return parser.parse_args()


class Caller:
    """One thread of the load."""

    def __init__(self, loaded: Loaded, number: int, options: argparse.Namespace) -> None:
        self.loaded = loaded
        self.inv = loaded.inv
        self.options = options
        self.rng = np.random.default_rng([20240229, number])
        self.kept: collections.deque[Any] = collections.deque()  # (when due, ids)
        self.qty = np.ones(options.batch, np.int64)
        self.lock = threading.Lock()
        self.latencies_ms: list[float] = []
        self.reserved = 0

    def reserve(self, due_s: float) -> None:
        count, sizes = self.options.batch, self.loaded.sizes
        ttl_ms = np.full(count, TTL_LONG_MS, np.uint32)
        expiring = count // 5
        ttl_ms[:expiring] = self.rng.integers(1, TTL_SHORT_MS, expiring)
        ids = random_ids(self.rng, count)
        codes = self.inv.reserve_batch(
            self.loaded.skus[self.rng.integers(0, sizes.skus, count)],
            self.loaded.locations[self.rng.integers(0, sizes.locations, count)],
            self.qty,
            ids,
            ttl_ms=ttl_ms,
        )
        must_be_ok(codes)
        with self.lock:
            self.latencies_ms.append((time.perf_counter() - due_s) * 1e3)
            self.reserved += count
        self.kept.append((due_s + self.options.keep, ids[expiring:]))

    def end_what_is_due(self, now_s: float) -> None:
        while self.kept and self.kept[0][0] <= now_s:
            ids = self.kept.popleft()[1]
            committed = len(ids) // 4
            must_be_ok(self.inv.commit_batch(ids[:committed]))
            must_be_ok(self.inv.ship_batch(ids[:committed]))
            must_be_ok(self.inv.release_batch(ids[committed:]))

    def run(self, start_s: float, end_s: float) -> None:
        step_s = self.options.batch * self.options.threads / self.options.rate
        due_s = start_s
        while due_s < end_s:
            time.sleep(max(0.0, due_s - time.perf_counter()))
            self.reserve(due_s)
            self.end_what_is_due(due_s)
            due_s += step_s

    def take(self) -> tuple[list[float], int]:
        with self.lock:
            taken = self.latencies_ms, self.reserved
            self.latencies_ms, self.reserved = [], 0
        return taken


def anonymous_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("no Anonymous: in smaps_rollup")


def bytes_of(path: Path, prefix: str) -> int:
    total = 0
    for file in path.glob(prefix + "*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # trimmed meanwhile
            continue
    return total


def sample(
    inv: inventory.Inventory, path: Path, callers: list[Caller], at_s: float, over_s: float
) -> dict[str, Any]:
    taken = [caller.take() for caller in callers]
    latencies = np.concatenate([np.array(one[0]) for one in taken])
    metrics = inv.metrics()
    p50, p99, p999 = np.percentile(latencies, [50, 99, 99.9]) if len(latencies) else (0, 0, 0)
    return {
        "at_s": round(at_s, 1),
        "reserves_per_s": round(sum(one[1] for one in taken) / over_s),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "p999_ms": round(float(p999), 2),
        "max_ms": round(float(latencies.max(initial=0.0)), 2),
        "anonymous_bytes": anonymous_bytes(),
        "log_bytes": bytes_of(path, "wal-"),
        "snapshot_bytes": bytes_of(path, "snap-"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "lag_ms": metrics.lag_ms,
        "live": metrics.live_holds,
        "ended_ids": metrics.ended_ids,
        "snapshots": metrics.snapshots,
        "snapshot_failures": metrics.snapshot_failures,
        "segment_waits": metrics.segment_waits,
    }


def slope_of(at_h: npt.NDArray[np.float64], mib: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Of a line by least squares, and its standard error. Memory goes up and down with each
    snapshot, so samples are means of 16 (neighbours are not independent)."""
    count = len(mib) // 16
    if count < 3:
        return 0.0, 0.0
    x = at_h[: count * 16].reshape(count, 16).mean(axis=1)
    y = mib[: count * 16].reshape(count, 16).mean(axis=1)
    slope, start = np.polyfit(x, y, 1)
    rest = float(((y - slope * x - start) ** 2).sum())
    error = np.sqrt(rest / (count - 2) / ((x - x.mean()) ** 2).sum())
    return float(slope), float(error)


def summary(lines: list[dict[str, Any]], options: argparse.Namespace, ok: bool) -> dict[str, Any]:
    settled_s = 2 * options.retention + TTL_SHORT_MS / 1e3
    late = [line for line in lines if line["at_s"] >= settled_s] or lines
    at_h = np.array([line["at_s"] for line in late]) / 3600
    mib = np.array([line["anonymous_bytes"] for line in late]) / (1 << 20)
    slope, error = slope_of(at_h, mib)
    half = len(late) // 2

    def most(name: str, part: list[dict[str, Any]] = late) -> Any:
        return max((line[name] for line in part), default=0)

    return {
        "summary": True,
        "seconds": options.seconds,
        "rate_asked": options.rate,
        "rate": round(float(np.mean([line["reserves_per_s"] for line in late]))),
        "slope_mib_h": round(slope, 2),
        "slope_error_mib_h": round(error, 2),
        "anonymous_mib": [round(float(mib.min()), 1), round(float(mib.max()), 1)],
        "log_mib_max": [most("log_bytes", late[:half]) >> 20, most("log_bytes", late[half:]) >> 20],
        "lag_ms_max": most("lag_ms"),
        "p99_ms_median": float(np.median([line["p99_ms"] for line in late])),
        "max_ms": most("max_ms"),
        "descriptors_max": most("descriptors"),
        "snapshots": lines[-1]["snapshots"],
        "snapshot_failures": lines[-1]["snapshot_failures"],
        "verified": ok,
        "bounded": ok and slope - 2 * error < SLOPE_MIB_H_MAX and most("lag_ms") < LAG_MS_MAX,
    }


def run(options: argparse.Namespace, path: Path, say: Any) -> bool:
    sizes = Sizes(skus=options.skus, locations=options.locations)
    with inventory.open(path, id_retention_ms=options.retention * 1000) as inv:
        loaded = Loaded(inv, sizes)
        loaded.in_sku_order()
        callers = [Caller(loaded, number, options) for number in range(options.threads)]
        start_s = time.perf_counter() + 0.1
        end_s = start_s + options.seconds
        failures: list[BaseException] = []

        def call(caller: Caller) -> None:
            try:
                caller.run(start_s, end_s)
            except BaseException as failure:
                failures.append(failure)
                raise

        threads = [threading.Thread(target=call, args=(caller,)) for caller in callers]
        for thread in threads:
            thread.start()
        lines, before_s = [], start_s
        while any(thread.is_alive() for thread in threads) and not failures:
            time.sleep(min(options.sample, max(0.05, end_s - time.perf_counter())))
            now_s = time.perf_counter()
            lines.append(sample(inv, path, callers, now_s - start_s, now_s - before_s))
            say(lines[-1])
            before_s = now_s
        for thread in threads:
            thread.join()
        ok = inv.verify().ok and not failures
    found = summary(lines, options, ok)
    with inventory.open(path) as inv:
        found["digests_checked"] = inv.recovery.digests_checked
        found["open_s"] = round(inv.recovery.duration_ns / 1e9, 2)
        found["bounded"] = found["bounded"] and inv.verify().ok
    say(found)
    return bool(found["bounded"])


def main() -> int:
    options = arguments()
    directory = Path(tempfile.mkdtemp(prefix="inventory-soak.", dir=options.dir))

    def say(line: dict[str, Any]) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(text + "\n")

    try:
        return 0 if run(options, directory / "store", say) else 1
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
