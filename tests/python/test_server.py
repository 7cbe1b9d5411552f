# SPDX-License-Identifier: Apache-2.0
"""`inventory serve` from outside: a raw client of docs/wire.md against the library as its twin."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from wire_peer import COMMAND, RawClient, ServerProcess, unpack_all
from wire_twin import answer, batch, plain

import inventory
from inventory_server._loop import Server
from inventory_server.config import LibzmqError

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "wire" / "vectors.json").read_text(encoding="utf-8")
)["vectors"]
SKUS = ["TEE", "MUG", "CAP", "Grüße", "NO-SUCH"]
LOCATIONS = ["LON", "PAR", "BER"]
PING, HELLO, BARRIER = 49, 48, 50


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "shop.inv"


@pytest.fixture
def server(data: Path) -> Iterator[ServerProcess]:
    with ServerProcess(data) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RawClient]:
    with RawClient(server.endpoints[0]) as client:
        yield client


def new_ids(rng: random.Random, count: int) -> bytes:
    return b"".join(uuid.UUID(int=rng.getrandbits(128), version=4).bytes for _ in range(count))


# ---- the same answers as the library -------------------------------------------------------------


class Requests:
    """Random requests over few SKUs and ids, so that they meet."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.correlation = 0
        self.uuids = [new_ids(self.rng, 1) for _ in range(6)]

    def id(self) -> Any:
        if self.rng.random() < 0.4:
            return self.rng.choice(self.uuids)
        return f"cart-{self.rng.randrange(24)}"

    def op_id(self) -> Any:
        return None if self.rng.random() < 0.6 else f"op-{self.rng.randrange(40)}"

    def sku(self) -> str:
        return self.rng.choice(SKUS[:4]) if self.rng.random() < 0.95 else SKUS[4]

    def location(self) -> Any:
        return self.rng.choice([*LOCATIONS, None])

    def lines(self) -> list[Any]:
        return [
            [self.sku(), self.location(), self.rng.randint(0 if self.rng.random() < 0.05 else 1, 6)]
            for _ in range(self.rng.randint(1, 5))
        ]

    def part(self) -> Any:
        return None if self.rng.random() < 0.6 else self.lines()[:2]

    def values(self, op: int) -> list[Any]:
        rng = self.rng
        if op == 1:
            return [self.id(), self.sku(), self.location(), rng.randint(0, 8),
                    rng.choice([None, 60_000, 90_000])]  # fmt: skip
        if op == 2:
            return [self.id(), self.lines(), None, "web", None, rng.choice([None, 1])]
        if op in (3, 4, 5, 6):
            flags = {3: [None, 2, 4, 6], 4: [None], 5: [None, 16], 6: [None]}[op]
            return [self.id(), rng.choice(flags), self.part(), self.op_id()]
        if op == 7:
            return [self.id(), rng.choice([None, 8]), rng.randint(1_000_000, 2_000_000)]
        if op in (8, 9):
            return [self.sku(), rng.choice(LOCATIONS), rng.randint(0, 30), self.op_id()]
        if op == 10:
            return [self.sku(), rng.choice(LOCATIONS), rng.randint(-6, 9), self.op_id(),
                    rng.choice([None, 32]), None, None, "damage"]  # fmt: skip
        if op == 11:
            return [self.sku(), rng.choice(LOCATIONS), rng.randint(0, 40), rng.randint(0, 40)]
        if op == 12:
            return [self.sku(), self.location(), rng.randint(0, 3), self.op_id()]
        if op == 16:
            return [self.sku(), rng.choice(LOCATIONS)]
        return [self.sku()] if op == 17 else [self.id()]

    def next(self) -> list[Any]:
        ops = [1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 8, 8, 9, 10, 11, 12, 16, 17, 18]
        op = self.rng.choice(ops)
        self.correlation += 1
        return [1, self.correlation, op, None, *self.values(op)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_answer_is_the_librarys(seed: int) -> None:
    requests = Requests(seed)
    seen: set[tuple[int, int]] = set()
    with (
        ServerProcess(None) as server,
        RawClient(server.endpoints[0]) as client,
        inventory.open() as twin,
    ):
        for _ in range(600):
            message = [requests.next() for _ in range(requests.rng.randint(1, 12))]
            for request, reply in zip(message, client.ask(*message), strict=True):
                expected = answer(twin, request)
                assert plain(request, reply) == expected, (request, reply)
                assert reply[4] == 0  # no log: no epoch, not on disk
                seen.add((request[2], reply[2]))
        server.stop()
    assert {op for op, _ in seen} == {*range(1, 13), 16, 17, 18}
    codes = {code for _, code in seen}
    assert {0, 1, 10, 13, 14, 15, 17, 20, 21, 30, 31, 32} <= codes


class Rows:
    """Random rows of a batch, for stores that number their SKUs each in its own way."""

    def __init__(self, rng: random.Random, op: int, ids: bytes) -> None:
        self.op = op
        self.count = rng.choice([0, 1, 31, 32, 33, 200])
        self.pick = np.array([rng.randrange(50) for _ in range(self.count)], "u4")
        self.at = np.array([rng.randrange(3) for _ in range(self.count)], "<u2").tobytes()
        self.qty = np.array([rng.randint(-1, 9) for _ in range(self.count)], "<i8").tobytes()
        self.ids = ids[: 16 * self.count]

    def request(self, sku_numbers: Any) -> list[Any]:
        head = [1, 1, self.op, None]
        skus = sku_numbers[self.pick].astype("<u4").tobytes()
        if self.op == 41:
            return [*head, skus, self.at]
        if self.op == 32:
            column = np.full(self.count, 70_000, "<u4").tobytes()
            ttl = 60_000 if self.count % 2 else column
            return [*head, self.ids, skus, self.at, self.qty, ttl]
        if self.op in (33, 34, 35):
            return [*head, None, skus, self.at, self.qty]
        return [*head, self.ids, *([90_000] if self.op == 40 else [])]


def test_batches_are_the_librarys() -> None:
    rng = random.Random(4)
    with (
        ServerProcess(None) as server,
        RawClient(server.endpoints[0]) as client,
        inventory.open() as twin,
    ):
        names = [f"SKU-{i}" for i in range(50)]
        skus = np.frombuffer(client.call(24, names, 128)[5], "<u4")
        places = np.frombuffer(client.call(25, LOCATIONS, 128)[5], "<u2")
        assert twin.sku_ids(names, create=True).tolist() != []
        assert places.tolist() == twin.location_ids(LOCATIONS, create=True).tolist() == [0, 1, 2]
        assert client.call(26, skus.tobytes())[5] == names
        assert client.call(27, places.tobytes())[5] == LOCATIONS
        twin_skus = twin.sku_ids(names)
        ids = [new_ids(rng, 200) for _ in range(3)]
        for op in [33, 32, 32, 36, 34, 35, 37, 40, 32, 38, 39, 41] * 4:
            rows = Rows(rng, op, rng.choice(ids))
            reply = client.ask(rows.request(skus))[0]
            assert reply[2] == 0
            assert reply[5] == batch(twin, rows.request(twin_skus)), op
        server.stop()


def test_answers_say_what_is_on_disk(client: RawClient) -> None:
    hello = client.call(HELLO, "test")
    assert hello[2] == 0
    assert hello[7:9] == [0, 0]
    assert hello[10] == [1 << 20, 4096, 16384, 4096, 16384, 4096, 16 << 20, 30_000]
    received = client.call(8, "TEE", "LON", 10)
    assert received[4] == 3  # epoch 1, on disk
    held = client.call(1, "cart-1", "TEE", None, 4)
    assert held[3] > received[3]
    assert held[6] == [[0, "LON", 4, 4, 0, 0, 0]]
    refused = client.call(1, "cart-2", "TEE", "LON", 7)
    assert (refused[2], refused[3], refused[4]) == (10, held[3], 3)  # it saw cart-1, and waited
    assert client.call(16, "TEE", "LON")[3] == held[3]
    assert client.call(BARRIER)[3:5] == [held[3], 3]
    assert client.call(BARRIER, held[3] + 1)[2:] == [52, held[3], 3, 1]
    assert client.call(16, "TEE", "LON", ask=[None, None, held[3]])[2] == 0
    assert client.call(16, "TEE", "LON", ask=[None, None, held[3] + 9])[2:] == [52, held[3], 3, 9]
    assert client.call(PING) == [1, client.correlation, 0, 0, 3]


def test_interval_mode_waits_for_the_disk_when_asked(data: Path) -> None:
    with (
        ServerProcess(data, "--durability", "interval", "--interval-ms", "20") as server,
        RawClient(server.endpoints[0]) as client,
    ):
        assert client.call(HELLO)[7:9] == [1, 20]
        asked = client.call(8, "TEE", "LON", 10, ask=[0])
        assert asked[4] & 1 == 1
        marks = [client.call(8, "TEE", "LON", 1)[4] & 1 for _ in range(20)]
        assert 0 in marks  # it does not wait by itself
        barrier = client.call(BARRIER)
        assert barrier[4] & 1 == 1
        server.stop()


def test_memory_mode_has_no_disk_to_wait_for() -> None:
    with ServerProcess(None) as server, RawClient(server.endpoints[0]) as client:
        refused = [1, 1, 8, [0], "TEE", "LON", 10]
        taken = [1, 2, 8, [2], "TEE", "LON", 5]
        replies = client.ask(taken, refused, taken)  # neighbours in one run
        assert [reply[2] for reply in replies] == [0, 30, 0]
        assert replies[1][5:] == ["ask.durability", 0, 2]
        assert client.call(16, "TEE", "LON")[5][0] == 10
        assert client.call(BARRIER)[4] & 1 == 0
        server.stop()


def test_carts_of_many_lines(client: RawClient) -> None:
    lines = [[f"SKU-{i}", None, 1] for i in range(4096)]
    for location in LOCATIONS:
        for at in range(0, 4096, 512):
            client.ask(*([1, i, 8, None, f"SKU-{i}", location, 1] for i in range(at, at + 512)))
    reply = client.call(2, "cart-1", lines)
    assert reply[2] == 0
    assert [line[0] for line in reply[6]] == list(range(4096))
    seen = client.call(18, "cart-1")
    assert [line[0] for line in seen[6]] == [line[0] for line in lines]
    refused = client.call(2, "cart-2", [[sku, None, 3] for sku, _, _ in lines])
    assert refused[2] == 10
    assert len(refused[5]) == 4096
    split = client.call(1, "cart-3", "SKU-7", None, 2)
    assert [line[1:4] for line in split[6]] == [["PAR", 1, 1], ["BER", 1, 1]]
    committed = client.call(3, "cart-1")
    assert len(committed[6]) == 4096  # more than an answer is given room for at first
    client.call(1, "cart-4", "SKU-9", None, 2)
    for at in range(0, 4096, 512):
        client.ask(*([1, i, 10, None, f"SKU-{i}", "LON", -1] for i in range(at, at + 512)))
    refused = client.call(4, "cart-1")
    assert (refused[2], len(refused[5])) == (10, 4096)  # a refusal tells all of them too


# ---- what is wrong -------------------------------------------------------------------------------


def test_vectors_that_are_refused(client: RawClient) -> None:
    for vector in VECTORS:
        if vector["refused"]:
            client.socket.send(bytes.fromhex(vector["request_hex"]))
            assert client.socket.poll(10_000), vector["name"]
            assert client.socket.recv().hex() == vector["reply_hex"], vector["name"]
    assert client.call(17, "TEE")[2] == 21  # nothing of it was applied


def test_a_broken_message_is_refused_as_a_whole(client: RawClient) -> None:
    good = [msgpack.packb([1, i, 8, None, "TEE", "LON", 10]) for i in range(4)]
    data = b"".join(good)
    for size in range(1, len(data)):
        if size % len(good[0]) == 0:
            continue
        replies = client.raw(data[:size])
        assert len(replies) == size // len(good[0]) + 1
        assert {(reply[2], reply[5], reply[7]) for reply in replies} == {(30, "message", size)}
    assert client.call(17, "TEE")[2] == 21
    assert client.raw(b"one", b"two")[0][2:] == [30, 0, 3, "message", None, None]
    assert client.raw(data, b"")[0][5] == "message"
    assert client.raw(b"")[0][5:] == ["message", 0, 0]
    assert client.call(17, "TEE")[2] == 21
    assert [reply[2] for reply in client.raw(data)] == [0, 0, 0, 0]


def test_garbage_is_answered_and_hurts_nobody(client: RawClient) -> None:
    rng = random.Random(5)
    seeds = [bytes.fromhex(vector["request_hex"]) for vector in VECTORS]
    for i in range(3_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(0, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        if i % 5 == 0:
            data = bytearray(rng.randbytes(rng.randint(0, 60)))
        client.socket.send(bytes(data))
    for _ in range(3_000):
        for reply in client.receive():
            assert reply[0] == 1
            assert reply[2] in inventory.errors.CODES
    assert client.call(PING)[2] == 0


def test_limits_of_a_message(server: ServerProcess, client: RawClient) -> None:
    ping = msgpack.packb([1, 7, PING])
    assert len(client.raw(ping * 4096)) == 4096
    replies = client.raw(ping * 4097)
    assert len(replies) == 4096
    assert {tuple(reply[1:]) for reply in replies} == {(7, 34, 0, 3, "requests", 4097, 4096)}
    with RawClient(server.endpoints[0]) as loud:  # its connection is closed, nobody else's
        loud.socket.send(b"\xc4" + bytes(1 << 20))
        assert not loud.socket.poll(300)
    assert client.call(PING)[2] == 0
    names = [f"L-{i}" for i in range(4097)]
    assert client.call(25, names, 128)[2:] == [34, 0, 3, "names", 4097, 4096]
    assert client.call(2, "cart", [["TEE", None, 1]] * 4097)[5:] == ["lines", 4097, 4096]
    assert client.call(39, bytes(16 * 16385))[5:] == ["reservation_ids", 16385, 16384]


def test_values_are_the_engines_to_refuse(client: RawClient) -> None:
    for values, path in (
        (["x" * 65, "TEE", None, 1], "reservation_id"),
        (["", "TEE", None, 1], "reservation_id"),
        (["a", "x" * 129, None, 1], "sku"),
        (["a", "TEE", "", 1], "location"),
        (["a", "TEE", None, 0], "qty"),
        (["a", "TEE", None, 1, 2_592_000_001], "ttl_ms"),
        (["a", "TEE", None, 1, None, "x" * 65], "account"),
        (["a", "TEE", None, 1, None, None, ""], "seller"),
    ):
        assert client.call(1, *values)[5] == path
    bad = msgpack.packb([1, 1, 16, None, "TXE", "LON"]).replace(b"TXE", b"T\xffE")
    assert client.raw(bad)[0][2:6] == [30, 0, 3, "sku"]
    assert client.call(16, "TEE", "x" * 65)[5:] == ["location", 65, 64]
    assert client.call(36, b"", "x" * 65)[5] == "account"
    assert client.call(24, ["ok", ""], 128)[5:] == ["names[1]", 0, 128]
    assert client.call(26, b"\xff\xff\xff\x00")[5] == "numbers[0]"


# ---- many at once --------------------------------------------------------------------------------


def test_pipelined(client: RawClient) -> None:
    client.call(8, "TEE", "LON", 1_000_000)
    for i in range(5_000):
        client.send([1, i, 1, None, f"cart-{i}", "TEE", "LON", 1])
    codes = {}
    for _ in range(5_000):
        (reply,) = client.receive()
        codes[reply[1]] = reply[2]
        assert reply[4] == 3
    assert codes == dict.fromkeys(range(5_000), 0)
    assert client.call(16, "TEE", "LON")[5][1] == 5_000


def test_several_endpoints_and_clients(data: Path) -> None:
    done: list[int] = []

    def work(endpoint: str, number: int) -> None:
        with RawClient(endpoint) as client:
            for i in range(200):
                taken = client.call(1, f"cart-{number}-{i}", "TEE", None, 1)
                assert taken[2] in (0, 10)
                if taken[2] == 0:
                    done.append(number)

    with ServerProcess(data, binds=2) as server:
        with RawClient(server.endpoints[0]) as client:
            client.call(8, "TEE", "LON", 700)
        threads = [
            threading.Thread(target=work, args=(server.endpoints[i % 2], i)) for i in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 700  # of 1,200
        server.stop()
    with inventory.open(data) as inv:
        assert inv.recovery.clean_shutdown
        assert inv.availability("TEE", "LON").held == 700
        assert inv.verify().ok


def test_beyond_the_room_it_is_busy_at_once(data: Path) -> None:
    with (
        ServerProcess(data, "--requests-in-flight-max", "4") as server,
        RawClient(server.endpoints[0]) as client,
    ):
        many = [[1, i, 8, None, "TEE", "LON", 1] for i in range(5)]
        assert {tuple(reply[2:]) for reply in client.ask(*many)} == {(51, 0, 3, 5)}
        assert client.call(17, "TEE")[2] == 21  # nothing was applied
        assert [reply[2] for reply in client.ask(*many[:4])] == [0] * 4
        said = server.stop()
    assert said[0]["busy"] == 5


def test_a_client_that_does_not_read(server: ServerProcess, client: RawClient) -> None:
    message = b"".join(msgpack.packb([1, i, PING]) for i in range(1_000))
    with RawClient(server.endpoints[0], queue_max=1) as mute:
        mute.socket.setsockopt(zmq.SNDTIMEO, 0)
        until = time.monotonic() + 4
        sent = 0
        while time.monotonic() < until:
            try:
                mute.socket.send(message)
                sent += 1
            except zmq.Again:
                time.sleep(0.001)
            if sent % 50 == 0:
                assert client.call(PING)[2] == 0
        assert client.call(8, "TEE", "LON", 1)[2] == 0
    said = server.stop()
    assert said[0]["dropped_stuck"] + said[0]["dropped_gone"] > 0


# ---- the end -------------------------------------------------------------------------------------


class Load:
    """Clients that reserve one unit each, and remember what was acknowledged."""

    def __init__(self, endpoints: list[str], clients: int) -> None:
        self.stop = threading.Event()
        self.asked: list[str] = []
        self.held: list[str] = []
        self.closed = 0
        self.threads = [
            threading.Thread(target=self.work, args=(endpoints[i % len(endpoints)], i))
            for i in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def work(self, endpoint: str, number: int) -> None:
        count = 0
        with RawClient(endpoint) as client:
            under_way: dict[int, list[str]] = {}
            while not self.stop.is_set():
                while len(under_way) < 32:
                    ids = [f"{number}-{count + i}" for i in range(4)]
                    under_way[count] = ids
                    self.asked.extend(ids)
                    client.send(
                        *([1, count + i, 1, None, ids[i], "TEE", None, 1] for i in range(4))
                    )
                    count += 4
                if not client.socket.poll(50):
                    continue
                replies = unpack_all(client.socket.recv())
                ids = under_way.pop(replies[0][1])
                for name, reply in zip(ids, replies, strict=True):
                    assert reply[2] in (0, 60), reply
                    if reply[2] == 0:
                        self.held.append(name)
                    else:
                        self.closed += 1

    def finish(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def check_ledger(data: Path, load: Load) -> int:
    """All that was acknowledged is there, nothing is there twice; how many are there."""
    with inventory.open(data) as inv:
        there = 0
        for name in load.asked:
            try:
                assert inv.reservation(name).units == 1
                there += 1
            except inventory.errors.UnknownReservation:
                assert name not in load.held
        assert inv.availability("TEE", "LON").held == there
        assert inv.verify().ok
    return there


def test_killed_under_load(tmp_path: Path) -> None:
    for kill in range(3):
        data = tmp_path / f"shop-{kill}.inv"
        with ServerProcess(data, binds=2) as server:
            with RawClient(server.endpoints[0]) as client:
                client.call(8, "TEE", "LON", 10_000_000)
            load = Load(server.endpoints, 4)
            time.sleep(0.4 + 0.3 * kill)
            server.kill()
            load.finish()
        assert len(load.held) > 100
        there = check_ledger(data, load)
        # All of it is sent again under the same ids, and acts once.
        with ServerProcess(data) as server, RawClient(server.endpoints[0]) as client:
            for name in load.asked:
                client.send([1, 1, 1, None, name, "TEE", None, 1])
            codes = [client.receive()[0][2] for _ in load.asked]
            assert codes.count(1) == there
            assert codes.count(0) == len(codes) - there
            assert client.call(16, "TEE", "LON")[5][1] == len(codes)
            server.kill()
        with inventory.open(data) as inv:
            assert inv.availability("TEE", "LON").held == len(load.asked)
            assert inv.verify().ok


def test_stopped_under_load(data: Path) -> None:
    with ServerProcess(data) as server:
        with RawClient(server.endpoints[0]) as client:
            client.call(8, "TEE", "LON", 10_000_000)
        load = Load(server.endpoints, 3)
        time.sleep(0.5)
        said = server.stop()
        load.finish()
    assert said[-1]["event"] == "stopped"
    assert load.closed > 0  # they were told
    assert len(load.held) > 100
    with inventory.open(data) as inv:
        assert inv.recovery.clean_shutdown
        assert inv.recovery.torn_bytes_dropped == 0
        assert inv.availability("TEE", "LON").held == len(set(load.held))
        assert inv.verify().ok


def test_ctrl_c_stops_it_too(data: Path) -> None:
    with ServerProcess(data) as server:
        server.process.send_signal(2)
        said, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert json.loads(said.splitlines()[-1])["event"] == "stopped"


# ---- starting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--memory", "--bind", "tcp://0.0.0.0:7707"], 3, "CURVE"),
        (["--memory", "--bind", "tcp://192.0.2.1:7707"], 3, "CURVE"),
        (["--memory", "--bind", "tcp://*:7707"], 3, "CURVE"),
        (["--memory", "--bind", "tcp://localhost:7707"], 3, "CURVE"),
        (["--memory", "--bind", "ipc:///tmp/x"], 3, "no endpoint"),
        (["--memory", "--bind", "tcp://127.0.0.1:70000"], 3, "no such port"),
        ([], 2, "--data"),
        (["--memory", "--data", "x.inv"], 2, "--data"),
        (["--memory", "--message-bytes-max", "1000"], 2, "message-bytes-max"),
    ],
)
def test_refused_at_the_start(options: list[str], status: int, words: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [str(COMMAND), "serve", *options], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert result.returncode == status
    assert words in result.stderr


def test_an_endpoint_that_is_taken(tmp_path: Path) -> None:
    with ServerProcess(None) as server:
        command = [str(COMMAND), "serve", "--memory", "--bind", server.endpoints[0]]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (result.returncode, "in use" in result.stderr) == (3, True), result.stderr


def test_a_store_that_is_open_elsewhere(data: Path) -> None:
    with inventory.open(data), pytest.raises(AssertionError, match="STORE_LOCKED"):
        ServerProcess(data)


def test_a_failed_store_ends_the_process_at_once() -> None:
    script = "from inventory_server import process; process._end_if_failed({})"
    run = [subprocess.run([sys.executable, "-c", script.format(code)]) for code in (61, 0)]
    assert [result.returncode for result in run] == [74, 0]


def test_libzmq_is_the_one_that_is_loaded() -> None:
    limits = {
        "version": "0",
        "message_bytes_max": 1 << 20,
        "silence_ms_max": 1,
        "requests_in_flight_max": 1,
        "reply_bytes_in_flight_max": 1 << 20,
    }
    with inventory.open() as inv:
        with pytest.raises(LibzmqError, match="not loaded"):
            Server(inv, "/nowhere/libzmq.so", **limits)
        with pytest.raises(LibzmqError, match="zmq_version"):
            Server(inv, sys.modules["inventory_server._loop"].__file__ or "", **limits)
