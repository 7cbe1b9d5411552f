# SPDX-License-Identifier: Apache-2.0
"""inventory.aio: same operations, same answers, each only once it is safe; nothing blocks or leaks.

Every test of behaviour runs on asyncio's own loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from held_disk import HeldDisk
from scale import scaled

import inventory
from inventory import (
    InsufficientStock,
    State,
    StoreClosed,
    UnknownReservation,
    UnknownSku,
    aio,
    errors,
)
from inventory.testing import ManualClock, MemoryStorage

try:
    import uvloop
except ImportError:  # an optional test dependency
    uvloop = None
else:
    uvloop.new_event_loop().close()  # the first one opens descriptors for the process's life

Main = Callable[[], Coroutine[Any, Any, Any]]
Run = Callable[[Main], Any]

START_UNIX_MS = 1_760_000_000_000
SEGMENT_BYTES = 256 * 1024
PATIENCE_S = 60.0  # for what happens at once; only a broken test waits so long


def new_asyncio_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def new_uvloop_loop() -> asyncio.AbstractEventLoop:
    if uvloop is None:
        pytest.skip("uvloop is not installed")
    return uvloop.new_event_loop()


LOOPS = {"asyncio": new_asyncio_loop, "uvloop": new_uvloop_loop}


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


@pytest.fixture
def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    """Run a coroutine function on a loop of its own; what is left over fails the test."""
    return lambda main: run_on(new_loop(), main)


def run_on(loop: asyncio.AbstractEventLoop, main: Main) -> Any:
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def end() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await loop.shutdown_default_executor()

    try:
        result = loop.run_until_complete(asyncio.wait_for(main(), PATIENCE_S))
        loop.run_until_complete(end())
        assert complaints == []
        return result
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No thread, descriptor or coroutine outlives its test."""
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    gc.collect()  # "never awaited" and "was destroyed but it is pending" come out here
    assert set(threading.enumerate()) <= threads
    assert open_descriptors() <= descriptors


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def disk() -> Iterator[HeldDisk]:
    disk = HeldDisk()
    yield disk
    disk.release()


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ---- the same face ------------------------------------------------------------------------------


