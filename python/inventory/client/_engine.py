# SPDX-License-Identifier: Apache-2.0
"""A session and its sockets, moved on by :meth:`Engine.step`, which never waits.

One DEALER socket a link. A link that is lost is never mended: its socket is closed and another one
is opened, so that what was asked on the old one is known to be without an answer, and no late reply
can be taken for one. libzmq's monitor tells of a loss at once; its heartbeats find peers that are
gone without a word.

Whoever drives an engine waits on the file descriptors that it names. They are edge-triggered, as
libzmq's are: after step() says that there is no more to do, and not before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import zmq
from zmq.utils.monitor import recv_monitor_message

from inventory.errors import BadRequest, InventoryError, ProtocolError

from . import _wire
from ._session import Link, LinkRefused, Options, Session

__all__ = ["Engine"]

_FRAMES_A_STEP = 16  # messages taken from one link before others get their turn
_FRAMES_QUEUED = 256  # replies that libzmq may hold for us
_DOUBLINGS_MAX = 16
_SOCKET_OPTIONS = {
    zmq.LINGER: 0,
    zmq.IMMEDIATE: 1,  # nothing is queued for a peer that is not there
    zmq.RCVHWM: _FRAMES_QUEUED,
    zmq.MAXMSGSIZE: _wire.REPLY_BYTES_MAX,
    zmq.HEARTBEAT_IVL: 2_000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,  # a peer that was silent for so long is gone
    zmq.RECONNECT_IVL: 50,  # while nobody listens there
    zmq.RECONNECT_IVL_MAX: 1_000,
}
_EVENTS = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_EVENTS |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class _Slot:
    """A place for a link: with one, or waiting to open the next."""

    def __init__(self) -> None:
        self.socket: zmq.Socket[bytes] | None = None
        self.monitor: zmq.Socket[bytes] | None = None
        self.link = Link()
        self.due_ms = 0.0  # closed: when to open it; open: when its HELLO must be answered; 0: -
        self.lost = False  # what was received is still to be taken
        self.losses = 0  # one after the other, without a message in between


class Engine:
    """For one thread at a time. ``watch`` and ``unwatch`` are told which descriptors to wait on."""

    def __init__(
        self,
        options: Options,
        connections: int,
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self._options = options
        self._watch = watch
        self._unwatch = unwatch
        self._chance = random.Random()
        self._context: zmq.Context[Any] = zmq.Context()
        self._slots = [_Slot() for _ in range(connections)]
        self.session = Session(options, self._chance)
        try:  # a first link now, so that an endpoint that can't be one is told to who gave it
            self._open(self._slots[0])
        except zmq.ZMQError as error:
            self.close()
            self.term()
            raise BadRequest(
                f"endpoint: {options.endpoint!r} can't be connected to: {error}", field="endpoint"
            ) from None

    def step(self, now_ms: float) -> bool:
        """Do all that can be done now, some of it if it is much. True: there is more."""
        more = False
        for slot in self._slots:
            if slot.socket is None:
                if now_ms >= slot.due_ms:
                    self._open(slot)
            elif slot.due_ms and now_ms >= slot.due_ms:
                self._lose(slot, now_ms)
            else:
                more |= self._receive(slot, slot.socket, now_ms)
        self.session.tick(now_ms)
        for slot in self._slots:
            if slot.socket is not None and not slot.lost:
                more |= self._send(slot, slot.socket, now_ms)
        return more

    def next_ms(self) -> float | None:
        """When step() is due though nothing comes in; None: never."""
        dues = [slot.due_ms for slot in self._slots if slot.due_ms]
        timer_ms = self.session.next_ms()
        if timer_ms is not None:
            dues.append(timer_ms)
        return min(dues) if dues else None

    def close(self) -> None:
        """End all calls and close all sockets; term() must follow."""
        self.session.close()
        for slot in self._slots:
            self._shut(slot)

    def term(self) -> None:
        """Wait for libzmq's thread to end. It waits for no peer."""
        self._context.term()

    # ---- links ----------------------------------------------------------------------------------

    def _open(self, slot: _Slot) -> None:
        socket = self._context.socket(zmq.DEALER)
        for option, value in _SOCKET_OPTIONS.items():
            socket.set(option, value)
        slot.socket = socket
        slot.monitor = monitor = socket.get_monitor_socket(_EVENTS)
        slot.link, slot.due_ms, slot.lost = Link(), 0.0, False
        self._watch(cast(int, socket.get(zmq.FD)))
        self._watch(cast(int, monitor.get(zmq.FD)))
        socket.connect(self._options.endpoint)

    def _shut(self, slot: _Slot) -> None:
        socket, slot.socket = slot.socket, None
        monitor, slot.monitor = slot.monitor, None
        if socket is None or monitor is None:
            return
        self._unwatch(cast(int, socket.get(zmq.FD)))
        self._unwatch(cast(int, monitor.get(zmq.FD)))
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)

    def _lose(self, slot: _Slot, now_ms: float, error: InventoryError | None = None) -> None:
        """Give the link up, and open the next one after a pause: exponential, with full jitter."""
        self._shut(slot)
        limit_ms = min(
            self._options.backoff_ms_max,
            self._options.backoff_ms * 2.0 ** min(slot.losses, _DOUBLINGS_MAX),
        )
        slot.losses += 1
        slot.due_ms = now_ms + self._chance.uniform(0, limit_ms)
        self.session.lost(slot.link, now_ms, error)

    # ---- messages -------------------------------------------------------------------------------

    def _receive(self, slot: _Slot, socket: zmq.Socket[bytes], now_ms: float) -> bool:
        """Take messages; behind the last, see whether the link was lost. True: there are more."""
        assert slot.monitor is not None
        while int(slot.monitor.get(zmq.EVENTS)) & zmq.POLLIN:
            recv_monitor_message(slot.monitor, zmq.DONTWAIT)
            slot.lost = True  # what it had sent before still are good answers
        try:
            for _ in range(_FRAMES_A_STEP):
                frame = socket.recv(zmq.DONTWAIT)
                if socket.get(zmq.RCVMORE):
                    raise ProtocolError("a reply message of more than one frame")
                self.session.received(slot.link, frame, now_ms)
                if slot.link.node is not None:
                    slot.due_ms, slot.losses = 0.0, 0
        except zmq.Again:
            if slot.lost:
                self._lose(slot, now_ms)
            return False
        except LinkRefused:
            self._lose(slot, now_ms)
            return False
        except InventoryError as error:
            self._lose(slot, now_ms, error)
            return False
        return True

    def _send(self, slot: _Slot, socket: zmq.Socket[bytes], now_ms: float) -> bool:
        """Send what there is, as far as the link takes it. True: messages have come meanwhile."""
        events = int(socket.get(zmq.EVENTS))
        while events & zmq.POLLOUT and self.session.wants_to_send(slot.link):
            frame = self.session.frame(slot.link, now_ms)
            if frame is None:
                break
            try:
                socket.send(frame, zmq.DONTWAIT)
            except zmq.Again:  # the peer went this very moment
                self._lose(slot, now_ms)
                return False
            if slot.link.node is None:
                slot.due_ms = now_ms + self._options.attempt_ms
            events = int(socket.get(zmq.EVENTS))
        return bool(events & zmq.POLLIN)
