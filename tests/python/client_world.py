# SPDX-License-Identifier: Apache-2.0
"""A client's session, a reference node and the network between them, in virtual time.

Everything that can happen to a message happens by a seeded chance: lost, late, doubled, out of
order, cut short; links break, the node is too busy or is restarted. No sockets, no threads, no
waiting: a run of minutes takes milliseconds, and a seed gives the same run again.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from reference_node import Node

import inventory
from inventory.client._requests import OPERATIONS
from inventory.client._session import Call, Link, LinkRefused, Options, Session

TIMEOUT_MS = 5_000


class Faults:
    """How likely each fault is, of 1."""

    def __init__(self, **shares: float) -> None:
        self.drop = shares.get("drop", 0.0)
        self.double = shares.get("double", 0.0)
        self.cut = shares.get("cut", 0.0)  # a reply is truncated
        self.kill = shares.get("kill", 0.0)  # the link breaks instead of a delivery
        self.busy = shares.get("busy", 0.0)
        self.slow = shares.get("slow", 0.0)  # a message takes up to 3 s


class Asked(Call):
    """A call of the world: it remembers how and when it ended."""

    __slots__ = ("begun_ms", "ended_ms", "endings", "error", "name", "value", "world")

    def __init__(self, world: World, request: Any, timeout_ms: float) -> None:
        super().__init__(request, world.now_ms + timeout_ms)
        self.name = request
        self.world = world
        self.begun_ms = world.now_ms
        self.ended_ms = -1.0
        self.endings = 0
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self, value: Any, error: BaseException | None) -> None:
        self.endings += 1
        self.ended_ms = self.world.now_ms
        self.value, self.error = value, error


class World:
    """One session, one node over one store, a number of links."""

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        *,
        links: int = 1,
        **options: int,
    ) -> None:
        self.chance = random.Random(seed)
        self.faults = faults or Faults()
        self.now_ms = 1_000.0
        limits = {
            "timeout_ms": TIMEOUT_MS,
            "attempt_ms": 500,
            "backoff_ms": 20,
            "backoff_ms_max": 500,
            "in_flight_max": 1_000,
        } | options
        self.session = Session(Options("sim://", **limits), random.Random(seed))
        self.inv = inventory.open()
        self.node = Node(self.inv, moody=self._moody)
        self.links: list[Link] = [Link() for _ in range(links)]
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.takes_ms = 0.0  # a message, each and every; 0: as chance has it
        self.frames_sent: list[tuple[float, bytes]] = []
        self.protocol_errors = 0

    def close(self) -> None:
        self.inv.close()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- calls ----------------------------------------------------------------------------------

    def ask(self, name: str, *args: Any, timeout_ms: float = TIMEOUT_MS, **options: Any) -> Asked:
        request = OPERATIONS[name](*args, **options)
        call = Asked(self, request, timeout_ms)
        self.session.submit(call, self.now_ms)
        return call

    def run(self, until_ms: float | None = None) -> None:
        """Let time go on until all calls have ended (or until then)."""
        for _ in range(1_000_000):
            self._send()
            if until_ms is None and self.session.call_count == 0:
                return
            dues = [self.events[0][0]] if self.events else []
            timer_ms = self.session.next_ms()
            if timer_ms is not None:
                dues.append(timer_ms)
            if not dues or (until_ms is not None and min(dues) > until_ms):
                assert until_ms is not None, "calls that nothing will ever end"
                self.now_ms = until_ms
                return
            self.now_ms = max(self.now_ms, min(dues))
            while self.events and self.events[0][0] <= self.now_ms:
                heapq.heappop(self.events)[2]()
            self.session.tick(self.now_ms)
        raise AssertionError("it goes on for ever")

    # ---- the network ----------------------------------------------------------------------------

    def _later(self, act: Callable[[], None]) -> None:
        slow = self.chance.random() < self.faults.slow
        takes_ms = self.chance.uniform(0.1, 3_000 if slow else 5)
        self.at(self.now_ms + (self.takes_ms or takes_ms), act)

    def at(self, due_ms: float, act: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (due_ms, self.count, act))

    def _copies(self) -> int:
        if self.chance.random() < self.faults.drop:
            return 0
        return 2 if self.chance.random() < self.faults.double else 1

    def _send(self) -> None:
        for link in list(self.links):
            while self.session.wants_to_send(link):
                frame = self.session.frame(link, self.now_ms)
                if frame is None:
                    break
                self.frames_sent.append((self.now_ms, frame))
                if link.node is None:  # whoever drives a session gives up a link without a HELLO
                    self.at(self.now_ms + 500, lambda link=link: self._unanswered(link))  # type: ignore[misc]
                for _ in range(self._copies()):
                    self._later(lambda link=link, frame=frame: self._arrive(link, frame))  # type: ignore[misc]

    def _unanswered(self, link: Link) -> None:
        if link.node is None:
            self.break_link(link)

    def _arrive(self, link: Link, frame: bytes) -> None:
        """At the node. What was sent on a link that broke meanwhile may still arrive."""
        if self.chance.random() < self.faults.kill:
            self.break_link(link)
            return
        reply = self.node.answer([frame])
        for _ in range(self._copies()):
            data = reply
            if self.chance.random() < self.faults.cut:
                data = reply[: self.chance.randrange(len(reply))]
            self._later(lambda data=data: self.deliver(link, data))  # type: ignore[misc]

    def deliver(self, link: Link, data: bytes) -> None:
        """At the session. Nothing comes through a link that is gone."""
        if link not in self.links:
            return
        try:
            self.session.received(link, data, self.now_ms)
        except LinkRefused:
            self.break_link(link)
        except inventory.InventoryError as error:
            self.protocol_errors += 1
            self.break_link(link, error)

    def break_link(self, link: Link, error: inventory.InventoryError | None = None) -> None:
        if link in self.links:
            self.links[self.links.index(link)] = Link()
            self.session.lost(link, self.now_ms, error)

    def _moody(self) -> int:
        if self.chance.random() >= self.faults.busy:
            return 0
        return self.chance.choice([50, 51, 60])
