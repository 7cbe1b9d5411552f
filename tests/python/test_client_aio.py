# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio over real sockets: many calls in flight, cancelling, faults, closing."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
import uvloop
from client_proxy import Hostile, Proxy
from remote import KINDS, serve
from scale import SEED, scaled

import inventory
from inventory import OutcomeUnknown, StoreClosed, errors

Main = Callable[[], Coroutine[Any, Any, Any]]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    """Run a coroutine function on a loop of either kind, which must be left empty."""

    def run(main: Main) -> Any:
        async def whole() -> Any:
            try:
                return await asyncio.wait_for(main(), 60)
            finally:
                others = asyncio.all_tasks() - {asyncio.current_task()}
                assert not others, others

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(whole())

    return run


@pytest.fixture
def store() -> Iterator[inventory.Inventory]:
    with inventory.open() as inv:
        inv.receive("TEE", "LON", 1_000)
        yield inv


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(kind: str, store: inventory.Inventory) -> Iterator[Any]:
    with serve(kind, store) as served:
        yield served


def row_of(store: inventory.Inventory, sku: str) -> int:
    try:
        return store.availability(sku, "LON").on_hand
    except inventory.UnknownSku:
        return 0


def test_the_operations(store: inventory.Inventory, served: Any, run: Any) -> None:
    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:
            assert (await client.node()).lsn == store.metrics().lsn_appended
            change = await client.receive("MUG", "LON", 5, op_id="po-1")
            level = store.availability("MUG", "LON")
            asof = {"lsn": level.lsn, "now_unix_ms": level.now_unix_ms}
            assert msgspec.structs.replace(change.level, **asof) == level
            assert change.lsn == change.level.lsn <= level.lsn
            hold = await client.reserve("MUG", 2, reservation_id="cart-1")
            assert hold.lines == (await client.reservation("cart-1")).lines
            assert hold.lines == store.reservation("cart-1").lines
            with pytest.raises(inventory.InsufficientStock) as caught:
                await client.reserve_lines([("MUG", "LON", 4), ("TEE", None, 1)])
            assert caught.value.short[0].available_to_promise == 3
            assert (await client.commit("cart-1")).state == "ALLOCATED"
            found, there = await client.availability("MUG"), store.availability("MUG")
            assert (found.totals, len(found.levels)) == (there.totals, len(there.levels))
            assert (await client.within(1_000).ship("cart-1")).state == "SHIPPED"
            with pytest.raises(TypeError):
                await client.reserve("MUG", 1.5)  # type: ignore[arg-type]
            skus = await client.sku_ids([f"SKU-{n}" for n in range(5_000)], create=True)
            places = np.repeat(await client.location_ids(["LON"]), len(skus))
            codes = await client.receive_batch(skus, places, np.ones(len(skus), "int64"))
            assert not codes.any()
            assert (await client.availability_batch(skus, places))["on_hand"].sum() == 5_000
            assert await client.barrier() == store.metrics().lsn_appended
        assert client.closed

    run(main)


def test_calls_of_one_turn_reach_the_node_in_order(
    store: inventory.Inventory, served: Any, run: Any
) -> None:
    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:
            calls = []
            for n in range(300):
                calls += [client.receive(f"SKU-{n}", "LON", 1), client.issue(f"SKU-{n}", "LON", 1)]
            changes = await asyncio.gather(*calls)
            assert [change.level.on_hand for change in changes] == [1, 0] * 300

    run(main)


def test_many_calls_in_flight(store: inventory.Inventory, served: Any, run: Any) -> None:
    count = scaled(20_000)

    async def main() -> None:
        options = {"timeout_ms": 60_000, "in_flight_max": 5_000}
        async with inventory.aio.Client(served.endpoint, **options) as client:
            session = client._engine.session
            tasks = [asyncio.ensure_future(client.receive("TEE", "LON", 1)) for _ in range(count)]
            most = 0
            while not all(task.done() for task in tasks[-3:]):
                most = max(most, session._in_flight)
                await asyncio.sleep(0.005)
            lsns = [change.lsn for change in await asyncio.gather(*tasks)]
            assert len(set(lsns)) == count
            assert 0 < most <= 5_000
            assert session.call_count == session._in_flight == 0

    before = threading.active_count()
    run(main)
    assert threading.active_count() <= before + 1  # the loop's pool waited for libzmq's thread
    assert row_of(store, "TEE") == 1_000 + count


