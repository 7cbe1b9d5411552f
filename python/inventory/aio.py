# SPDX-License-Identifier: Apache-2.0
"""The store for asyncio: the same operations as coroutines, in the same process.

>>> async def main():
...     async with inventory.aio.open() as shop:            # a path makes it a store on disk
...         await shop.receive("TEE", "LON", 100)
...         hold = await shop.reserve("TEE", 2, location="LON", reservation_id="cart-17")
...         return (await shop.availability("TEE", "LON")).available_to_promise
>>> asyncio.run(main())
98

A call never blocks the loop: it is decided in memory on the loop's own thread, and its await ends
when what it changed or observed is as safe as the store promises. Hundreds of thousands may be in
flight. Long ones (opening, closing, ``verify``, ``barrier``, batches, carts of more than 256 lines,
a SKU at more than 4,096 locations) run in the loop's default thread pool.

Cancelling. A call that was decided stands, whatever becomes of its await: the same
``reservation_id`` or ``op_id`` asks again. One that still waits because the log is behind is
withdrawn. ``asyncio.timeout`` and ``wait_for`` cancel, so the same holds for them.

Loops and threads. Loops of several threads may share one store. A forked child sees it as closed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import events, store
from ._aio import Notifier, Port
from ._coroutines import Operations
from .errors import InventoryError
from .models import ConsumerInfo, Event, Recovery

if TYPE_CHECKING:
    from typing_extensions import Self

    from .client._aio import Client as Client  # not in __all__: it needs an extra
    from .store import Durability
    from .testing import ManualClock, MemoryStorage

__all__ = ["Consumer", "Events", "Inventory", "Opening", "open"]

_Method = TypeVar("_Method", bound=Callable[..., Any])
_BATCH_MOST = 1000  # events handed to the loop at once
_WAIT_SLICE_S = 0.25  # for which a thread waits for events; then it asks whether to go on


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: Durability = "durable",
    interval_ms: int = 10,
    clock: ManualClock | None = None,
    storage: MemoryStorage | None = None,
    segment_bytes: int | None = None,
    id_retention_ms: int = 86_400_000,
    ended_ids_max: int = 32 << 20,
    default_ttl_ms: int = 600_000,
    restart_grace_ms: int = 10_000,
    downtime_ms_max: int = 86_400_000,
    clock_slew: bool = False,
    snapshot_log_bytes: int = 1 << 30,
    consumer_log_bytes_max: int = 4 << 30,
    strategy: str = "priority",
    read_only: bool = False,
    upto_lsn: int = 0,
    accept_loss_lsn: int = 0,
) -> Opening:
    """Open a store in a thread: arguments, errors and durability are those of
    :func:`inventory.open`.

    Returns:
        An Opening, for ``async with inventory.aio.open(path) as inv`` or
        ``inv = await inventory.aio.open(path)``. Nothing happens before that. Cancelled meanwhile,
        the store is closed again as soon as it is open.

    >>> async def main():
    ...     async with inventory.aio.open() as shop:
    ...         return shop.recovery.created
    >>> asyncio.run(main())
    True
    """

    def open_store() -> store.Inventory:
        return store.open(
            path,
            durability=durability,
            interval_ms=interval_ms,
            clock=clock,
            storage=storage,
            segment_bytes=segment_bytes,
            id_retention_ms=id_retention_ms,
            ended_ids_max=ended_ids_max,
            default_ttl_ms=default_ttl_ms,
            restart_grace_ms=restart_grace_ms,
            downtime_ms_max=downtime_ms_max,
            clock_slew=clock_slew,
            snapshot_log_bytes=snapshot_log_bytes,
            consumer_log_bytes_max=consumer_log_bytes_max,
            strategy=strategy,
            read_only=read_only,
            upto_lsn=upto_lsn,
            accept_loss_lsn=accept_loss_lsn,
        )

    return Opening(open_store)


def __getattr__(name: str) -> Any:
    """Import ``inventory.aio.Client`` when it is first named: it needs pyzmq and msgpack."""
    if name == "Client":
        return import_module(".client._aio", __package__).Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _documented(operation: Callable[..., Any]) -> Callable[[_Method], _Method]:
    def with_its_words(method: _Method) -> _Method:
        method.__doc__ = operation.__doc__
        return method

    return with_its_words


class Opening:
    """A store about to be opened. Made by :func:`inventory.aio.open`, good for one use."""

    def __init__(self, open_store: Callable[[], store.Inventory]) -> None:
        self._open_store = open_store
        self._lock = threading.Lock()
        self._used = False
        self._unwanted = False
        self._opened: Inventory | None = None

    def __await__(self) -> Generator[Any, None, Inventory]:
        return self._open().__await__()

    async def __aenter__(self) -> Inventory:
        return await self._open()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(error_type, error, traceback)

    async def _open(self) -> Inventory:
        if self._used:
            raise RuntimeError("this store was opened already; call inventory.aio.open() again")
        self._used = True
        try:
            return await asyncio.to_thread(self._open_in_thread)
        except asyncio.CancelledError:
            with self._lock:
                self._unwanted = True
                opened = self._opened
            if opened is not None:
                await opened.close()
            raise

    def _open_in_thread(self) -> Inventory:
        inv = self._open_store()
        opened = Inventory(inv)
        with self._lock:
            if not self._unwanted:
                self._opened = opened
                return opened
        inv.close()
        return opened


class Inventory(Operations):
    """An open store on event loops. Made by :func:`inventory.aio.open`.

    Its operations are those of :class:`inventory.Inventory` as coroutine functions: same names and
    arguments, same results and errors, same durability; walks (``rows``, ``reservations``) and
    ``events`` are asynchronous iterators. As an async context manager it closes itself.
    """

    def __init__(self, inv: store.Inventory) -> None:
        self._inv = inv
        self._lock = threading.Lock()
        self._ports: dict[asyncio.AbstractEventLoop, Port] = {}
        self._notifier = Notifier(inv._handle)
        inv._run_guest("notifier", self._notifier.run, self._notifier.stop)

    @property
    def closed(self) -> bool:
        """Whether the store refuses calls: closed, or of the parent of this forked process."""
        return self._inv.closed

    @property
    def recovery(self) -> Recovery:
        """What opening found in the log; known after closing too."""
        return self._inv.recovery

    @_documented(store.Inventory.events)
    def events(
        self,
        *,
        after_lsn: int = 0,
        after: Event | tuple[int, int] | None = None,
        follow: bool = False,
        timeout_s: float | None = None,
    ) -> Events:
        return Events(
            lambda: self._inv.events(after_lsn=after_lsn, after=after, follow=follow),
            follow=follow,
            timeout_s=timeout_s,
        )

    @_documented(store.Inventory.consumer)
    async def consumer(self, name: str, *, after_lsn: int = 0) -> Consumer:
        return Consumer(await asyncio.to_thread(self._inv.consumer, name, after_lsn=after_lsn))

    async def close(self) -> None:
        """Refuse new calls, sync all, answer the calls in flight, and free the store.

        Calls that were decided get their answers; one that the core was too busy for raises
        StoreClosed. A second close does nothing. In a forked child it does nothing either.
        Cancelling it does not stop it.

        Raises:
            StoreFailed: the last sync failed; what was acknowledged as durable is safe.

        Durability: everything is on disk, with the mark of a clean shutdown.
        """
        loop = asyncio.get_running_loop()
        try:
            await asyncio.shield(loop.run_in_executor(None, self._inv.close))
        finally:
            port = self._ports.get(loop)
            if port is not None and self._notifier.ended:
                while not port.turn():  # noqa: ASYNC110 - a turn is work done, not a wait
                    await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except InventoryError:
            if error is None:  # an error from within the block says more than one from closing
                raise

    def __repr__(self) -> str:
        return f"<inventory.aio.Inventory {'closed' if self.closed else 'open'} at {id(self):#x}>"

    def _port(self) -> Port:
        loop = asyncio.get_running_loop()
        port = self._ports.get(loop)
        return port if port is not None else self._new_port(loop)

    def _new_port(self, loop: asyncio.AbstractEventLoop) -> Port:
        with self._lock:
            for other in list(self._ports):
                if other.is_closed():
                    del self._ports[other]
            port = self._ports[loop] = Port(self._notifier, loop)
        return port


class Events:
    """An asynchronous iterator over events. Made by :meth:`Inventory.events`.

    A thread of its own waits and reads; it begins with the first event asked for and ends with
    :meth:`aclose`, the last event, or an error. Cancelling a wait for an event loses none: the next
    one asked for is the one that was waited for. For one task at a time.
    """

    def __init__(
        self, make: Callable[[], events.Events], *, follow: bool, timeout_s: float | None
    ) -> None:
        self._make = make
        self._follow = follow
        self._timeout_s = timeout_s
        self._pool: ThreadPoolExecutor | None = None
        self._pending: asyncio.Future[list[Event]] | None = None  # asked of the thread
        self._source: events.Events | None = None
        self._ready: list[Event] = []  # the next one last
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._ready:
            self._ready = await self._wait()
            self._ready.reverse()
        if not self._ready:
            await self.aclose()
            raise StopAsyncIteration
        return self._ready.pop()

    async def _wait(self) -> list[Event]:
        """The next events; none: that was all."""
        loop = asyncio.get_running_loop()
        give_up_s = None if self._timeout_s is None else loop.time() + self._timeout_s
        while not self._closed:
            if self._pending is None:
                self._pending = self._ask(loop, give_up_s)
            try:
                found = await asyncio.shield(self._pending)
            except InventoryError:
                await self.aclose()
                raise
            self._pending = None
            late = give_up_s is not None and loop.time() >= give_up_s
            if found or late or not self._follow:
                return found
        return []

    def _ask(
        self, loop: asyncio.AbstractEventLoop, give_up_s: float | None
    ) -> asyncio.Future[list[Event]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="inventory-events")
        wait_s = 0.0
        if self._follow:
            left_s = _WAIT_SLICE_S if give_up_s is None else give_up_s - loop.time()
            wait_s = min(_WAIT_SLICE_S, max(0.0, left_s))
        return loop.run_in_executor(self._pool, self._take, wait_s)

    def _take(self, wait_s: float) -> list[Event]:
        if self._source is None:
            self._source = self._make()
        return self._source.batch(_BATCH_MOST, timeout_s=wait_s)

    async def aclose(self) -> None:
        """Give no more, end the thread, and free the memory. A second one does nothing."""
        self._closed = True
        self._ready = []
        if self._pending is not None:
            self._pending.add_done_callback(_forget)
            self._pending = None
        if self._pool is not None:
            self._pool.submit(self._end)
            self._pool.shutdown(wait=False)
            self._pool = None
        if self._source is not None:  # a wait under way ends now
            self._source.close()

    def _end(self) -> None:
        if self._source is not None:
            self._source.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _forget(asked: asyncio.Future[list[Event]]) -> None:
    """Nobody waits for it any more: what went wrong is nobody's news."""
    if not asked.cancelled():
        asked.exception()


