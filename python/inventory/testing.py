# SPDX-License-Identifier: Apache-2.0
"""Tools to test your own code against a real engine: a clock that stands still, a disk that loses
power, and Hypothesis strategies for everything the engine accepts.

The strategies need ``hypothesis``; it is imported when one of them is called.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from ._core import Memory
from .models import Line

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from .store import Inventory

__all__ = ["ManualClock", "MemoryStorage", "lines", "locations", "quantities", "skus"]


class ManualClock:
    """A clock that stands still until it is told to move.

    Give it to :func:`inventory.open`; several stores may share one, also one after the other.

    Args:
        start_unix_ms: milliseconds since 1970, 1 to 2**48 - 1; default: 2024-01-01.

    >>> clock = ManualClock(start_unix_ms=1_000_000)
    >>> with inventory.open(clock=clock) as shop:
    ...     change = shop.receive("MUG", "LON", 1)
    ...     hold = shop.reserve("MUG", 1, ttl_ms=600_000)
    ...     clock.advance(600_000)
    ...     shop.availability("MUG", "LON").available_to_promise
    1
    """

    def __init__(self, start_unix_ms: int = 1_704_067_200_000) -> None:
        if not isinstance(start_unix_ms, int) or isinstance(start_unix_ms, bool):
            raise TypeError(f"start_unix_ms must be int, not {type(start_unix_ms).__name__}")
        if not 1 <= start_unix_ms < 1 << 48:
            raise ValueError(f"start_unix_ms is {start_unix_ms}, must be 1 to 2**48 - 1")
        self._now_unix_ms = start_unix_ms
        self._wall_offset_ms = 0
        self._lock = threading.Lock()
        self._stores: weakref.WeakSet[Inventory] = weakref.WeakSet()

    @property
    def now_unix_ms(self) -> int:
        """Milliseconds since 1970 by this clock."""
        return self._now_unix_ms

    @property
    def wall_unix_ms(self) -> int:
        """What the wall clock beside it shows: the same, until :meth:`step_wall` sets it."""
        return max(0, self._now_unix_ms + self._wall_offset_ms)

    def advance(self, ms: int) -> None:
        """Move the clock forward; return when everything due has expired in every open store on it.

        Args:
            ms: 0 or more milliseconds.

        Raises:
            ValueError: negative: time never runs backwards. StoreFailed, DiskFull of a store.
        """
        if not isinstance(ms, int) or isinstance(ms, bool):
            raise TypeError(f"ms must be int, not {type(ms).__name__}")
        if ms < 0:
            raise ValueError(f"ms is {ms}: time never runs backwards")
        with self._lock:
            self._now_unix_ms += ms
            for store in list(self._stores):
                store._advance_to(self._now_unix_ms)

    def step_wall(self, ms: int) -> None:
        """Set the wall clock, as an administrator or NTP does. Time itself stands still.

        Engine time does not follow: what stores do with it is in ``metrics`` (``clock_drift_ms``)
        and, for one opened afterwards, in ``recovery``.

        Args:
            ms: how far forward, or (negative) back, but not before 1970.

        Raises:
            ValueError: before 1970, or beyond 2**48 - 1 ms after it.

        >>> clock = ManualClock(start_unix_ms=1_000_000)
        >>> with inventory.open(clock=clock) as shop:
        ...     clock.step_wall(-400_000)
        ...     clock.advance(1_000)
        ...     shop.metrics().clock_drift_ms, clock.wall_unix_ms
        (-400000, 601000)
        """
        if not isinstance(ms, int) or isinstance(ms, bool):
            raise TypeError(f"ms must be int, not {type(ms).__name__}")
        with self._lock:
            wall_unix_ms = self._now_unix_ms + self._wall_offset_ms + ms
            if not 0 <= wall_unix_ms < 1 << 48:
                raise ValueError(f"the wall clock would show {wall_unix_ms}, 0 to 2**48 - 1 it can")
            self._wall_offset_ms += ms
            for store in list(self._stores):
                store._set_wall_offset(self._wall_offset_ms)

    def _watch(self, store: Inventory) -> None:
        with self._lock:
            self._stores.add(store)
            store._set_wall_offset(self._wall_offset_ms)
            store._advance_to(self._now_unix_ms)

    def __repr__(self) -> str:
        return f"ManualClock(start_unix_ms={self._now_unix_ms})"


class MemoryStorage(Memory):
    """A disk in memory, for the whole durable engine without files. It outlives its stores.

    >>> storage = MemoryStorage()
    >>> shop = inventory.open(storage=storage)
    >>> change = shop.receive("MUG", "LON", 3)
    >>> storage.power_cut()
    >>> with inventory.open(storage=storage) as shop:
    ...     shop.availability("MUG", "LON").on_hand
    3
    """

    def __init__(self) -> None:
        self._stores: weakref.WeakSet[Inventory] = weakref.WeakSet()

    def power_cut(self, seed: int = 0) -> None:
        """Cut the power: what was never synced is lost.

        Stores open on this storage end as in a crash: calls inside finish, later ones raise
        StoreClosed. Open the storage again to see what was left.

        Args:
            seed: 0 loses everything unsynced. Any other number, 1 to 2**64 - 1, keeps each unsynced
                sector (512 bytes) and change of a file name with probability 1/2, the same ones
                for the same seed.

        Raises:
            RuntimeError: calls of other threads do not end within 10 s.
        """
        for store in list(self._stores):
            store._abandon()
        self._power_cut(seed)

    def set_capacity(self, capacity_bytes: int) -> None:
        """Limit the bytes this disk holds; what does not fit raises DiskFull. 0: no limit."""
        self._set_capacity(capacity_bytes)

    def _watch(self, store: Inventory) -> None:
        self._stores.add(store)


def skus(*, bytes_max: int = 128) -> SearchStrategy[str]:
    """SKUs the engine accepts: text of 1 to ``bytes_max`` (at most 128) bytes of UTF-8."""
    return _names(bytes_max)


def locations(*, bytes_max: int = 64) -> SearchStrategy[str]:
    """Locations the engine accepts: text of 1 to ``bytes_max`` (at most 64) bytes of UTF-8."""
    return _names(bytes_max)


def quantities(*, qty_max: int = 2_147_483_647) -> SearchStrategy[int]:
    """Quantities the engine accepts: 1 to ``qty_max`` units."""
    import hypothesis.strategies as st

    return st.integers(min_value=1, max_value=qty_max)


def lines(
    *,
    sku: SearchStrategy[str] | None = None,
    location: SearchStrategy[str | None] | None = None,
    qty: SearchStrategy[int] | None = None,
    count_max: int = 16,
) -> SearchStrategy[list[Line]]:
    """Lines of a cart for ``reserve_lines``: 1 to ``count_max`` (at most 4,096) of them.

    Args:
        sku, location, qty: strategies for the parts; by default any the engine accepts, a location
            in about half of the lines.
    """
    import hypothesis.strategies as st

    line = st.builds(
        Line,
        sku=skus() if sku is None else sku,
        qty=quantities() if qty is None else qty,
        location=st.none() | locations() if location is None else location,
    )
    return st.lists(line, min_size=1, max_size=count_max)


def _names(bytes_max: int) -> SearchStrategy[str]:
    import hypothesis.strategies as st

    return st.text(st.characters(codec="utf-8"), min_size=1, max_size=bytes_max).filter(
        lambda text: len(text.encode()) <= bytes_max
    )
