# SPDX-License-Identifier: Apache-2.0
"""The same work done by others: how many reserves a second?

The work: ``skus`` stock rows in one location; reserve one unit of a random SKU under a new random
id with a TTL of ten minutes; an id sent again must not act twice, and holds that are due go back
before the next reserve is judged. One thread sends, the contenders are:

- ``engine``: this library.
- ``dict``: a Python dictionary, a lock and a heap of deadlines. Nothing on disk.
- ``redis``: one Lua script, over a Unix socket, ``appendfsync always``. Only where ``redis-server``
  is installed. The client speaks bare RESP, which costs less than a client library.

``one by one`` waits for each answer; ``together`` sends ``batch`` requests,
then waits for all.
``report.py`` runs the contenders in turn, round by round.
"""

from __future__ import annotations

import hashlib
import heapq
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from workload import (
    ON_HAND,
    SEED,
    Ids,
    Line,
    Loaded,
    Sizes,
    chunks,
    id_texts,
    must_be_ok,
    random_ids,
    sku_names,
)

import inventory

FULL = Sizes(skus=1_000_000, seconds=10, batch=256)
SMOKE = Sizes(skus=500, seconds=0.2, batch=256)

LOCATION = "L00000000000"
TTL_MS = 600_000
REDIS_START_S = 10.0

# SKUs by their place in the list of names; ids as text and as bytes.
Requests = tuple[list[int], list[str], Ids]


def measure(send: Callable[[Requests], None], sizes: Sizes) -> tuple[float, int]:
    """Rate inside ``send``, which is given ``batch`` requests at a time, and how many there were.

    Making the requests is not counted: it is the same for all.
    """
    count = sizes.batch
    rng = np.random.default_rng(SEED)
    requests = inside_ns = 0
    while inside_ns < sizes.seconds * 1e9:
        ids = random_ids(rng, count)
        batch = rng.integers(0, sizes.skus, count).tolist(), id_texts(ids), ids
        start_ns = time.perf_counter_ns()
        send(batch)
        inside_ns += time.perf_counter_ns() - start_ns
        requests += count
    return requests / inside_ns * 1e9, requests


def line_of(
    work: str, contender: str, durability: str, result: tuple[float, int], batch: int
) -> Line:
    rate, requests = result
    return {
        "peer": contender,
        "variant": f"{work}, {durability}",
        "what": work if work == "one by one" else f"{batch} {work}",
        "figure": rate,
        "unit": "reserves/s",
        "durability": durability,
        "commands": requests,
    }


# ---- the engine ---------------------------------------------------------------------------------


def run_engine(directory: Path, sizes: Sizes, work: str, durability: str) -> Line:
    names = sku_names(0, sizes.skus)
    path = None if durability == "memory" else directory / "store"
    with inventory.open(path) as inv:
        loaded = Loaded(inv, Sizes(skus=sizes.skus))
        loaded.in_sku_order()
        reserve, reserve_batch = inv.reserve, inv.reserve_batch
        places = np.full(sizes.batch, loaded.locations[0], np.uint16)
        ones = np.ones(sizes.batch, np.int64)

        def one_by_one(requests: Requests) -> None:
            for sku, text in zip(*requests[:2], strict=True):
                reserve(names[sku], 1, location=LOCATION, ttl_ms=TTL_MS, reservation_id=text)

        def together(requests: Requests) -> None:
            skus = loaded.skus[requests[0]]
            must_be_ok(reserve_batch(skus, places, ones, requests[2], ttl_ms=TTL_MS))

        send = one_by_one if work == "one by one" else together
        return line_of(work, "engine", durability, measure(send, sizes), sizes.batch)


# ---- a dictionary and a lock --------------------------------------------------------------------


class DictShop:
    """What one would write without an engine: right while the process lives, and no longer."""

    def __init__(self, names: list[str]) -> None:
        self.lock = threading.Lock()
        self.rows = {(name, LOCATION): [ON_HAND, 0] for name in names}  # on_hand, held
        self.holds: dict[str, tuple[tuple[str, str], int]] = {}
        self.deadlines: list[tuple[float, str]] = []

    def reserve(self, sku: str, location: str, qty: int, reservation_id: str, ttl_ms: int) -> str:
        now_s = time.monotonic()
        with self.lock:
            while self.deadlines and self.deadlines[0][0] <= now_s:
                key, held = self.holds.pop(heapq.heappop(self.deadlines)[1])
                self.rows[key][1] -= held
            if reservation_id in self.holds:
                return "replayed"
            key = sku, location
            row = self.rows[key]
            if row[0] - row[1] < qty:
                return "insufficient"
            row[1] += qty
            self.holds[reservation_id] = key, qty
            heapq.heappush(self.deadlines, (now_s + ttl_ms / 1000, reservation_id))
            return "ok"


def run_dict(sizes: Sizes) -> Line:
    names = sku_names(0, sizes.skus)
    shop = DictShop(names)

    def one_by_one(requests: Requests) -> None:
        for sku, text in zip(*requests[:2], strict=True):
            if shop.reserve(names[sku], LOCATION, 1, text, TTL_MS) != "ok":
                raise RuntimeError("refused")

    return line_of("one by one", "dict", "memory", measure(one_by_one, sizes), sizes.batch)


