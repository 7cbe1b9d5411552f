# SPDX-License-Identifier: Apache-2.0
"""How many rows a second go through the batch calls, when each call returns once it is durable?

Row 4: ``reserve_batch`` with the ends of older reservations beside it, ``threads`` threads, random
SKUs and locations, new random ids, ``reservations`` live before the clock starts. The figure counts
reserves over the whole time, ends and making of the numbers included.

The other calls have no row of their own: at most 100,000 SKUs, one thread, a tenth of ``seconds``
each, and the time inside the calls alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from workload import ON_HAND, Line, Load, Sizes, must_be_ok, open_loaded

FULL = Sizes(
    skus=10_000_000,
    locations=10,
    reservations=10_000_000,
    ended=4_000_000,
    seconds=60,
    batch=8192,
    threads=2,
)
SMOKE = Sizes(
    skus=500, locations=2, reservations=2_000, ended=1000, seconds=0.2, batch=100, threads=2
)

Step = Callable[[], Any]


def line_of(what: str, variant: str, rate: float, sizes: Sizes, **more: object) -> Line:
    return {
        "row": 4,
        "variant": variant,
        "what": what,
        "figure": rate,
        "unit": "rows/s",
        "durability": "durable",
        "must": None,
        "aim": None,
        "skus": sizes.skus,
        "locations": sizes.locations,
        "batch": sizes.batch,
        **more,
    }


def run_reserves(directory: Path, sizes: Sizes) -> Line:
    with open_loaded(directory, sizes, "durable") as loaded:
        loads = [Load(loaded, number, sizes.batch) for number in range(sizes.threads)]
        for load in loads:
            load.warm_up(sizes.reservations // sizes.threads, sizes.ended // sizes.threads)
        made, inside_ns = [0] * sizes.threads, [0] * sizes.threads
        failures: list[BaseException] = []
        start_s = time.perf_counter()
        deadline_s = start_s + sizes.seconds

        def work(number: int) -> None:
            try:
                while time.perf_counter() < deadline_s:
                    inside_ns[number] += loads[number].reserve_batch()
                    loads[number].end_oldest()
                    made[number] += sizes.batch
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(sizes.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start_s
        if failures:
            raise failures[0]
        live = loaded.inv.metrics().live_holds
    line = line_of(
        f"Python, reserve_batch, {sizes.threads} threads, ends included",
        "",
        sum(made) / seconds,
        sizes,
        seconds=seconds,
        commands=sum(made) + sum(load.ended for load in loads),
        reserve_call_rate=sum(n / ns * 1e9 for n, ns in zip(made, inside_ns, strict=True)),
        live=live,
    )
    return line | {"unit": "reserves/s", "must": 2.5e6, "aim": 4e6}


def test_reserve_batch(benchmark: BenchmarkFixture, sizes: Sizes, work_dir: Path) -> None:
    line = benchmark.pedantic(run_reserves, args=(work_dir, sizes), rounds=1, iterations=1)
    assert line["commands"] > 0
    benchmark.extra_info.update(line)


def steps_of(call: str, load: Load) -> Iterator[Step]:
    """Endless calls, each with its rows ready: what it takes is done before the clock starts."""
    inv = load.inv
    batch_call = getattr(inv, f"{call}_batch")
    while True:
        skus, locations, ids, _ = load.next_batch()
        if call == "receive":
            yield partial(batch_call, skus, locations, load.ones(len(skus)))
        elif call == "availability":
            yield partial(batch_call, skus, locations)
        else:
            qty = load.ones(len(skus))
            must_be_ok(inv.reserve_batch(skus, locations, qty, ids, ttl_ms=600_000))
            yield partial(batch_call, ids)


def check_answer(answer: Any) -> None:
    """Codes that are all 0, or stock levels that are all there."""
    if answer.dtype == np.uint8:
        must_be_ok(answer)
    elif not answer["known"].all() or (answer["on_hand"] < ON_HAND).any():
        raise RuntimeError("rows are missing")


def run_call(directory: Path, sizes: Sizes, call: str) -> Line:
    with open_loaded(directory, sizes, "durable") as loaded:
        steps = steps_of(call, Load(loaded, 0, sizes.batch))
        calls = inside_ns = 0
        while inside_ns < sizes.seconds / 10 * 1e9:
            step = next(steps)
            start_ns = time.perf_counter_ns()
            answer = step()
            inside_ns += time.perf_counter_ns() - start_ns
            check_answer(answer)
            calls += 1
    rows = calls * sizes.batch
    return line_of(
        "Python, other batch calls, one thread, inside the calls",
        f"{call}_batch",
        rows / inside_ns * 1e9,
        sizes,
        seconds=inside_ns / 1e9,
        commands=rows,
    )


@pytest.mark.parametrize("call", ["receive", "commit", "release", "availability"])
def test_other_batches(
    benchmark: BenchmarkFixture, sizes: Sizes, work_dir: Path, call: str
) -> None:
    fewer = sizes.changed_by({"skus": min(sizes.skus, 100_000)})
    line = benchmark.pedantic(run_call, args=(work_dir, fewer, call), rounds=1, iterations=1)
    assert line["commands"] > 0
    benchmark.extra_info.update(line)
