# SPDX-License-Identifier: Apache-2.0
"""A disk that is slow on purpose: nothing becomes durable until the test lets it.

Used by ``bench_aio.py`` and by tests, to have many calls in flight at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


class HeldDisk:
    """Holds back the log writer of the stores opened inside ``with disk.holding():``."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self._lost = False

    @contextmanager
    def holding(self) -> Iterator[None]:
        disk = self

        class Held(threading.Thread):
            def run(self) -> None:
                if self.name == "inventory-flusher":
                    disk._released.wait()
                    if disk._lost:
                        return
                super().run()

        with mock.patch.object(threading, "Thread", Held):
            yield

    def release(self) -> None:
        self._released.set()

    def lose(self) -> None:
        """Nothing is written any more."""
        self._lost = True
        self._released.set()
