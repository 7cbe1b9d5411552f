# SPDX-License-Identifier: Apache-2.0
# Stub of the compiled module. The documentation is in the docstrings of _events.pyx.

from typing_extensions import disjoint_base

from ._core import Store
from .models import ConsumerInfo, Event

EVENT_TYPES: tuple[str, ...]

@disjoint_base
class EventReader:
    ended: bool
    def __init__(
        self,
        store: Store,
        after_lsn: int,
        after_index: int | None,
        consumer: str | None,
        follow: bool,
    ) -> None: ...
    def close(self) -> None: ...
    def take(self, most: int, timeout_ms: int) -> list[Event]: ...

def consumer_open(store: Store, name: str, after_lsn: int) -> None: ...
def consumer_acknowledge(store: Store, name: str, lsn: int, index: int | None) -> None: ...
def consumer_reset(store: Store, name: str, after_lsn: int) -> None: ...
def consumer_remove(store: Store, name: str) -> None: ...
def consumers(store: Store) -> list[ConsumerInfo]: ...
