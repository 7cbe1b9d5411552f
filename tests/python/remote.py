# SPDX-License-Identifier: Apache-2.0
"""Nodes of both kinds for tests of clients, and a store that is asked through a client.

``native``: the server itself. ``reference``: the second implementation (reference_node.py).
"""

from __future__ import annotations

import threading
from typing import Any

from reference_node import Node, Served

import inventory
from inventory.testing import ManualClock
from inventory_server.zmq_front import ZmqFront

KINDS = ["reference", "native"]


class Native:
    """The server's front end over an open store."""

    def __init__(self, inv: inventory.Inventory, endpoint: str, clock: ManualClock | None) -> None:
        self._front: ZmqFront | None = ZmqFront(inv, [endpoint])
        self._clock = clock
        (self.endpoint,) = self._front.endpoints
        self._front.start()

    def close(self) -> int:
        """End it. A server waits for what is under way by the store's clock: one that stands still
        is moved on. Returns by how many milliseconds."""
        front, self._front = self._front, None
        if front is None:
            return 0
        stopper = threading.Thread(target=front.stop)
        stopper.start()
        moved_ms = 0
        while stopper.is_alive():
            stopper.join(0.01)
            if self._clock is not None and stopper.is_alive():
                self._clock.advance(100)
                moved_ms += 100
        return moved_ms

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def serve(
    kind: str,
    inv: inventory.Inventory,
    endpoint: str = "tcp://127.0.0.1:*",
    clock: ManualClock | None = None,
) -> Any:
    """A node over an open store: it has an ``endpoint`` and can be closed."""
    if kind == "native":
        return Native(inv, endpoint, clock)
    return Served(Node(inv), endpoint)


class Remote:
    """Every operation goes through a client; what is not remote asks the store itself."""

    def __init__(
        self,
        kind: str,
        inv: inventory.Inventory,
        clock: ManualClock | None = None,
        **options: Any,
    ) -> None:
        self.inv = inv
        self.served = serve(kind, inv, clock=clock)
        self.client = inventory.Client(self.served.endpoint, **options)

    def __getattr__(self, name: str) -> Any:
        owner = self.client if name in dir(inventory.Client) else self.inv
        return getattr(owner, name)

    def stop_serving(self) -> int:
        """End client and node, not the store. Returns by how many ms the clock had to be moved."""
        self.client.close()
        return self.served.close() or 0

    def close(self) -> None:
        self.stop_serving()
        self.inv.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
