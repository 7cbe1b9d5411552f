# SPDX-License-Identifier: Apache-2.0
"""`bench`: what this machine does, in a few seconds."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import click
import msgspec

import inventory
from inventory.cli.common import Command, json_option

__all__ = ["bench"]

_ROWS = 10_000
_UNITS = 1_000_000  # of each row: it never runs short
_TTL_MS = 3_600_000
_BATCH_LINES = 4_096
_THREADS = 32

Durability = Literal["durable", "interval", "memory"]


class Measure(msgspec.Struct, frozen=True):
    """One way to reserve: how many a second, and how long a call took."""

    name: str
    threads: int
    reserves_per_call: int
    reserves_per_second: int
    call_p50_us: int
    call_p99_us: int


class Report(msgspec.Struct, frozen=True):
    """All of it, and where it was measured."""

    durability: str
    directory: str | None
    seconds: float
    measures: tuple[Measure, ...]


@click.command(
    cls=Command,
    examples=[
        "inventory bench --seconds 1",
        "inventory bench --durability memory --seconds 1 --json",
    ],
)
@click.option(
    "--durability",
    type=click.Choice(["durable", "interval", "memory"]),
    default="durable",
    show_default=True,
    help="What a call waits for: the disk, the page cache, nothing.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, writable=True),
    default=".",
    show_default=True,
    help="Where the store is made, and removed: the disk that is measured.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600),
    default=6.0,
    show_default=True,
    help="How long to measure in all.",
)
@json_option
def bench(durability: Durability, directory: str, seconds: float, as_json: bool) -> None:
    """Measure reserves a second on this machine: single ones, and batches of 4,096.

    It makes a store of 10,000 rows, holds one unit after the other, and removes the store.
    """
    with tempfile.TemporaryDirectory(prefix="inventory-bench-", dir=directory) as folder:
        path = None if durability == "memory" else os.path.join(folder, "store")
        with inventory.open(path, durability=durability) as inv:
            measures = _measure(inv, seconds)
    report = Report(
        durability=durability,
        directory=None if path is None else os.path.abspath(directory),
        seconds=seconds,
        measures=measures,
    )
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    click.echo(f"{durability}, {os.cpu_count()} processors")
    click.echo(f"{'reserves':34}{'a second':>12}{'p50 of a call':>16}{'p99 of a call':>16}")
    for one in measures:
        click.echo(
            f"{one.name:34}{one.reserves_per_second:>12,}"
            f"{one.call_p50_us:>13,} us{one.call_p99_us:>13,} us"
        )


def _measure(inv: inventory.Inventory, seconds: float) -> tuple[Measure, ...]:
    import numpy as np

    names = [f"SKU-{number}" for number in range(_ROWS)]
    skus = inv.sku_ids(names, create=True)
    places = np.repeat(inv.location_ids(["LON"], create=True), _ROWS)
    inv.receive_batch(skus, places, np.full(_ROWS, _UNITS, np.int64))

    def single(random: Any) -> None:
        inv.reserve(names[random.integers(_ROWS)], 1, location="LON", ttl_ms=_TTL_MS)

    def batch(random: Any) -> None:
        rows = random.integers(_ROWS, size=_BATCH_LINES)
        ids = np.frombuffer(random.bytes(16 * _BATCH_LINES), np.uint8).reshape(-1, 16)
        one_each = np.ones(_BATCH_LINES, np.int64)
        codes = inv.reserve_batch(skus[rows], places[rows], one_each, ids, ttl_ms=_TTL_MS)
        assert not codes.any(), "no row runs short"

    def pace(name: str, act: Callable[[Any], None], *, threads: int, lines: int) -> Measure:
        call_ns, spent_s = _repeat(act, threads, seconds / 3)
        ordered = sorted(call_ns)
        return Measure(
            name=name,
            threads=threads,
            reserves_per_call=lines,
            reserves_per_second=round(len(ordered) * lines / spent_s),
            call_p50_us=ordered[len(ordered) // 2] // 1_000,
            call_p99_us=ordered[len(ordered) * 99 // 100] // 1_000,
        )

    return (
        pace("single, 1 thread", single, threads=1, lines=1),
        pace(f"single, {_THREADS} threads", single, threads=_THREADS, lines=1),
        pace(f"batches of {_BATCH_LINES:,}, 1 thread", batch, threads=1, lines=_BATCH_LINES),
    )


def _repeat(act: Callable[[Any], None], threads: int, seconds: float) -> tuple[list[int], float]:
    """Call `act` in so many threads for so long; how long each call took in ns, and all in s."""
    import numpy as np

    call_ns: list[int] = []
    failures: list[BaseException] = []
    begin_ns = time.perf_counter_ns()
    end_ns = begin_ns + round(seconds * 1e9)

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        mine: list[int] = []
        try:
            now_ns = time.perf_counter_ns()
            while True:
                act(random)
                before_ns, now_ns = now_ns, time.perf_counter_ns()
                mine.append(now_ns - before_ns)
                if now_ns >= end_ns:
                    break
        except BaseException as error:
            failures.append(error)
        call_ns.extend(mine)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return call_ns, (time.perf_counter_ns() - begin_ns) / 1e9