def test_an_idle_client_uses_no_processor(served: Any, run: Any) -> None:
    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:
            await client.barrier()
            before_s = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before_s < 0.1

    run(main)


# ---- cancelling ---------------------------------------------------------------------------------


@asynccontextmanager
async def silent(served: Any, **options: Any) -> AsyncIterator[tuple[Any, Proxy]]:
    """A client to whom nothing comes back, after it has met its node."""
    with Proxy(served.endpoint, SEED) as proxy:
        async with inventory.aio.Client(proxy.endpoint, **options) as client:
            await client.node()
            proxy.shares["drop"] = 1.0
            yield client, proxy


def test_a_cancelled_call_is_forgotten(served: Any, run: Any) -> None:
    async def main() -> None:
        async with silent(served) as (client, proxy):
            session = client._engine.session
            calls = [asyncio.ensure_future(client.receive("TEE", "LON", 1)) for _ in range(50)]
            await asyncio.sleep(0.05)
            assert session._in_flight == 50
            for call in calls:
                call.cancel()
            said = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in said} == {asyncio.CancelledError}
            assert session.call_count == session._in_flight == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.receive("TEE", "LON", 1, op_id="po-1")
            proxy.shares["drop"] = 0.0
            await client.receive("TEE", "LON", 1, op_id="po-1")
            assert session.call_count == session._in_flight == 0

    run(main)


def test_cancelled_before_it_is_sent_it_is_not_sent(
    kind: str, store: inventory.Inventory, served: Any, run: Any
) -> None:
    served.close()  # nobody is there yet

    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.receive("NONE", "LON", 1)
            with serve(kind, store, served.endpoint):
                await client.receive("TEE", "LON", 1)
                with pytest.raises(inventory.UnknownSku):
                    await client.availability("NONE")

    run(main)


