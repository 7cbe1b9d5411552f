# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio: the loop itself watches the sockets, no thread and no polling.

Calls made in one turn of the loop leave together, in messages of up to 256; the loop is woken when
something comes in or a timer is due.
"""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from inventory.errors import StoreClosed
from inventory.models import Node

from . import _requests
from ._blocking import _TIME_MS_MAX, _limited, options_of
from ._engine import Engine
from ._operations import AsyncOperations
from ._session import Call
from ._wire import Request

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client"]


class _Awaited(Call):
    """A call that a future stands for."""

    __slots__ = ("future",)

    def __init__(self, request: Request, deadline_ms: float, future: asyncio.Future[Any]) -> None:
        super().__init__(request, deadline_ms)
        self.future = future

    def settle(self, value: Any, error: BaseException | None) -> None:
        if self.future.done():
            return  # cancelled in this very turn
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class Client(AsyncOperations):
    """A client of a node, for the tasks of one event loop.

    The same as :class:`inventory.Client`, with its arguments and rules, as coroutine functions.
    Hundreds of thousands of calls may be under way; ``in_flight_max`` of them are with the node,
    the others wait their turn, and their deadline counts meanwhile.

    Cancelling a call (also by ``asyncio.timeout``) forgets it: if it was sent it may be applied,
    and the same ``reservation_id`` or ``op_id`` asks again. The client belongs to the loop of its
    first call.

    >>> async def main():
    ...     async with inventory.aio.Client("tcp://127.0.0.1:7707") as shop:
    ...         return await shop.reserve("TEE", 2, location="LON")
    >>> hold = asyncio.run(main())                                        # doctest: +SKIP
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout_ms: int = 5_000,
        attempt_ms: int = 1_000,
        backoff_ms: int = 20,
        backoff_ms_max: int = 1_000,
        connections: int = 1,
        in_flight_max: int = 65_536,
    ) -> None:
        self._options = options_of(
            endpoint,
            connections,
            timeout_ms=timeout_ms,
            attempt_ms=attempt_ms,
            backoff_ms=backoff_ms,
            backoff_ms_max=backoff_ms_max,
            in_flight_max=in_flight_max,
        )
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._closed = False
        self._watched: set[int] = set()
        self._engine = Engine(self._options, connections, self._watch, self._unwatch)

    async def node(self) -> Node:
        """Ask who answers, and what it promises: a Node.

        Raises:
            Unreachable, ProtocolError, Busy, StoreClosed.
        """
        node: Node = await self._run(_requests.hello("inventory-python"))
        return node

    def within(self, timeout_ms: int) -> AsyncOperations:
        """The same client with another deadline for each call, over the same connections.

        Args:
            timeout_ms: 1 ms to 24 h.

        Raises:
            BadRequest, TypeError.
        """
        return _Within(self, _limited("timeout_ms", timeout_ms, _TIME_MS_MAX))

    @property
    def closed(self) -> bool:
        """Whether the client refuses calls: closed, or of the parent of this forked process."""
        return self._closed or os.getpid() != self._pid

    async def close(self) -> None:
        """End all calls and close the connections. No peer is waited for.

        Calls under way end at once: with OutcomeUnknown where a change was sent and not answered,
        with StoreClosed where nothing can have been applied. A second close does nothing. In a
        forked child it does nothing either.
        """
        if self.closed:
            return
        self._shut()
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._engine.term))

    def _shut(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<inventory.aio.Client of {self._options.endpoint} {state} at {id(self):#x}>"

    def __del__(self) -> None:
        if not hasattr(self, "_engine") or self.closed:
            return
        warnings.warn(
            f"unclosed {self!r}; use close() or async with",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        self._shut()
        self._engine.term()

    # ---- calls ----------------------------------------------------------------------------------

    async def _ask(self, request: Request) -> Any:
        return await self._ask_within(request, self._options.timeout_ms)

    async def _ask_within(self, request: Request, timeout_ms: int) -> Any:
        loop = self._bound()
        now_ms = loop.time() * 1000
        call = _Awaited(request, now_ms + timeout_ms, loop.create_future())
        self._engine.session.submit(call, now_ms)
        self._schedule(loop)
        try:
            return await call.future
        finally:
            if call.request is not None:  # cancelled
                self._engine.session.forget(call)

    def _bound(self) -> asyncio.AbstractEventLoop:
        """The client's loop: the one of its first call."""
        if os.getpid() != self._pid:
            raise StoreClosed("the client belongs to the parent process; make a new one after fork")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            for fd in self._watched:
                loop.add_reader(fd, _wake, weakref.ref(self))
        elif self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop; make one for this loop")
        return loop

    # ---- turns of the loop ----------------------------------------------------------------------

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn)

    def _woken(self, by_timer: bool) -> None:
        if by_timer:
            self._timer = None
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        """Move the engine on; then be called again at once, or by a descriptor or the timer."""
        self._scheduled = False
        loop = self._loop
        if self._closed or loop is None:
            return
        try:
            more = self._engine.step(loop.time() * 1000)
        except BaseException:
            self._shut()  # a bug: nobody is left waiting
            raise
        if more:
            self._schedule(loop)
            return
        due_ms = self._engine.next_ms()
        if due_ms is None:
            return
        if self._timer is not None:
            if self._timer.when() * 1000 <= due_ms:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due_ms / 1000, _wake, weakref.ref(self), True)

    def _watch(self, fd: int) -> None:
        self._watched.add(fd)
        if self._loop is not None:
            self._loop.add_reader(fd, _wake, weakref.ref(self))

    def _unwatch(self, fd: int) -> None:
        self._watched.discard(fd)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(fd)


def _wake(found: weakref.ref[Any], by_timer: bool = False) -> None:
    """Called by the loop, which must not keep a client alive that nobody else holds."""
    client = found()
    if client is not None:
        client._woken(by_timer)


class _Within(AsyncOperations):
    """A client with another deadline."""

    def __init__(self, client: Client, timeout_ms: int) -> None:
        self._client = client
        self._timeout_ms = timeout_ms

    async def _ask(self, request: Request) -> Any:
        return await self._client._ask_within(request, self._timeout_ms)
