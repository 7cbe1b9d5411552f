# SPDX-License-Identifier: Apache-2.0
"""Events of an open store, and consumers whose positions it keeps. docs/events.md tells it whole.

>>> with inventory.open(path) as shop:
...     change = shop.receive("MUG", "LON", 5)
...     hold = shop.reserve("MUG", 2, reservation_id="cart-1")
...     for event in shop.events():
...         print(event.type, event.lines[0].qty)
stock.received 5
reservation.held 2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ._events import (
    EVENT_TYPES,
    EventReader,
    consumer_acknowledge,
    consumer_open,
    consumer_remove,
    consumer_reset,
    consumers,
)
from .errors import BadRequest
from .models import ConsumerInfo, Event, EventLine
from .store import _flag, _whole

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .store import Inventory

__all__ = [
    "EVENT_TYPES",
    "Consumer",
    "ConsumerInfo",
    "Event",
    "EventLine",
    "Events",
    "consumers",
    "json_schema",
]

_BATCH_MOST = 1_000_000
_AHEAD = 256  # events an iterator takes at once: they are in memory already
_FOR_EVER_MS = (1 << 64) - 1


def json_schema() -> dict[str, Any]:
    """The JSON Schema of :class:`Event` as JSON (``data`` of its CloudEvent).

    >>> inventory.events.json_schema()["$ref"]
    '#/$defs/Event'
    """
    schema = msgspec.json.schema(Event)
    for part in schema["$defs"].values():
        if "description" in part:  # the docstring: its first paragraph, on one line
            part["description"] = " ".join(part["description"].split("\n\n")[0].split())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class Events:
    """An iterator over events. Made by :meth:`Inventory.events`; one thread at a time.

    Any thread may :meth:`close` it: a wait under way ends then. As a context manager it closes
    itself; closing frees about 1 MiB.
    """

    def __init__(
        self,
        inv: Inventory,
        *,
        after: tuple[int, int | None] = (0, None),
        follow: bool = False,
        timeout_s: float | None = None,
        consumer: str | None = None,
    ) -> None:
        if _flag("follow", follow) and inv._handle.read_only:
            raise BadRequest("follow: in a store opened read-only nothing happens", field="follow")
        self._wait_ms = _milliseconds(timeout_s) if follow else 0
        self._ready: list[Event] = []  # the next one last
        self._reader = EventReader(inv, after[0], after[1], consumer, follow)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if not self._ready:
            self._ready = self._reader.take(_AHEAD, self._wait_ms)
            self._ready.reverse()
        if not self._ready:
            raise StopIteration
        return self._ready.pop()

    def batch(self, most: int = 1000, *, timeout_s: float = 0.0) -> list[Event]:
        """Give the next events, in order: all that are there, but at most so many.

        Args:
            most: 1 to 1,000,000.
            timeout_s: wait so long until there is one; 0: do not wait.

        Returns:
            A list of Event; empty when there is none.

        Raises:
            As :meth:`Inventory.events`.

        >>> with inventory.open(path) as shop:
        ...     change = shop.receive("MUG", "LON", 5)
        ...     with shop.events(follow=True) as events:
        ...         len(events.batch()), len(events.batch(timeout_s=0.01))
        (1, 0)
        """
        if _whole("most", most, _BATCH_MOST) < 1:
            raise BadRequest(field="most", figure=most, limit=1)
        wait_ms = _milliseconds(timeout_s)
        if self._ready:
            found = self._ready[: -most - 1 : -1]
            del self._ready[-most:]
            return found
        return self._reader.take(most, wait_ms)

    @property
    def ended(self) -> bool:
        """Whether there can be no more: all that was durable at the beginning has been given."""
        return self._reader.ended and not self._ready

    def close(self) -> None:
        """Give no more, and free the memory. A second close does nothing."""
        self._ready = []
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Consumer:
    """A reader of events whose position the store keeps. Made by :meth:`Inventory.consumer`.

    Work off an event (or a batch of them), then acknowledge it: after a crash events begin behind
    the last one acknowledged. An event may so be seen twice, and none is left out. To act once on
    each, store its position together with what it did: docs/events.md shows how.

    Log that is not acknowledged stays, until the consumer is more than ``consumer_log_bytes_max``
    behind. Then it is cut off: events and acknowledgements raise EventsTrimmed until :meth:`reset`.
    """

    def __init__(self, inv: Inventory, name: str, *, after_lsn: int = 0) -> None:
        consumer_open(inv, name, after_lsn)
        self._inv = inv
        self.name = name

    @property
    def info(self) -> ConsumerInfo:
        """Position, lag and state at present. Raises BadRequest when it was removed."""
        for info in consumers(self._inv):
            if info.name == self.name:
                return info
        raise BadRequest(f"name: there is no consumer {self.name!r}", field="name")

    @property
    def position(self) -> tuple[int, int | None]:
        """``(lsn, index)`` acknowledged; index ``None``: all events of the entry ending there."""
        info = self.info
        return info.lsn, info.index

    def events(self, *, follow: bool = False, timeout_s: float | None = None) -> Events:
        """Read events behind the acknowledged position.

        Args:
            follow: go on with what happens from now on.
            timeout_s: of ``follow``: end when for so long nothing happened. ``None``: never.

        Returns:
            An Events, as of :meth:`Inventory.events`.

        Raises:
            EventsTrimmed: cut off (also while iterating). LogCorrupt: its file is damaged.
            BadRequest: removed, or (while iterating) reset meanwhile. Else as
            :meth:`Inventory.events`.

        >>> with inventory.open(path) as shop:
        ...     change = shop.receive("MUG", "LON", 5)
        ...     [event.type for event in shop.consumer("search-index").events()]
        ['stock.received']
        """
        return Events(self._inv, follow=follow, timeout_s=timeout_s, consumer=self.name)

    def acknowledge(self, done: Event | int) -> None:
        """Say that an event and all before it are worked off: they need not be seen again.

        Args:
            done: an event, or an lsn: all events up to it. One behind the position changes nothing.

        Raises:
            EventsTrimmed (cut off), LogCorrupt (damaged), BadRequest (removed; an lsn that is not
            durable yet), Forbidden (read_only), DiskFull, IoError, StoreClosed, StoreFailed,
            TypeError.

        Durability: the position is on disk when this returns: one small synced write, however many
        events it covers. Acknowledge batches where that matters.

        >>> with inventory.open(path) as shop:
        ...     reader = shop.consumer("search-index")
        ...     reader.acknowledge(shop.receive("MUG", "LON", 5).lsn)
        ...     list(reader.events())
        []
        """
        if isinstance(done, Event):
            consumer_acknowledge(self._inv, self.name, done.lsn, done.index)
        else:
            consumer_acknowledge(self._inv, self.name, _whole("done", done), None)

    def reset(self, *, after_lsn: int = 0) -> None:
        """Place the consumer anew, forward or back: the only way on for one that was cut off.

        Args:
            after_lsn: 0: before the oldest event that the log still has.

        Raises:
            EventsTrimmed: the log does not reach back so far. Else as :meth:`acknowledge`.

        Durability: as :meth:`acknowledge`.

        >>> with inventory.open(path) as shop:
        ...     change = shop.receive("MUG", "LON", 5)
        ...     reader = shop.consumer("search-index", after_lsn=change.lsn)
        ...     reader.reset()
        ...     len(list(reader.events()))
        1
        """
        consumer_reset(self._inv, self.name, _whole("after_lsn", after_lsn))

    def remove(self) -> None:
        """Forget the consumer: nothing is kept for it any more.

        Raises:
            BadRequest: there is none. Else as :meth:`acknowledge`.

        Durability: as :meth:`acknowledge`.

        >>> with inventory.open(path) as shop:
        ...     shop.consumer("search-index").remove()
        ...     shop.consumers()
        []
        """
        consumer_remove(self._inv, self.name)

    def __repr__(self) -> str:
        return f"<inventory.events.Consumer {self.name!r}>"


def _milliseconds(timeout_s: float | None) -> int:
    if timeout_s is None:
        return _FOR_EVER_MS
    if not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool):
        raise TypeError(f"timeout_s must be a number, not {type(timeout_s).__name__}")
    if not 0 <= timeout_s <= 1e9:
        raise BadRequest("timeout_s: 0 to 1,000,000,000, or None", field="timeout_s")
    return round(timeout_s * 1000)