OPERATIONS = [
    name
    for name, value in inspect.getmembers(inventory.Inventory, callable)
    if not name.startswith("_")
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_a_coroutine_function_of_the_same_signature(name: str) -> None:
    ours, theirs = getattr(aio.Inventory, name), getattr(inventory.Inventory, name)
    walks = name in ("reservations", "rows")
    if name == "events":  # its iterator is a class, which remembers what a cancelled wait asked for
        assert {"__aiter__", "__anext__"} <= set(vars(aio.Events))
    else:
        assert inspect.isasyncgenfunction(ours) if walks else inspect.iscoroutinefunction(ours)
    if name == "close":
        assert list(inspect.signature(ours).parameters) == ["self"]
        return
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__doc__ == theirs.__doc__


def test_open_has_the_arguments_of_the_blocking_one() -> None:
    ours, theirs = inspect.signature(aio.open), inspect.signature(inventory.open)
    assert ours.parameters == theirs.parameters


def test_there_is_nothing_more_or_less() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(aio.Inventory) == public(inventory.Inventory)


async def everyday(call: Callable[..., Awaitable[Any]]) -> list[Any]:
    """Every operation, good and refused; `call(name, ...)` runs one. What came back, in order."""
    seen: list[Any] = []

    async def note(name: str, *args: Any, **options: Any) -> None:
        try:
            seen.append(await call(name, *args, **options))
        except (errors.InventoryError, TypeError) as error:
            seen.append((type(error), str(error)))

    await note("receive", "TEE", "LON", 10, op_id="po-1")
    await note("receive", "TEE", "LON", 10, op_id="po-1")
    await note("receive", "TEE", "PAR", 4)
    await note("receive", "MUG", "LON", 5)
    await note("reserve", "TEE", 2, location="LON", reservation_id="cart-1", ttl_ms=60_000)
    await note("reserve", "TEE", 2, location="LON", reservation_id="cart-1", ttl_ms=60_000)
    await note("reserve", "TEE", 3, location="LON", reservation_id="cart-1", ttl_ms=60_000)
    await note("reserve", "TEE", 100, reservation_id="cart-2")
    await note("reserve", "TEE", 2.5)
    await note("reserve", "TEE", 0)
    await note("reserve", "TEE", 1, mode="best_effort")
    await note("reserve_lines", [("TEE", None, 12), ("MUG", "LON", 1)], reservation_id="cart-3")
    await note("reserve_lines", iter([("MUG", "LON", 1)]), reservation_id="cart-4")
    await note("reserve_lines", lines=[("MUG", "LON", 100)], reservation_id="cart-5")
    await note("reserve_lines", 5)
    await note("reserve_lines", [("TEE", None)])
    await note("extend", "cart-1", ttl_ms=90_000)
    await note("commit", "cart-1", lines=iter([("TEE", "LON", 1)]), final=False, op_id="c-1")
    await note("commit", "cart-1")
    await note("ship", "cart-1", lines=[("TEE", "LON", 1)], op_id="s-1")
    await note("cancel", "cart-1")
    await note("release", "cart-3")
    await note("release", "cart-3")
    await note("release", "nobody")
    await note("commit", "nobody")
    await note("issue", "MUG", "LON", 1, op_id="i-1")
    await note("adjust", "MUG", "LON", -1, reason="damage")
    await note("set_on_hand", "MUG", "LON", 7, if_on_hand=3)
    await note("set_on_hand", "MUG", "LON", 7, if_on_hand=1)
    await note("set_policy", "MUG", "LON", safety_stock=2)
    await note("availability", "TEE", "LON")
    await note("availability", "TEE")
    await note("availability", "TEE", relaxed=True)
    await note("availability", "NONE", "LON")
    await note("availability", "T" * 129)
    await note("reservation", "cart-1")
    await note("reservation", "nobody")
    await note("verify")
    return seen


@pytest.mark.parametrize("kept", ["on a disk", "in memory"])
def test_answers_are_those_of_the_blocking_store(run: Run, kept: str) -> None:
    def options() -> dict[str, Any]:
        storage = {"storage": MemoryStorage(), "segment_bytes": SEGMENT_BYTES}
        clock = ManualClock(START_UNIX_MS)
        return {"clock": clock} | (storage if kept == "on a disk" else {})

    with inventory.open(**options()) as inv:

        async def blocking(name: str, *args: Any, **options: Any) -> Any:
            return getattr(inv, name)(*args, **options)

        expected = asyncio.run(everyday(blocking))

    async def main() -> list[Any]:
        async with aio.open(**options()) as inv:
            seen = await everyday(lambda name, *a, **k: getattr(inv, name)(*a, **k))
            assert await inv.barrier() == (await inv.metrics()).lsn_appended
            return seen

    assert run(main) == expected


def test_opening_by_await_and_by_with(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        opening = aio.open(tmp_path / "shop", segment_bytes=4 << 20)
        inv = await opening
        assert inv.recovery.created
        assert not inv.closed
        assert "open" in repr(inv)
        with pytest.raises(RuntimeError, match="opened already"):
            await opening
        with pytest.raises(errors.StoreLocked):
            await aio.open(tmp_path / "shop")
        await inv.receive("TEE", "LON", 1)
        await inv.close()
        await inv.close()
        assert inv.closed
        assert "closed" in repr(inv)
        assert inv.recovery.created
        for call in (inv.reserve("TEE", 1), inv.verify(), inv.availability("TEE"), inv.barrier()):
            with pytest.raises(StoreClosed):
                await call
        async with aio.open(tmp_path / "shop") as inv:
            assert inv.recovery.clean_shutdown
            with pytest.raises(UnknownSku):
                await inv.availability("MUG", "LON")
        assert inv.closed

    run(main)


def test_an_error_in_the_block_closes_the_store(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with aio.open() as inv:
                raise KeyError
        assert inv.closed

    run(main)


def test_bad_options_are_told_when_opening(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(errors.BadRequest, match="durability"):
            await aio.open(durability="sometimes")  # type: ignore[arg-type]

    run(main)


def test_interval_and_memory_modes_answer_at_once(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.open(tmp_path / "shop", durability="interval", interval_ms=10_000) as inv:
            await inv.receive("TEE", "LON", 10)
            hold = await inv.reserve("TEE", 1)
            assert await inv.barrier() >= hold.lsn
        async with aio.open() as inv:
            await inv.receive("TEE", "LON", 10)
            assert (await inv.reserve("TEE", 1)).state is State.HELD

    run(main)


# ---- safe before answered -----------------------------------------------------------------------


def held_options() -> dict[str, Any]:
    return {"storage": MemoryStorage(), "segment_bytes": SEGMENT_BYTES}


async def open_held(disk: HeldDisk, **options: Any) -> aio.Inventory:
    with disk.holding():
        return await aio.open(**options)


@asynccontextmanager
async def held_store(disk: HeldDisk, **options: Any) -> AsyncIterator[aio.Inventory]:
    inv = await open_held(disk, **options)
    try:
        yield inv
    finally:
        disk.release()  # closing waits for the log writer
        await inv.close()


def test_nothing_is_answered_before_it_is_durable(run: Run, disk: HeldDisk) -> None:
    """Changes, refusals and reads alike: what they saw is not safe yet."""

    async def main() -> None:
        async with held_store(disk, **held_options()) as inv:
            ended: list[str] = []

            async def call(name: str, running: Awaitable[Any]) -> Any:
                try:
                    return await running
                finally:
                    ended.append(name)

            tasks = [
                asyncio.ensure_future(call(name, running))
                for name, running in {
                    "receive": inv.receive("TEE", "LON", 10, op_id="po-1"),
                    "replay": inv.receive("TEE", "LON", 10, op_id="po-1"),
                    "reserve": inv.reserve("TEE", 4, reservation_id="cart-1"),
                    "refusal": inv.reserve("TEE", 7, reservation_id="cart-2"),
                    "row": inv.availability("TEE", "LON"),
                    "sku": inv.availability("TEE"),
                    "unknown": inv.commit("nobody"),
                    "reservation": inv.reservation("cart-1"),
                }.items()
            ]
            await turns(3)
            assert (await inv.availability("TEE", "LON", relaxed=True)).held == 4
            with pytest.raises(errors.BadRequest):
                await inv.reserve("TEE", 0)  # saw nothing: told at once
            await turns(100)
            assert ended == ["unknown"] or ended == []
            found = await inv.metrics()
            assert found.lsn_durable < found.lsn_appended
            disk.release()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [name for name in ended if name != "unknown"] == [
                "receive", "replay", "reserve", "refusal", "row", "sku", "reservation",
            ]  # fmt: skip
            assert answers[1].replayed
            assert isinstance(answers[3], InsufficientStock)
            assert answers[4].available_to_promise == 6
            assert isinstance(answers[6], UnknownReservation)
            assert (await inv.metrics()).lsn_durable >= max(answers[0].lsn, answers[2].lsn)

    run(main)


def test_each_answer_is_durable_when_it_is_given(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.open(tmp_path / "shop", segment_bytes=4 << 20) as inv:
            await inv.receive("TEE", "LON", 1_000_000)
            lsns: list[int] = []

            async def buy(number: int) -> None:
                hold = await inv.reserve("TEE", 1, reservation_id=f"cart-{number}")
                if number % 50 == 0:
                    assert (await inv.metrics()).lsn_durable >= hold.lsn
                lsns.append(hold.lsn)

            await asyncio.gather(*(buy(number) for number in range(5_000)))
            assert lsns == sorted(lsns)
            assert len(set(lsns)) == 5_000

    run(main)


# ---- cancelling ---------------------------------------------------------------------------------


def test_cancelling_does_not_undo_what_was_decided(run: Run, disk: HeldDisk) -> None:

    async def main() -> None:
        async with held_store(disk, **held_options()) as inv:
            first = asyncio.ensure_future(inv.receive("TEE", "LON", 10))
            task = asyncio.ensure_future(inv.reserve("TEE", 4, reservation_id="cart-1"))
            refused = asyncio.ensure_future(inv.reserve("TEE", 40))
            await turns(3)
            task.cancel()
            refused.cancel()
            for cancelled in (task, refused):
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(inv.reserve("TEE", 1, reservation_id="cart-2"), 0.01)
            disk.release()
            await first
            assert (await inv.reserve("TEE", 4, reservation_id="cart-1")).replayed
            assert (await inv.reservation("cart-2")).state is State.HELD

    run(main)


def fill_window(inv: aio.Inventory) -> list[asyncio.Task[Any]]:
    """More calls than the log takes before a sync; the last of them are not decided yet."""
    return [
        asyncio.ensure_future(inv.reserve("TEE", 1, reservation_id=f"cart-{number}"))
        for number in range(3_000)
    ]


def test_a_busy_store_keeps_calls_in_order(run: Run, disk: HeldDisk) -> None:
    """The log takes no more until it is synced: calls wait in their order; can be withdrawn."""

    async def main() -> None:
        async with held_store(disk, **held_options()) as inv:
            received = asyncio.ensure_future(inv.receive("TEE", "LON", 3_001))
            await turns(2)
            tasks = fill_window(inv)
            lines = iter([("TEE", "LON", 1)])
            cart = asyncio.ensure_future(inv.reserve_lines(lines, reservation_id="cart"))
            bad = asyncio.ensure_future(inv.reserve("TEE", -1))
            row = asyncio.ensure_future(inv.availability("TEE", "LON"))
            many = [("TEE", "LON", 1)] * 300
            await turns(5)
            decided = (await inv.metrics()).reserved_ok
            assert 0 < decided < 3_000
            await turns(50)
            assert (await inv.metrics()).reserved_ok == decided
            assert not any(task.done() for task in [received, cart, bad, row, *tasks])
            long = asyncio.ensure_future(inv.reserve_lines(many, reservation_id="long"))
            tasks[-1].cancel()
            tasks[0].cancel()
            await turns(2)
            disk.release()
            holds = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(holds[0], asyncio.CancelledError)
            assert isinstance(holds[-1], asyncio.CancelledError)
            lsns = [hold.lsn for hold in holds[1:-1]]
            assert lsns == sorted(lsns)
            assert lsns[-1] < (await cart).lsn
            with pytest.raises(errors.BadRequest):
                await bad
            assert (await row).held == decided
            assert (await inv.reservation("cart-0")).state is State.HELD  # was decided: it stands
            with pytest.raises(UnknownReservation):
                await inv.reservation("cart-2999")  # was not: it is withdrawn
            with pytest.raises(InsufficientStock):
                await long
            assert (await inv.verify()).ok

    run(main)


def test_cancelling_the_opening_closes_the_store_again(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "shop"

    async def main() -> None:
        for number in range(10):
            opening = asyncio.ensure_future(aio.open(path, segment_bytes=4 << 20)._open())
            await asyncio.sleep(0.002 * number)
            opening.cancel()
            try:
                inv = await opening
            except asyncio.CancelledError:
                pass
            except errors.StoreLocked:  # the one before is not closed again yet
                pass
            else:
                await inv.close()
        loop = asyncio.get_running_loop()
        await loop.shutdown_default_executor()  # the last opening has ended too

    run(main)
    inventory.open(path).close()


# ---- closing, failing, ending -------------------------------------------------------------------


def test_closing_answers_what_is_in_flight(run: Run, disk: HeldDisk) -> None:

    async def main() -> None:
        async with held_store(disk, **held_options()) as inv:
            await_all = [asyncio.ensure_future(inv.receive("TEE", "LON", 3_000))]
            await turns(2)
            await_all += fill_window(inv)
            await turns(3)
            decided = (await inv.metrics()).reserved_ok
            disk.release()
            await asyncio.gather(inv.close(), inv.close())
            answers = await asyncio.gather(*await_all, return_exceptions=True)
            good = [answer for answer in answers[1:] if isinstance(answer, inventory.Reservation)]
            closed = [answer for answer in answers if isinstance(answer, StoreClosed)]
            assert len(good) >= decided
            assert len(good) + len(closed) == 3_000

    run(main)


def test_a_power_cut_loses_no_answer(run: Run) -> None:
    """What was answered is there afterwards; what was not raises StoreClosed."""
    storage = MemoryStorage()

    async def main() -> tuple[list[str], int]:
        inv = await aio.open(storage=storage, segment_bytes=SEGMENT_BYTES)
        await inv.receive("TEE", "LON", 100_000)
        answered: list[str] = []
        refused = 0

        async def buy(number: int) -> None:
            nonlocal refused
            try:
                hold = await inv.reserve("TEE", 1, reservation_id=f"cart-{number}")
                answered.append(hold.reservation_id)
            except StoreClosed:
                refused += 1

        tasks = [asyncio.ensure_future(buy(number)) for number in range(20_000)]
        await until(lambda: len(answered) > 100)
        storage.power_cut(seed=7)
        await asyncio.gather(*tasks)
        await inv.close()
        return answered, refused

    answered, refused = run(main)
    assert len(answered) + refused == 20_000
    with inventory.open(storage=storage) as inv:
        for reservation_id in answered:
            assert inv.reservation(reservation_id).state is State.HELD
        report = inv.verify()
        assert report.ok, report.problems
        assert report.held >= len(answered)


def test_what_a_crash_loses_was_never_answered(run: Run, disk: HeldDisk) -> None:
    storage = MemoryStorage()

    async def main() -> None:
        async with held_store(disk, storage=storage, segment_bytes=SEGMENT_BYTES) as inv:
            tasks = [asyncio.ensure_future(inv.receive("TEE", "LON", 1)) for _ in range(100)]
            read = asyncio.ensure_future(inv.availability("TEE", "LON"))
            await turns(3)
            assert (await inv.metrics()).lsn_appended > (await inv.metrics()).lsn_durable
            disk.lose()
            storage.power_cut()
            for answer in await asyncio.gather(read, *tasks, return_exceptions=True):
                assert isinstance(answer, StoreClosed)

    run(main)
    with inventory.open(storage=storage) as inv, pytest.raises(UnknownSku):
        inv.availability("TEE", "LON")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc/self/fd")
def test_a_failed_sync_reaches_every_await(run: Run, tmp_path: Path, disk: HeldDisk) -> None:

    async def main() -> None:
        inv = await open_held(disk, path=tmp_path / "shop", segment_bytes=4 << 20)
        tasks = [asyncio.ensure_future(inv.receive("TEE", "LON", 1)) for _ in range(1_000)]
        await turns(3)
        read_end, write_end = os.pipe()
        for fd in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{fd}")
            except FileNotFoundError:  # the listing's own
                continue
            if os.path.basename(target).startswith("wal-"):
                os.dup2(write_end, int(fd), inheritable=False)  # a pipe can't be synced
        disk.release()
        for answer in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(answer, errors.StoreFailed)
        with pytest.raises(errors.StoreFailed):
            await inv.receive("TEE", "LON", 1)
        with pytest.raises(errors.StoreFailed):
            await inv.close()
        os.close(read_end)
        os.close(write_end)

    run(main)


def test_a_loop_that_stops_and_goes_on(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    loop = new_loop()
    inv = loop.run_until_complete(aio.open(tmp_path / "shop", segment_bytes=4 << 20)._open())
    task = loop.create_task(inv.receive("TEE", "LON", 1))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.run_until_complete(task).level.on_hand == 1
    loop.run_until_complete(inv.close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_a_store_outlives_loops_closed_with_calls_in_flight(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, disk: HeldDisk
) -> None:
    inv: aio.Inventory | None = None

    async def leave() -> None:
        nonlocal inv
        if inv is None:
            inv = await open_held(disk, path=tmp_path / "shop", segment_bytes=4 << 20)
        tasks = [asyncio.ensure_future(inv.receive("TEE", "LON", 1)) for _ in range(100)]
        await turns(3)
        assert not any(task.done() for task in tasks)

    async def rest() -> None:
        assert inv is not None
        disk.release()
        assert (await inv.receive("TEE", "LON", 1)).level.on_hand == 2_001
        assert len(inv._ports) == 1
        await inv.close()

    for _ in range(20):
        run_on(new_loop(), leave)
    run_on(new_loop(), rest)


def test_loops_of_several_threads_share_a_store(
    new_loop: Callable[[], asyncio.AbstractEventLoop], run: Run, tmp_path: Path
) -> None:
    sold: Counter[int] = Counter()

    async def main() -> None:
        async with aio.open(tmp_path / "shop", segment_bytes=4 << 20) as inv:
            await inv.receive("TEE", "LON", 1_500)
            # One loop is left with calls in flight while the store closes.
            await asyncio.gather(*(asyncio.to_thread(shop, number, inv) for number in range(4)))
            assert (await inv.availability("TEE", "LON")).available_to_promise == 0

    def shop(number: int, inv: aio.Inventory) -> None:
        async def buy() -> None:
            try:
                await inv.reserve("TEE", 1)
                sold[number] += 1
            except InsufficientStock:
                pass

        async def here() -> None:
            await asyncio.gather(*(buy() for _ in range(500)))

        run_on(new_loop(), here)

    run(main)
    assert sum(sold.values()) == 1_500


def test_a_loop_elsewhere_gets_its_answers_after_closing(
    new_loop: Callable[[], asyncio.AbstractEventLoop], run: Run, tmp_path: Path, disk: HeldDisk
) -> None:
    elsewhere = new_loop()

    async def main() -> asyncio.Task[Any]:
        inv = await open_held(disk, path=tmp_path / "shop", segment_bytes=4 << 20)

        async def call() -> asyncio.Task[Any]:
            task = asyncio.ensure_future(inv.receive("TEE", "LON", 3))
            await turns(2)
            return task

        task = await asyncio.to_thread(lambda: elsewhere.run_until_complete(call()))
        disk.release()
        await inv.close()
        return task

    task = run(main)
    assert not task.done()
    assert elsewhere.run_until_complete(task).level.on_hand == 3
    elsewhere.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_sees_the_store_as_closed(
    new_loop: Callable[[], asyncio.AbstractEventLoop], run: Run, tmp_path: Path
) -> None:
    async def child(inv: aio.Inventory) -> None:
        assert inv.closed
        for call in (inv.reserve("TEE", 1), inv.availability("TEE"), inv.verify(), inv.metrics()):
            with pytest.raises(StoreClosed):
                await call
        await inv.close()

    async def main() -> None:
        async with aio.open(tmp_path / "shop", segment_bytes=4 << 20) as inv:
            await inv.receive("TEE", "LON", 10)
            flying = asyncio.ensure_future(inv.reserve("TEE", 1))
            await turns(1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
                pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    asyncio._set_running_loop(None)
                    loop = new_loop()
                    loop.run_until_complete(child(inv))
                    status = 0
                finally:
                    os._exit(status)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert (await flying).state is State.HELD
            assert (await inv.reserve("TEE", 1)).state is State.HELD

    run(main)


def forget(stores: list[aio.Inventory]) -> None:
    stores.clear()
    gc.collect()


def test_a_forgotten_store_warns_and_ends(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        inv = await aio.open(tmp_path / "shop", segment_bytes=4 << 20)
        await inv.receive("TEE", "LON", 10)
        stores = [inv]
        del inv
        with pytest.warns(ResourceWarning, match="unclosed"):
            forget(stores)
        async with aio.open(tmp_path / "shop") as inv:
            assert (await inv.availability("TEE", "LON")).on_hand == 10

    run(main)


INTERRUPTED = """
import asyncio, os, signal, sys, threading
import inventory

async def main():
    async with inventory.aio.open(sys.argv[1], segment_bytes=4 << 20) as inv:
        await inv.receive("TEE", "LON", 1_000_000)
        async def shop(number):
            while True:
                hold = await inv.reserve("TEE", 1)
                os.write(1, hold.reservation_id.encode() + b"\\n")
        await asyncio.gather(*(shop(number) for number in range(50)))

asyncio.run(main())
"""


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_what_was_answered_survives_the_process(tmp_path: Path, ended_by: signal.Signals) -> None:
    """Ctrl-C closes the store on the way out; a kill doesn't. Either way no answer is lost."""
    path = tmp_path / "shop"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shop:
        assert shop.stdout is not None
        assert shop.stderr is not None
        said = [shop.stdout.readline() for _ in range(200)]
        shop.send_signal(ended_by)
        said += shop.stdout.read().splitlines(keepends=True)
        complaints = shop.stderr.read().decode()
    acknowledged = [line.decode().strip() for line in said if line.endswith(b"\n")]
    assert len(acknowledged) >= 200
    with inventory.open(path) as inv:
        assert inv.recovery.clean_shutdown == (ended_by == signal.SIGINT)
        for reservation_id in acknowledged:
            assert inv.reservation(reservation_id).state is State.HELD
        assert inv.verify().ok
    if ended_by == signal.SIGINT:
        assert complaints.rstrip().endswith("KeyboardInterrupt"), complaints
        for bad in ("never awaited", "destroyed", "ResourceWarning"):
            assert bad not in complaints


# ---- long calls ---------------------------------------------------------------------------------


def test_long_calls_go_to_a_thread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    in_thread: list[str] = []
    to_thread = asyncio.to_thread

    async def counted(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        in_thread.append(function.__name__)
        return await to_thread(function, *args, **options)

    async def main() -> None:
        async with aio.open() as inv:
            await asyncio.gather(*(inv.receive("TEE", f"L{number}", 1) for number in range(4_097)))
            monkeypatch.setattr(asyncio, "to_thread", counted)
            await inv.receive("MUG", "LON", 10_000)
            cart = [("MUG", "LON", 1)] * 257
            await inv.reserve_lines(cart[:256], reservation_id="short")
            await inv.commit("short", lines=iter(cart[:256]))
            assert in_thread == []
            hold = await inv.reserve_lines(iter(cart), reservation_id="long")
            assert sum(line.held for line in hold.lines) == 257
            await inv.commit("long", lines=iter(cart))
            assert len((await inv.availability("TEE")).levels) == 4_097
            await inv.verify()
            await inv.barrier()
            assert in_thread == ["reserve_lines", "commit", "availability", "verify", "barrier"]
            monkeypatch.setattr(asyncio, "to_thread", to_thread)

    run(main)


def test_walks_are_asynchronous_iterators(run: Run) -> None:
    async def main() -> None:
        async with aio.open() as inv:
            for number in range(30):
                await inv.receive(f"S{number}", "LON", 2)
                await inv.reserve(f"S{number}", 1, reservation_id=f"cart-{number}")
            pieces = [piece async for piece in inv.rows(chunk_rows=10)]
            assert len(pieces) >= 3
            assert sum(int(piece.on_hand.sum()) for piece in pieces) == 60
            ids = {str(key) async for piece in inv.reservations() for key in piece.reservation_id}
            assert ids == {f"cart-{number}" for number in range(30)}
            assert (await inv.sku_ids(["S1"])).tolist() != [0xFFFF_FFFF]
            with pytest.raises(errors.BadRequest):
                async for _ in inv.rows(chunk_rows=0):
                    pass

    run(main)


# ---- no oversell --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(scaled(3)))
def test_many_tasks_on_few_skus(run: Run, seed: int) -> None:
    """Hundreds of shoppers on three SKUs; a ledger of the answers must give the same stock."""
    storage = MemoryStorage()
    skus = ["TEE", "MUG", "CAP"]
    received, shipped, open_units = Counter[str](), Counter[str](), Counter[str]()

    async def shopper(inv: aio.Inventory, number: int) -> None:
        chooser = random.Random(seed * 1_000 + number)
        for turn in range(12):
            sku, key = chooser.choice(skus), f"cart-{number}-{turn}"
            qty = chooser.randint(1, 4)
            if chooser.random() < 0.15:
                await inv.receive(sku, "LON", qty)
                received[sku] += qty
                continue
            try:
                hold = await inv.reserve(sku, qty, reservation_id=key)
            except InsufficientStock:
                continue
            assert sum(line.held for line in hold.lines) == qty
            ending = chooser.choice(["keep", "release", "ship", "cancel"])
            if ending == "keep":
                open_units[sku] += qty
            elif ending == "release":
                await inv.release(key)
            else:
                await inv.commit(key)
                await getattr(inv, ending)(key)
                shipped[sku] += qty if ending == "ship" else 0

    async def main() -> None:
        async with aio.open(storage=storage, segment_bytes=SEGMENT_BYTES) as inv:
            for sku in skus:
                await inv.receive(sku, "LON", 50)
                received[sku] += 50
            await asyncio.gather(*(shopper(inv, number) for number in range(300)))
            for sku in skus:
                level = await inv.availability(sku, "LON")
                assert level.on_hand == received[sku] - shipped[sku]
                assert (level.held, level.allocated) == (open_units[sku], 0)
                assert level.available_to_promise >= 0
            report = await inv.verify()
            assert report.ok, report.problems

    run(main)


# ---- 200,000 in flight --------------------------------------------------------------------------


@pytest.mark.slow
def test_200_000_reserves_in_flight(run: Run, tmp_path: Path, disk: HeldDisk) -> None:
    """All in flight at one moment on a durable store; each answered once, and only when durable.

    The disk is held back until all calls are made. Garbage collection is set as
    docs/how-to/embedding.md advises. How long the loop was kept busy is printed, not judged: that
    is bench/bench_aio.py's.
    """
    count = scaled(200_000)
    thresholds = gc.get_threshold()

    async def main() -> None:
        async with held_store(disk, path=tmp_path / "shop") as inv:
            preparing = asyncio.ensure_future(
                asyncio.gather(*(inv.receive(f"S{number}", "LON", count) for number in range(100)))
            )
            await turns(3)
            made = answered = 0
            lsn_answered = 0
            answers_by_id: Counter[str] = Counter()
            gaps_ms: list[float] = []
            all_answered = asyncio.Event()

            async def reserve(number: int) -> None:
                nonlocal made, answered, lsn_answered
                made += 1
                hold = await inv.reserve(f"S{number % 100}", 1, reservation_id=f"cart-{number}")
                answers_by_id[hold.reservation_id] += 1
                lsn_answered = max(lsn_answered, hold.lsn)
                answered += 1
                if answered == count:
                    all_answered.set()

            async def heartbeat() -> None:
                last_s = time.perf_counter()
                while not all_answered.is_set():
                    await asyncio.sleep(0)
                    now_s = time.perf_counter()
                    gaps_ms.append((now_s - last_s) * 1e3)
                    last_s = now_s
                    if len(gaps_ms) % 64 == 0:
                        assert (await inv.metrics()).lsn_durable >= lsn_answered

            beating = asyncio.ensure_future(heartbeat())
            tasks: list[asyncio.Task[None]] = []
            for at in range(0, count, 100):
                for number in range(at, min(at + 100, count)):
                    tasks.append(asyncio.ensure_future(reserve(number)))
                await asyncio.sleep(0)
            await turns(3)
            found = await inv.metrics()
            assert (made, answered) == (count, 0)
            assert not any(task.done() for task in tasks)
            assert found.lsn_durable < found.lsn_appended
            decided = found.reserved_ok
            disk.release()
            await all_answered.wait()
            await beating
            await preparing
            assert len(answers_by_id) == count == sum(answers_by_id.values())
            report = await inv.verify()
            assert report.ok, report.problems
            assert report.held == count
            print(
                f"{count:,} in flight ({decided:,} decided, {count - decided:,} still to be): "
                f"the loop was busy for {max(gaps_ms):.1f} ms at most"
            )

    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 10, 1_000_000)
    try:
        run(main)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    with inventory.open(tmp_path / "shop") as inv:
        assert inv.metrics().live_holds == count