class Consumer:
    """A reader of events whose position the store keeps, as :class:`inventory.events.Consumer`.
    Made by :meth:`Inventory.consumer`."""

    def __init__(self, consumer: events.Consumer) -> None:
        self._consumer = consumer

    @property
    def name(self) -> str:
        """What it is called."""
        return self._consumer.name

    async def info(self) -> ConsumerInfo:
        """Position, lag and state at present. Raises BadRequest when it was removed."""
        return await asyncio.to_thread(lambda: self._consumer.info)

    def events(self, *, follow: bool = False, timeout_s: float | None = None) -> Events:
        """Read events behind the acknowledged position: an asynchronous iterator."""
        return Events(
            lambda: self._consumer.events(follow=follow), follow=follow, timeout_s=timeout_s
        )

    async def acknowledge(self, done: Event | int) -> None:
        """Say that an event and all before it are worked off. Durable when it returns."""
        await asyncio.to_thread(self._consumer.acknowledge, done)

    async def reset(self, *, after_lsn: int = 0) -> None:
        """Place the consumer anew, forward or back: the only way on for one that was cut off."""
        await asyncio.to_thread(self._consumer.reset, after_lsn=after_lsn)

    async def remove(self) -> None:
        """Forget the consumer: nothing is kept for it any more."""
        await asyncio.to_thread(self._consumer.remove)

    def __repr__(self) -> str:
        return f"<inventory.aio.Consumer {self.name!r}>"