def test_cancelling_at_every_moment(store: inventory.Inventory, served: Any, run: Any) -> None:
    """Calls cancelled at random: each was applied once or not at all, and none is left."""

    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:
            calls = []
            for n in range(scaled(500)):
                calls.append(asyncio.ensure_future(client.receive(f"SKU-{n}", "LON", 1)))
                if n % 7 == 0:
                    await asyncio.sleep(0.001 * (n % 3))
                if n % 3 == 0:
                    calls[n * 5 // 7].cancel()
            said = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(0.1)
            cancelled = 0
            for n, answer in enumerate(said):
                if isinstance(answer, asyncio.CancelledError):
                    cancelled += 1
                    assert row_of(store, f"SKU-{n}") <= 1
                else:
                    assert row_of(store, f"SKU-{n}") == 1
            assert cancelled
            assert client._engine.session.call_count == 0

    run(main)


# ---- deadlines and faults -----------------------------------------------------------------------


def test_silence_ends_at_the_deadline(served: Any, run: Any) -> None:
    async def main() -> None:
        async with silent(served, timeout_ms=300) as (client, _):
            begun_s = time.monotonic()
            with pytest.raises(OutcomeUnknown) as caught:
                await client.receive("TEE", "LON", 1)
            with pytest.raises(errors.Unreachable):
                await client.within(100).availability("TEE")
            assert 0.35 < time.monotonic() - begun_s < 2
            assert caught.value.op_id

    run(main)


def test_a_restarted_node_is_found_again(kind: str, store: inventory.Inventory, run: Any) -> None:
    async def main() -> None:
        served = serve(kind, store)
        async with inventory.aio.Client(served.endpoint, timeout_ms=20_000) as client:
            for n in range(1, 4):
                assert (await client.receive("TEE", "LON", 1)).level.on_hand == 1_000 + n
                await asyncio.to_thread(served.close)
                served = serve(kind, store, served.endpoint)
        served.close()

    run(main)


@pytest.mark.parametrize(
    "shares",
    [
        {"drop": 0.1},
        {"late": 0.3, "double": 0.05},
        {"kill": 0.05},
        {"drop": 0.03, "late": 0.1, "double": 0.02, "cut": 0.01, "kill": 0.02},
    ],
    ids=lambda shares: " ".join(shares),
)
def test_what_is_said_is_what_was_done(
    store: inventory.Inventory, served: Any, run: Any, shares: dict[str, float]
) -> None:
    count, timeout_s = scaled(400), 4.0

    async def main() -> None:
        with Proxy(served.endpoint, SEED, **shares) as proxy:
            options = {"timeout_ms": int(timeout_s * 1000), "attempt_ms": 150, "connections": 2}
            async with inventory.aio.Client(proxy.endpoint, **options) as client:
                free = asyncio.Semaphore(50)

                async def work(number: int) -> Any:
                    async with free:
                        begun_s = time.monotonic()
                        try:
                            return await client.receive(f"SKU-{number}", "LON", 1)
                        except inventory.InventoryError as error:
                            return error
                        finally:
                            assert time.monotonic() - begun_s < timeout_s + 2

                said = await asyncio.gather(*map(work, range(count)))
                proxy.shares = dict.fromkeys(proxy.shares, 0.0)
                await asyncio.sleep(0.4)
                for n, answer in enumerate(said):
                    known = row_of(store, f"SKU-{n}")
                    if isinstance(answer, OutcomeUnknown):
                        assert known <= 1
                        await client.receive(f"SKU-{n}", "LON", 1, op_id=answer.op_id)
                        assert row_of(store, f"SKU-{n}") == 1
                    elif isinstance(answer, inventory.InventoryError):
                        assert isinstance(answer, (errors.Unreachable, errors.BadRequest))
                        assert known == 0
                    else:
                        assert known == 1
                good = sum(not isinstance(answer, Exception) for answer in said)
                assert good > count // 2

    run(main)


def test_garbage_is_a_protocol_error(run: Any) -> None:
    async def main() -> None:
        with Hostile(lambda frame: [b"\xc1"]) as hostile:
            async with inventory.aio.Client(hostile.endpoint) as client:
                with pytest.raises(errors.ProtocolError):
                    await client.receive("TEE", "LON", 1)

    run(main)


# ---- closing ------------------------------------------------------------------------------------


def test_closing_ends_all_calls(served: Any, run: Any) -> None:
    async def main() -> None:
        async with silent(served) as (client, _):
            change = asyncio.ensure_future(client.receive("TEE", "LON", 1))
            read = asyncio.ensure_future(client.availability("TEE"))
            await asyncio.sleep(0.05)
            await client.close()
            await client.close()
            assert isinstance(
                (await asyncio.gather(change, return_exceptions=True))[0], OutcomeUnknown
            )
            with pytest.raises(StoreClosed):
                await read
            with pytest.raises(StoreClosed):
                await client.receive("TEE", "LON", 1)

    run(main)


def test_a_client_belongs_to_one_loop(served: Any) -> None:
    client = inventory.aio.Client(served.endpoint)

    async def main() -> None:
        await client.node()

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(main())

    async def close() -> None:
        await client.close()

    asyncio.run(close())


def test_a_forgotten_client_warns(served: Any, run: Any) -> None:
    files = len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        client = inventory.aio.Client(served.endpoint)
        await client.node()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client
            gc.collect()
        assert any("unclosed <inventory.aio.Client" in str(one.message) for one in caught)

    run(main)
    assert len(os.listdir("/proc/self/fd")) <= files


def test_a_loop_that_ends_first(served: Any) -> None:
    """No close(): the client is gone with its loop, and so are its descriptors."""
    files = len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        client = inventory.aio.Client(served.endpoint)
        await client.node()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(main())
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files


def test_a_forked_child_is_refused(served: Any, run: Any) -> None:
    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:
            await client.node()
            client._pid += 1  # as a child sees it
            assert client.closed
            with pytest.raises(StoreClosed, match="parent process"):
                await client.receive("TEE", "LON", 1)
            client._pid -= 1

    run(main)


def test_calls_leave_no_memory_behind(served: Any, run: Any) -> None:
    async def main() -> None:
        async with inventory.aio.Client(served.endpoint) as client:

            async def burst() -> int:
                await asyncio.gather(*[client.availability("TEE") for _ in range(scaled(3_000))])
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

            await burst()
            before_kib = await burst()
            for _ in range(5):
                after_kib = await burst()
            assert after_kib - before_kib < 20 * 1024

    run(main)
