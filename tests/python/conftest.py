# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a store over a clock that stands still and a disk in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import inventory
from inventory.testing import ManualClock, MemoryStorage

START_UNIX_MS = 1_760_000_000_000
SEGMENT_BYTES = 256 * 1024

OpenStore = Callable[..., inventory.Inventory]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_UNIX_MS)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def open_store(clock: ManualClock, storage: MemoryStorage) -> Iterator[OpenStore]:
    """Opens the one store of the test, as often as it likes; closes what is left open."""
    opened: list[inventory.Inventory] = []

    def open_store(**options: Any) -> inventory.Inventory:
        usual: dict[str, Any] = {
            "clock": clock,
            "storage": storage,
            "segment_bytes": SEGMENT_BYTES,
        }
        options = usual | options
        opened.append(inventory.open(**options))
        return opened[-1]

    yield open_store
    for inv in opened:
        inv.close()


@pytest.fixture
def inv(open_store: OpenStore) -> inventory.Inventory:
    """A durable store with 10 TEE and 5 MUG in LON, 4 TEE in PAR."""
    inv = open_store()
    inv.receive("TEE", "LON", 10)
    inv.receive("MUG", "LON", 5)
    inv.receive("TEE", "PAR", 4)
    return inv