# ---- Redis --------------------------------------------------------------------------------------

# KEYS: row, hold, deadlines. ARGV: qty, ttl_ms. 1 done, 0 not enough, 2 known id.
SCRIPT = b"""
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, due in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 16)) do
  local hold = redis.call('HMGET', due, 'row', 'qty')
  redis.call('HINCRBY', hold[1], 'held', -hold[2])
  redis.call('DEL', due)
  redis.call('ZREM', KEYS[3], due)
end
if redis.call('EXISTS', KEYS[2]) == 1 then return 2 end
local row = redis.call('HMGET', KEYS[1], 'on_hand', 'held')
if not row[1] or row[1] - row[2] < tonumber(ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[1], 'held', ARGV[1])
redis.call('HSET', KEYS[2], 'row', KEYS[1], 'qty', ARGV[1])
redis.call('ZADD', KEYS[3], now + ARGV[2], KEYS[2])
return 1
"""


class Redis:
    """A connection that sends packed requests and reads their replies: lines and bulk strings."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.replies = connection.makefile("rb")
        self.script_sha = hashlib.sha1(SCRIPT).hexdigest().encode()

    @staticmethod
    def packed(*parts: bytes) -> bytes:
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)

    def send(self, requests: list[bytes]) -> list[bytes]:
        self.connection.sendall(b"".join(requests))
        return [self.reply() for _ in requests]

    def reply(self) -> bytes:
        line = self.replies.readline()
        if not line or line.startswith(b"-"):
            raise RuntimeError(f"redis says {line!r}")
        return self.replies.read(int(line[1:]) + 2) if line.startswith(b"$") else line

    def load(self, skus: int) -> None:
        self.send([self.packed(b"SCRIPT", b"LOAD", SCRIPT)])
        row = (b"on_hand", b"%d" % ON_HAND, b"held", b"0")
        for start, end in chunks(skus, 10_000):
            names = sku_names(start, end - start)
            self.send([self.packed(b"HSET", name.encode(), *row) for name in names])

    def reserve(self, sku: str, reservation_id: str) -> bytes:
        """One packed reserve; its answer is ``:1`` when it was done."""
        keys = (sku.encode(), reservation_id.encode(), b"deadlines")
        return self.packed(b"EVALSHA", self.script_sha, b"3", *keys, b"1", b"%d" % TTL_MS)


def start_redis(program: str, directory: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    path = directory / "redis.sock"
    server = subprocess.Popen(
        [
            *(program, "--port", "0", "--unixsocket", str(path), "--dir", str(directory)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
        ],
        stdout=subprocess.DEVNULL,
    )
    give_up_s = time.monotonic() + REDIS_START_S
    connection = socket.socket(socket.AF_UNIX)
    while True:
        try:
            connection.connect(str(path))
        except OSError:
            if server.poll() is not None or time.monotonic() > give_up_s:
                server.kill()
                raise RuntimeError("redis-server does not start") from None
            time.sleep(0.05)
        else:
            return server, connection


def run_redis(connection: socket.socket, sizes: Sizes, work: str) -> Line:
    names = sku_names(0, sizes.skus)
    redis = Redis(connection)
    redis.load(sizes.skus)

    def one_by_one(requests: Requests) -> None:
        for sku, text in zip(*requests[:2], strict=True):
            if redis.send([redis.reserve(names[sku], text)]) != [b":1\r\n"]:
                raise RuntimeError("refused")

    def together(requests: Requests) -> None:
        packed = [redis.reserve(names[sku], text) for sku, text in zip(*requests[:2], strict=True)]
        if set(redis.send(packed)) != {b":1\r\n"}:
            raise RuntimeError("refused")

    send = one_by_one if work == "one by one" else together
    return line_of(work, "redis", "durable", measure(send, sizes), sizes.batch)


# ---- the contest --------------------------------------------------------------------------------

CONTEST = [
    ("engine", "one by one", "memory"),
    ("dict", "one by one", "memory"),
    ("engine", "one by one", "durable"),
    ("redis", "one by one", "durable"),
    ("engine", "together", "durable"),
    ("redis", "together", "durable"),
]


@pytest.mark.parametrize(("contender", "work", "durability"), CONTEST)
def test_reserve(
    benchmark: BenchmarkFixture,
    sizes: Sizes,
    work_dir: Path,
    contender: str,
    work: str,
    durability: str,
) -> None:
    if contender == "engine":
        arguments = (work_dir, sizes, work, durability)
        line = benchmark.pedantic(run_engine, args=arguments, rounds=1, iterations=1)
    elif contender == "dict":
        line = benchmark.pedantic(run_dict, args=(sizes,), rounds=1, iterations=1)
    else:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        server, connection = start_redis(program, work_dir)
        try:
            line = benchmark.pedantic(
                run_redis, args=(connection, sizes, work), rounds=1, iterations=1
            )
        finally:
            connection.close()
            server.terminate()
            server.wait()
    benchmark.extra_info.update(line)
