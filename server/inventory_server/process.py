# SPDX-License-Identifier: Apache-2.0
"""The server's process: wiring, signals, the order of ending.

A store that has failed ends the process at once with status 74, without a flush and without a word
to anybody who waits: the outcome of what was under way is unknown, and silence says so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from inventory import Inventory

from .config import Limits
from .zmq_front import FAILED, ZmqFront

__all__ = ["EXIT_STORE_FAILED", "serve"]

EXIT_STORE_FAILED = 74  # EX_IOERR: a sync failed; the supervisor may start it again, not for ever
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _say(event: str, **fields: object) -> None:
    """One line of JSON on standard output."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_if_failed(code: int) -> None:
    if code != FAILED:
        return
    # Not through sys.stderr: nothing may hold this up.
    os.write(2, b'{"event": "failed", "code": "STORE_FAILED", "exit_status": 74}\n')
    os._exit(EXIT_STORE_FAILED)


def serve(
    open_store: Callable[[], Inventory],
    binds: Sequence[str],
    *,
    limits: Limits | None = None,
) -> None:
    """Open the store and serve it until SIGTERM or SIGINT; then answer all, close, and return.

    Must be called from the main thread. Says `ready` with its endpoints when it takes requests.
    """
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    def on_end(code: int) -> None:
        _end_if_failed(code)
        ended.set()

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        with open_store() as inv:
            front = ZmqFront(inv, binds, limits=limits, on_end=on_end)
            front.start()
            try:
                recovery = inv.recovery
                _say("ready", endpoints=front.endpoints, pid=os.getpid(), epoch=recovery.epoch,
                     lsn=recovery.lsn_end, clean_shutdown=recovery.clean_shutdown)  # fmt: skip
                ended.wait()
                _say("stopping", **front.counts())
            finally:
                front.stop()
        _say("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
