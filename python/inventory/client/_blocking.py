# SPDX-License-Identifier: Apache-2.0
"""The client for threads: many of them share one I/O thread and its few connections.

A caller builds its request, hands it over, and sleeps on a lock of its own until it is settled. The
I/O thread alone touches the sockets; it sleeps in poll() until something comes in, a call is handed
over, or a timer is due.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
import warnings
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

from inventory.errors import BadRequest, StoreClosed
from inventory.models import Node

from . import _requests
from ._engine import Engine
from ._operations import Operations
from ._session import Call, Options
from ._wire import Request

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client", "options_of"]

CONNECTIONS_MAX = 64
IN_FLIGHT_MAX = 1_000_000
_TIME_MS_MAX = 86_400_000


def options_of(
    endpoint: str,
    connections: int,
    *,
    timeout_ms: int,
    attempt_ms: int,
    backoff_ms: int,
    backoff_ms_max: int,
    in_flight_max: int,
) -> Options:
    """The options of a client, checked."""
    if not isinstance(endpoint, str):
        raise TypeError(f"endpoint must be str, not {type(endpoint).__name__}")
    _limited("connections", connections, CONNECTIONS_MAX)
    return Options(
        endpoint,
        _limited("timeout_ms", timeout_ms, _TIME_MS_MAX),
        _limited("attempt_ms", attempt_ms, _TIME_MS_MAX),
        _limited("backoff_ms", backoff_ms, _TIME_MS_MAX),
        _limited("backoff_ms_max", backoff_ms_max, _TIME_MS_MAX),
        _limited("in_flight_max", in_flight_max, IN_FLIGHT_MAX),
    )


def _limited(field: str, value: int, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field} must be int, not {type(value).__name__}")
    if not 1 <= value <= limit:
        raise BadRequest(field=field, figure=value, limit=limit if value > 0 else 1)
    return value


class _Waiting(Call):
    """A call that a thread waits for."""

    __slots__ = ("_done", "error", "value")

    def __init__(self, request: Request, deadline_ms: float) -> None:
        super().__init__(request, deadline_ms)
        self.value: Any = None
        self.error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def settle(self, value: Any, error: BaseException | None) -> None:
        self.value, self.error = value, error
        self._done.release()

    def wait(self) -> Any:
        """The value, or the error raised. It always comes: at the deadline at the latest."""
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.value


class _Loop:
    """The I/O thread. It knows no Client, so that one nobody holds can still be found."""

    def __init__(self, options: Options, connections: int) -> None:
        self._poll = select.poll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._bell, select.POLLIN)
        self._inbox: deque[tuple[_Waiting, bool]] = deque()  # (call, submit it or forget it)
        self._lock = threading.Lock()
        self._asleep = False
        self._stopping = False
        self._ended = False
        try:
            self._engine = Engine(
                options,
                connections,
                lambda fd: self._poll.register(fd, select.POLLIN),
                self._poll.unregister,
            )
        except BaseException:
            os.close(self._bell)
            raise
        self.thread = threading.Thread(target=self._run, name="inventory-client", daemon=True)
        self.thread.start()

    def submit(self, call: _Waiting) -> None:
        self._hand_over(call, True)

    def forget(self, call: _Waiting) -> None:
        self._hand_over(call, False)

    def _hand_over(self, call: _Waiting, wanted: bool) -> None:
        with self._lock:
            if self._ended:
                raise StoreClosed("the client is closed; make a new one")
            self._inbox.append((call, wanted))
            self._wake_locked()

    def stop(self) -> None:
        """Let the thread end all calls, close the sockets, and end."""
        with self._lock:
            self._stopping = True
            if not self._ended:
                self._wake_locked()

    def _wake_locked(self) -> None:
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take()
                now_ms = time.monotonic() * 1000
                if not self._engine.step(now_ms):
                    self._sleep(now_ms)
        finally:
            with self._lock:
                self._ended = True
            self._take()  # nobody is left waiting: these end with the others
            self._engine.close()
            self._engine.term()
            os.close(self._bell)

    def _take(self) -> None:
        session = self._engine.session
        now_ms = time.monotonic() * 1000
        for _ in range(len(self._inbox)):
            call, wanted = self._inbox.popleft()
            if wanted:
                session.submit(call, now_ms)
            else:
                session.forget(call)

    def _sleep(self, now_ms: float) -> None:
        due_ms = self._engine.next_ms()
        with self._lock:
            if self._inbox or self._stopping:
                return
            self._asleep = True
        # One millisecond more than to the very moment: or it would wake just before it.
        found = self._poll.poll(None if due_ms is None else max(0, int(due_ms - now_ms) + 1))
        with self._lock:
            self._asleep = False
        if any(fd == self._bell for fd, _ in found):
            os.eventfd_read(self._bell)


class Client(Operations):
    """A client of a node, for any number of threads.

    Its operations are those of :class:`inventory.Inventory`: same names and arguments, same results
    and errors, same durability, which is the node's. What is not there is in
    :data:`inventory.client.NOT_REMOTE`. As a context manager it closes itself.

    A call is sent again, with the same ids, when the node is too busy, the connection is lost or no
    answer comes; so each is applied at most once. Calls that name no ``reservation_id`` or
    ``op_id`` get one (a UUIDv7) before they are first sent. No call takes longer than
    ``timeout_ms``.

    Args:
        endpoint: ``"tcp://host:port"`` or ``"ipc:///path"``, of one node.
        timeout_ms: how long a call may take with all its retries, 1 ms to 24 h; 5 s. Of a batch,
            each piece of about 60 KiB. See :meth:`within`.
        attempt_ms: how long to wait for an answer before a call is sent again, doubled each time;
            1 s. As long as the node answers others that were sent before, it is not sent again.
        backoff_ms, backoff_ms_max: a retry comes after a random pause of up to ``backoff_ms``,
            doubled each time up to ``backoff_ms_max``, on top of what the node asks for; 20 ms
            and 1 s.
        connections: 1 to 64. With one, calls reach the node in their order; 1.
        in_flight_max: calls sent and not answered, 1 to 1,000,000; more wait their turn. 65,536.

    Raises:
        BadRequest, TypeError. It does not wait for the node: that is for the first call.

    >>> with inventory.Client("tcp://127.0.0.1:7707") as shop:            # doctest: +SKIP
    ...     change = shop.receive("TEE", "LON", 100)
    ...     hold = shop.reserve("TEE", 2, location="LON", reservation_id="cart-17")
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
        self._closed = False
        self._loop = _Loop(self._options, connections)

    def node(self) -> Node:
        """Ask who answers, and what it promises.

        Returns:
            A Node: version, durability, where its log ends.

        Raises:
            Unreachable, ProtocolError, Busy, StoreClosed.

        >>> shop.node().durability                                        # doctest: +SKIP
        'durable'
        """
        node: Node = self._run(_requests.hello("inventory-python"))
        return node

    def within(self, timeout_ms: int) -> Operations:
        """The same client with another deadline for each call, over the same connections.

        Args:
            timeout_ms: 1 ms to 24 h.

        Returns:
            Operations: what the client can do, and no more.

        Raises:
            BadRequest, TypeError.

        >>> shop.within(200).reserve("TEE", 2)                            # doctest: +SKIP
        """
        return _Within(self, _limited("timeout_ms", timeout_ms, _TIME_MS_MAX))

    @property
    def closed(self) -> bool:
        """Whether the client refuses calls: closed, or of the parent of this forked process."""
        return self._closed or os.getpid() != self._pid

    def close(self) -> None:
        """End all calls and close the connections. Nothing is waited for.

        Calls of other threads end at once: with OutcomeUnknown where a change was sent and not
        answered, with StoreClosed where nothing can have been applied. A second close does nothing.
        In a forked child it does nothing either.

        >>> shop.close()                                                  # doctest: +SKIP
        """
        if self.closed:
            return
        self._closed = True
        self._loop.stop()
        if self._loop.thread is not threading.current_thread():
            self._loop.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<inventory.Client of {self._options.endpoint} {state} at {id(self):#x}>"

    def __del__(self) -> None:
        if not hasattr(self, "_loop") or self.closed:
            return
        warnings.warn(
            f"unclosed {self!r}; use close() or with", ResourceWarning, stacklevel=2, source=self
        )
        self._loop.stop()
        if not sys.is_finalizing() and self._loop.thread is not threading.current_thread():
            self._loop.thread.join()

    def _ask(self, request: Request) -> Any:
        return self._ask_within(request, self._options.timeout_ms)

    def _ask_within(self, request: Request, timeout_ms: int) -> Any:
        if os.getpid() != self._pid:
            raise StoreClosed("the client belongs to the parent process; make a new one after fork")
        call = _Waiting(request, time.monotonic() * 1000 + timeout_ms)
        self._loop.submit(call)
        try:
            return call.wait()
        except BaseException:
            if call.request is not None:  # interrupted: the outcome is unknown, nobody asks for it
                with contextlib.suppress(StoreClosed):
                    self._loop.forget(call)
            raise


class _Within(Operations):
    """A client with another deadline."""

    def __init__(self, client: Client, timeout_ms: int) -> None:
        self._client = client
        self._timeout_ms = timeout_ms

    def _ask(self, request: Request) -> Any:
        return self._client._ask_within(request, self._timeout_ms)
