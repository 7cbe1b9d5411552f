# SPDX-License-Identifier: Apache-2.0
"""The client for threads over real sockets: many callers, faults, hostile peers, closing, forks."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import pytest
from client_proxy import Hostile, Proxy, Rude
from remote import KINDS, serve
from scale import SEED, scaled

import inventory
from inventory import OutcomeUnknown, StoreClosed, errors
from inventory.client import NOT_REMOTE, AsyncOperations, Operations
from inventory.testing import MemoryStorage

HELLO = 48


@pytest.fixture
def store() -> Iterator[inventory.Inventory]:
    with inventory.open(storage=MemoryStorage()) as inv:
        inv.receive("TEE", "LON", 1_000)
        yield inv


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(kind: str, store: inventory.Inventory) -> Iterator[Any]:
    with serve(kind, store) as served:
        yield served


@pytest.fixture
def client(served: Any) -> Iterator[inventory.Client]:
    with inventory.Client(served.endpoint) as client:
        yield client


# ---- the surface --------------------------------------------------------------------------------


def remote_names() -> list[str]:
    return sorted(
        name
        for name in dir(inventory.Inventory)
        if not name.startswith("_") and name not in NOT_REMOTE
    )


@pytest.mark.parametrize("name", remote_names())
def test_every_method_has_the_librarys_signature(name: str) -> None:
    mine = inspect.getattr_static(inventory.Client, name)
    theirs = getattr(inventory.Inventory, name)
    if name == "closed":
        assert isinstance(mine, property)
        return
    here = list(inspect.signature(mine, follow_wrapped=False).parameters)
    if name != "close":
        built = inspect.signature(inventory.client._requests.OPERATIONS[name])  # type: ignore[attr-defined]
        wanted = list(inspect.signature(theirs).parameters.values())[1:]
        assert [(p.name, p.kind, p.default) for p in built.parameters.values()] == [
            (p.name, p.kind, p.default) for p in wanted
        ]
        assert inspect.iscoroutinefunction(getattr(AsyncOperations, name))
    assert here
    assert mine.__doc__


def test_what_is_not_remote_is_there_in_the_library_only() -> None:
    for name in NOT_REMOTE:
        assert hasattr(inventory.Inventory, name)
        assert not hasattr(inventory.Client, name)
        assert not hasattr(inventory.aio.Client, name)


def test_within_can_do_what_a_client_can(client: inventory.Client) -> None:
    assert client.within(500).reserve("TEE", 1).units == 1
    assert isinstance(client.within(500), Operations)
    with pytest.raises(inventory.BadRequest):
        client.within(0)


def test_node_says_who_answers(client: inventory.Client, store: inventory.Inventory) -> None:
    node = client.node()
    assert node.message_bytes_max == 1 << 20
    assert (node.epoch, node.lsn) == (store.recovery.epoch, store.metrics().lsn_appended)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"endpoint": 7}, TypeError),
        ({"endpoint": "no such thing"}, inventory.BadRequest),
        ({"endpoint": "carrier-pigeon://x"}, inventory.BadRequest),
        ({"timeout_ms": 0}, inventory.BadRequest),
        ({"timeout_ms": 1.5}, TypeError),
        ({"timeout_ms": True}, TypeError),
        ({"attempt_ms": -1}, inventory.BadRequest),
        ({"connections": 65}, inventory.BadRequest),
        ({"in_flight_max": 0}, inventory.BadRequest),
        ({"backoff_ms": 1 << 40}, inventory.BadRequest),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception]) -> None:
    before = threading.active_count()
    with pytest.raises(error):
        inventory.Client(**({"endpoint": "tcp://127.0.0.1:9"} | options))
    assert threading.active_count() == before


def test_importing_the_package_needs_no_sockets() -> None:
    code = (
        "import sys, inventory, inventory.aio\n"
        "assert not {'zmq', 'msgpack'} & set(sys.modules)\n"
        "sys.modules['zmq'] = None\n"
        "for owner in (inventory, inventory.aio):\n"
        "    try:\n"
        "        owner.Client\n"
        "    except ImportError as error:\n"
        "        assert \"pip install 'inventory-engine[client]'\" in str(error), error\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_old_msgpack_is_refused() -> None:
    code = (
        "import msgpack\nmsgpack.version = (1, 2, 3)\nimport inventory\n"
        "try:\n    inventory.Client\n"
        "except ImportError as error:\n    assert 'too old' in str(error)\n"
        "else:\n    raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- many callers -------------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 3])
def test_threads_share_a_client(store: inventory.Inventory, served: Any, connections: int) -> None:
    each = scaled(150)
    with (
        inventory.Client(served.endpoint, connections=connections) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        before = threading.active_count()

        def work(thread: int) -> int:
            for n in range(each):
                hold = client.reserve("TEE", 1, reservation_id=f"{thread}-{n}", ttl_ms=60_000)
                assert hold.reservation_id == f"{thread}-{n}"
                client.release(hold.reservation_id)
            return each

        assert sum(pool.map(work, range(16))) == 16 * each
        assert threading.active_count() <= before + 16
    level = store.availability("TEE", "LON")
    assert (level.held, level.on_hand) == (0, 1_000)


def test_a_client_starts_one_thread_and_leaves_none(served: Any) -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with inventory.Client(served.endpoint, connections=4) as client:
            client.receive("TEE", "LON", 1)
            assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= files + 1


def test_an_idle_client_is_woken_at_once(client: inventory.Client) -> None:
    client.node()
    begun_s = time.monotonic()
    for _ in range(20):
        client.barrier()
        time.sleep(0.01)
    assert time.monotonic() - begun_s < 5


def test_an_idle_client_uses_no_processor(client: inventory.Client) -> None:
    client.barrier()
    before_s = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before_s < 0.1


def test_batches_of_many_pieces(store: inventory.Inventory, client: inventory.Client) -> None:
    names = [f"SKU-{n}" for n in range(10_000)]
    skus = client.sku_ids(names, create=True)
    assert client.sku_names(skus) == names
    places = np.repeat(client.location_ids(["LON"]), len(skus))
    units = np.arange(1, len(skus) + 1)
    assert not client.receive_batch(skus, places, units).any()
    found = client.availability_batch(skus, places)
    assert found["on_hand"].tolist() == units.tolist()
    assert found.dtype == store.availability_batch(skus, places).dtype
    assert (found == store.availability_batch(skus, places)).all()
    bad = [*names[:9_000], ""]
    for asked in (client, store):
        with pytest.raises(inventory.BadRequest) as caught:
            asked.sku_ids(bad)
        assert caught.value.field == "names[9000]"


# ---- deadlines and restarts ---------------------------------------------------------------------


def test_nobody_there_is_unreachable() -> None:
    with inventory.Client("tcp://127.0.0.1:9", timeout_ms=200) as client:
        begun_s = time.monotonic()
        with pytest.raises(errors.Unreachable, match=r"tcp://127.0.0.1:9 to receive"):
            client.receive("TEE", "LON", 1)
        assert 0.15 < time.monotonic() - begun_s < 2


def test_a_client_may_be_there_before_its_node(kind: str, store: inventory.Inventory) -> None:
    with serve(kind, store) as served:
        endpoint = served.endpoint
    with (
        inventory.Client(endpoint, timeout_ms=20_000) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(client.receive, "TEE", "LON", 1)
        time.sleep(0.1)
        assert not asked.done()
        with serve(kind, store, endpoint):
            assert asked.result(20).level.on_hand == 1_001


def test_a_node_that_is_restarted_is_found_again(kind: str, store: inventory.Inventory) -> None:
    served = serve(kind, store)
    endpoint = served.endpoint
    # By the loss of the connection, not because a node that is silent is asked again.
    with inventory.Client(endpoint, timeout_ms=20_000, attempt_ms=60_000) as client:
        for n in range(1, 6):
            assert client.receive("TEE", "LON", 1).level.on_hand == 1_000 + n
            served.close()
            served = serve(kind, store, endpoint)
    served.close()


def test_a_call_under_way_outlives_its_connection(store: inventory.Inventory, served: Any) -> None:
    """It is asked again at once, and not only when the node has been silent for long."""
    with (
        Proxy(served.endpoint, 1) as proxy,
        inventory.Client(proxy.endpoint, timeout_ms=20_000, attempt_ms=60_000) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.node()
        proxy.shares["drop"] = 1.0
        asked = pool.submit(client.receive, "TEE", "LON", 1)
        time.sleep(0.2)
        proxy.shares["drop"] = 0.0
        proxy.kill()
        assert asked.result(10).level.on_hand == 1_001


def test_an_unknown_outcome_over_the_wire(store: inventory.Inventory, served: Any) -> None:
    with (
        Proxy(served.endpoint, 1) as proxy,
        inventory.Client(proxy.endpoint, timeout_ms=300) as client,
    ):
        client.node()
        proxy.shares["drop"] = 1.0
        with pytest.raises(OutcomeUnknown) as caught:
            client.receive("TEE", "LON", 1)
        proxy.shares["drop"] = 0.0
        assert caught.value.op_id is not None
        again = client.within(10_000).receive("TEE", "LON", 1, op_id=caught.value.op_id)
        assert again.level.on_hand == 1_001
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (copy.op_id, str(copy)) == (caught.value.op_id, str(caught.value))


FAULTS: dict[str, dict[str, float]] = {
    "none": {},
    "dropped": {"drop": 0.1},
    "late and out of order": {"late": 0.3},
    "doubled": {"double": 0.1},
    "cut": {"cut": 0.03},
    "killed": {"kill": 0.05},
    "all": {"drop": 0.03, "late": 0.1, "double": 0.02, "cut": 0.01, "kill": 0.02},
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_said_is_what_was_done(store: inventory.Inventory, served: Any, name: str) -> None:
    """Each call has a SKU of its own, so its row tells how often it was applied."""
    deadline_s = 3.0
    with (
        Proxy(served.endpoint, SEED, **FAULTS[name]) as proxy,
        inventory.Client(
            proxy.endpoint, timeout_ms=int(deadline_s * 1000), attempt_ms=150, connections=2
        ) as client,
        ThreadPoolExecutor(16) as pool,
    ):

        def work(number: int) -> tuple[str, inventory.InventoryError | None]:
            sku, begun_s = f"{name}-{number}", time.monotonic()
            try:
                client.receive(sku, "LON", 1)
                error = None
            except inventory.InventoryError as found:
                error = found
            assert time.monotonic() - begun_s < deadline_s + 2
            return sku, error

        said = dict(pool.map(work, range(scaled(400))))
        proxy.shares = dict.fromkeys(proxy.shares, 0.0)
        time.sleep(0.4)  # what was late arrives
        known = {sku: row_of(store, sku) for sku in said}
        for sku, error in said.items():
            if error is None:
                assert known[sku] == 1
            elif isinstance(error, OutcomeUnknown):
                assert known[sku] <= 1
                client.receive(sku, "LON", 1, op_id=error.op_id)
                assert row_of(store, sku) == 1
            else:
                # BadRequest: a message that was cut, each time.
                assert isinstance(error, (errors.Unreachable, errors.BadRequest))
                assert known[sku] == 0
    good = sum(error is None for error in said.values())
    assert good > len(said) // 2
    assert name != "none" or good == len(said)
    assert name != "killed" or proxy.kills


def row_of(store: inventory.Inventory, sku: str) -> int:
    try:
        return store.availability(sku, "LON").on_hand
    except inventory.UnknownSku:
        return 0


# ---- hostile peers ------------------------------------------------------------------------------


def good_hello(frame: bytes) -> bytes | None:
    unpacker = msgpack.Unpacker(None, max_buffer_size=1 << 20)
    unpacker.feed(frame)
    request = unpacker.unpack()
    if request[2] != HELLO:
        return None
    rest = ["1.0", bytes(16), 0, 0, 5, [1 << 20] * 8, []]
    return msgpack.packb([1, request[1], 0, 9, 3, *rest])


HOSTILE: dict[str, Callable[[bytes], list[bytes]]] = {
    "garbage": lambda frame: [b"\xc1\xc1\xc1"],
    "two frames": lambda frame: [b"\x01", b"\x02"],
    "a good answer and more": lambda frame: [good_hello(frame) or b"\x01", b"more"],
    "many frames": lambda frame: [b"x"] * 1_000,
    "its own words": lambda frame: [frame],
    "an empty frame": lambda frame: [b""],
    "a huge array": lambda frame: [b"\xdd\xff\xff\xff\xff"],
    "nested arrays": lambda frame: [b"\xdd\x00\x00\xff\xff" * 10_000],
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_peer_is_a_protocol_error(name: str, known: bool) -> None:
    def answer(frame: bytes) -> list[bytes]:
        hello = good_hello(frame) if known else None
        return [hello] if hello is not None else HOSTILE[name](frame)

    with Hostile(answer) as hostile, inventory.Client(hostile.endpoint) as client:
        begun_s = time.monotonic()
        with pytest.raises(errors.ProtocolError):
            client.receive("TEE", "LON", 1)
        assert time.monotonic() - begun_s < 3


def test_a_message_beyond_the_limit_is_not_read() -> None:
    """libzmq closes the connection: it is asked again until the deadline, and memory stays."""
    import resource

    big = b"\xc4" * (20 << 20)

    def answer(frame: bytes) -> list[bytes]:
        hello = good_hello(frame)
        return [hello] if hello is not None else [big]

    with Hostile(answer) as hostile, inventory.Client(hostile.endpoint, timeout_ms=800) as client:
        client.node()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(OutcomeUnknown):
            client.receive("TEE", "LON", 1)
        # The hostile peer lives in this process too, and holds what it could not send.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 200 * 1024


@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\xff" * 100, b"SSH-2.0-x\r\n"]
)
def test_a_port_that_is_no_node(piece: bytes) -> None:
    with Rude(piece) as rude, inventory.Client(rude.endpoint, timeout_ms=600) as client:
        with pytest.raises((errors.Unreachable, errors.ProtocolError)):
            client.receive("TEE", "LON", 1)
        assert rude.guests < 100  # it is not tried without pause


# ---- closing, interrupting, forking -------------------------------------------------------------


def test_closing_ends_the_calls_of_other_threads(served: Any) -> None:
    with Proxy(served.endpoint, 1) as proxy:
        client = inventory.Client(proxy.endpoint)
        client.node()
        proxy.shares["drop"] = 1.0
        with ThreadPoolExecutor(2) as pool:
            change = pool.submit(client.receive, "TEE", "LON", 1)
            read = pool.submit(client.availability, "TEE")
            time.sleep(0.2)
            begun_s = time.monotonic()
            client.close()
            client.close()
            assert isinstance(change.exception(5), OutcomeUnknown)
            assert isinstance(read.exception(5), StoreClosed)
            assert time.monotonic() - begun_s < 1
    assert client.closed
    for call in (lambda: client.receive("TEE", "LON", 1), lambda: client.node()):
        with pytest.raises(StoreClosed):
            call()


def test_closing_while_threads_begin_calls(served: Any) -> None:
    """Every call ends, whichever moment the client is closed at."""
    for _ in range(scaled(20)):
        client = inventory.Client(served.endpoint)
        begun = threading.Event()

        def work(client: inventory.Client = client, begun: threading.Event = begun) -> bool:
            try:
                while True:
                    client.receive("TEE", "LON", 1)
                    begun.set()
            except (StoreClosed, OutcomeUnknown):
                return True

        with ThreadPoolExecutor(4) as pool:
            ended = [pool.submit(work) for _ in range(4)]
            assert begun.wait(10)
            client.close()
            assert all(end.result(10) for end in ended)


def test_a_forgotten_client_warns_and_lets_go(served: Any) -> None:
    threads = threading.active_count()
    client = inventory.Client(served.endpoint)
    client.node()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [str(warning.message)[:28] for warning in caught] == ["unclosed <inventory.Client o"]
    assert threading.active_count() == threads


def test_an_interrupted_call_is_forgotten(served: Any) -> None:
    with (
        Proxy(served.endpoint, 1) as proxy,
        inventory.Client(proxy.endpoint, timeout_ms=60_000, attempt_ms=60_000) as client,
    ):
        client.node()
        proxy.shares["drop"] = 1.0
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            client.receive("TEE", "LON", 1)
        timer.join()
        proxy.shares["drop"] = 0.0
        assert client.receive("TEE", "LON", 1).level.on_hand >= 1_001
        assert client._loop._engine.session.call_count == 0


def test_a_forked_child_is_refused_and_makes_its_own(client: inventory.Client) -> None:
    client.receive("TEE", "LON", 1)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not see the child
        said = b"no error"
        try:
            assert client.closed
            client.close()
            client.receive("TEE", "LON", 1)
        except StoreClosed as error:
            said = str(error).encode()
        except BaseException as error:
            said = repr(error).encode()
        os.write(writer, said)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert b"parent process" in os.read(reader, 1_000)
    os.close(reader)
    os.close(writer)
    assert client.receive("TEE", "LON", 1).level.on_hand == 1_002


def test_a_process_may_end_with_an_open_client(served: Any) -> None:
    code = (
        "import inventory, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        f"client = inventory.Client({served.endpoint!r})\n"
        "print(client.receive('TEE', 'LON', 1).level.on_hand)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert (said.stdout, said.stderr) == ("1001\n", "")
