# SPDX-License-Identifier: Apache-2.0
"""The ZeroMQ front end: sockets and threads around the native loop.

pyzmq makes, sets up, binds and closes the sockets. From start() until a loop has come back its
socket belongs to the loop's thread, which never takes the GIL meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version

import zmq
import zmq.backend.cython._zmq as _zmq  # the extension that brings libzmq

from inventory import Inventory
from inventory.errors import BadRequest

from ._loop import Server
from .config import Limits, check_endpoint

__all__ = ["FAILED", "ZmqFront"]

FAILED = 61  # STORE_FAILED: the loop's result when the process must end


class ZmqFront:
    """Serves `inv` on endpoints: a thread and a ROUTER socket each, and a thread for the disk.

    `on_end(code)` is called by each loop's thread when it comes back: 0, or FAILED, when nothing
    more may be said or done: end the process with status 74.
    """

    def __init__(
        self,
        inv: Inventory,
        binds: Sequence[str],
        *,
        limits: Limits | None = None,
        on_end: Callable[[int], None] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._limits.check()
        for endpoint in binds:
            check_endpoint(endpoint)
        self._on_end = on_end
        self._threads: list[threading.Thread] = []
        self._sockets: list[zmq.Socket[bytes]] = []
        self._event_fds: list[int] = []
        self.endpoints: list[str] = []  # as bound: with the port where `*` was asked for
        self._server = Server(
            inv,
            _zmq.__file__,
            version=version("inventory-engine"),
            message_bytes_max=self._limits.message_bytes_max,
            silence_ms_max=self._limits.silence_ms_max,
            requests_in_flight_max=self._limits.requests_in_flight_max,
            reply_bytes_in_flight_max=self._limits.reply_bytes_in_flight_max,
        )
        self._context = zmq.Context()
        try:
            for endpoint in binds:
                self._bind(endpoint)
        except BaseException:
            self._free()
            raise

    def _bind(self, endpoint: str) -> None:
        socket = self._context.socket(zmq.ROUTER)
        self._sockets.append(socket)
        limits = self._limits
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),  # a peer that is gone or full is told, not passed over
            (zmq.MAXMSGSIZE, limits.message_bytes_max),
            (zmq.RCVHWM, limits.receive_queue_max),
            (zmq.SNDHWM, limits.send_queue_max),
            (zmq.BACKLOG, limits.backlog),
            (zmq.HANDSHAKE_IVL, limits.handshake_ms),
            (zmq.HEARTBEAT_IVL, limits.heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, limits.silence_ms_max),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 60),
            (zmq.TCP_KEEPALIVE_INTVL, 10),
            (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.LINGER, limits.linger_ms),
            (zmq.IPV6, 1 if "[" in endpoint else 0),
        ):
            socket.setsockopt(option, value)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise BadRequest(f"bind: {endpoint}: {error.strerror}", field="bind") from error
        event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._event_fds.append(event_fd)
        loop = self._server.add_loop(socket.underlying, event_fd)
        self.endpoints.append(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self._threads.append(
            threading.Thread(target=self._run, args=(loop,), name=f"inv-zmq-{loop}", daemon=True)
        )

    def _run(self, loop: int) -> None:
        code = self._server.run(loop)
        if self._on_end is not None:
            self._on_end(code)

    def start(self) -> None:
        """Begin to serve."""
        self._watcher = threading.Thread(
            target=self._server.watch, name="inv-zmq-watch", daemon=True
        )
        self._watcher.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no new requests, answer all that are under way, and close the sockets."""
        self._server.stop()
        for thread in self._threads:
            thread.join()
        self._server.end_watch()
        self._watcher.join()
        self._free()

    def counts(self) -> dict[str, int]:
        """Counters of all endpoints together; empty once stopped."""
        total: dict[str, int] = {}
        for loop in range(len(self._sockets)):
            for name, figure in self._server.counts(loop).items():
                total[name] = total.get(name, 0) + figure
        return total

    def _free(self) -> None:
        self._server.close()  # before the sockets: it gives back their messages
        for socket in self._sockets:
            socket.close()
        self._context.term()  # waits for the last replies to leave, linger_ms at most
        for event_fd in self._event_fds:
            os.close(event_fd)
        self._sockets, self._event_fds = [], []
