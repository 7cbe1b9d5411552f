# SPDX-License-Identifier: Apache-2.0
"""What stands between a client and a node in tests of real sockets, and nodes that are none.

``Proxy`` passes whole messages on, between a ROUTER and a DEALER for each peer, and by a seeded
chance drops, delays, doubles, reorders or truncates them, or closes every connection. ``Hostile``
answers each message with whatever it is told to.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq


class _Threaded:
    """A loop on a thread of its own, until it is closed."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self.problem: BaseException | None = None

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.problem = error

    def _run(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.problem is None, self.problem

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Proxy(_Threaded):
    """Shares of messages that are dropped, doubled, cut, or late; ``kill`` closes everything."""

    def __init__(self, target: str, seed: int, **shares: float) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.shares = {"drop": 0.0, "double": 0.0, "cut": 0.0, "late": 0.0, "kill": 0.0} | shares
        self.target = target
        self.passed = 0
        self.kills = 0
        self._context: zmq.Context[Any] = zmq.Context()
        self._front = self._bound("tcp://127.0.0.1:*")
        self.endpoint = self._front.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._backs: dict[bytes, zmq.Socket[bytes]] = {}
        self._held: list[tuple[float, int, Callable[[], None]]] = []
        self._kill_now = threading.Event()
        self._thread.start()

    def kill(self) -> None:
        """Close every connection now."""
        self._kill_now.set()

    def _bound(self, endpoint: str) -> zmq.Socket[bytes]:
        front = self._context.socket(zmq.ROUTER)
        front.set(zmq.LINGER, 0)
        for _ in range(200):  # the port of the one before may still be taken
            try:
                front.bind(endpoint)
                return front
            except zmq.ZMQError:
                time.sleep(0.01)
        raise RuntimeError(f"{endpoint} stays taken")

    def _run(self) -> None:
        while not self._stop.is_set():
            poller = zmq.Poller()
            poller.register(self._front, zmq.POLLIN)
            for back in self._backs.values():
                poller.register(back, zmq.POLLIN)
            ready = dict(poller.poll(5))
            if self._front in ready:
                peer, *frames = self._front.recv_multipart()
                self._pass(lambda data, peer=peer: self._ask(peer, data), frames[-1])
            for peer, back in list(self._backs.items()):
                if back in ready:
                    self._pass(lambda data, peer=peer: self._tell(peer, data), back.recv())
            while self._held and self._held[0][0] <= time.monotonic():
                heapq.heappop(self._held)[2]()
            if self._kill_now.is_set() or self.chance.random() < self.shares["kill"]:
                self._kill_now.clear()
                self._kill()
        for back in (self._front, *self._backs.values()):
            back.close(linger=0)
        self._context.term()

    def _pass(self, send: Callable[[bytes], None], data: bytes) -> None:
        self.passed += 1
        if self._happens("drop"):
            return
        if self._happens("cut"):
            data = data[: self.chance.randrange(len(data) + 1)]
        for _ in range(1 + self._happens("double")):
            if self._happens("late"):
                due_s = time.monotonic() + self.chance.uniform(0, 0.3)
                entry = (due_s, self.passed, lambda: send(data))
                heapq.heappush(self._held, entry)
            else:
                send(data)

    def _happens(self, what: str) -> bool:
        return self.chance.random() < self.shares[what]

    def _ask(self, peer: bytes, data: bytes) -> None:
        back = self._backs.get(peer)
        if back is None:
            back = self._backs[peer] = self._context.socket(zmq.DEALER)
            back.set(zmq.LINGER, 0)
            back.connect(self.target)
        back.send(data)

    def _tell(self, peer: bytes, data: bytes) -> None:
        self._front.send_multipart([peer, data])

    def _kill(self) -> None:
        self.kills += 1
        self._held.clear()
        for back in (self._front, *self._backs.values()):
            back.close(linger=0)
        self._backs.clear()
        self._front = self._bound(self.endpoint)


class Hostile(_Threaded):
    """A ROUTER that answers every message by frames of its own making."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        super().__init__()
        self._answer = answer
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(20):
                peer, *frames = self._socket.recv_multipart()
                found = self._answer(frames[-1])
                if found:
                    self._socket.send_multipart([peer, *found])
        self._socket.close(linger=0)
        self._context.term()


class Rude(_Threaded):
    """A TCP port that is no ZeroMQ: it says its piece to whoever connects, and hangs up."""

    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self._piece = piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.guests = 0
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                guest, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.guests += 1
            with guest, contextlib.suppress(OSError):
                guest.sendall(self._piece)
        self._listener.close()
