# SPDX-License-Identifier: Apache-2.0
"""A server process and a raw client of docs/wire.md: pyzmq and msgpack, nothing of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import zmq

COMMAND = Path(sys.executable).with_name("inventory")
START_S = 30
STOP_S = 30
REPLY_MS = 20_000

Reply = list[Any]


class ServerProcess:
    """`inventory serve`, on free ports of 127.0.0.1; ended by the test that started it."""

    def __init__(self, data: Path | None, *options: str, binds: int = 1) -> None:
        place = ["--memory"] if data is None else ["--data", str(data)]
        ports = ["--bind", "tcp://127.0.0.1:*"] * binds
        self.process = subprocess.Popen(
            [str(COMMAND), "serve", *place, *ports, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the server did not start: {self.process.communicate()[1]}")
        self.ready: dict[str, Any] = json.loads(line)
        assert self.ready["event"] == "ready"
        self.endpoints: list[str] = self.ready["endpoints"]

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=STOP_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> list[dict[str, Any]]:
        """Let it answer all and close; what it said meanwhile."""
        self.terminate()
        said, errors = self.process.communicate(timeout=STOP_S)
        assert self.process.returncode == 0, errors
        return [json.loads(line) for line in said.splitlines()]

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.communicate()


class RawClient:
    """One connection."""

    def __init__(self, endpoint: str, *, queue_max: int = 100_000) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            self.socket.setsockopt(option, queue_max)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        self.correlation = 0

    def send(self, *requests: Sequence[Any]) -> None:
        self.socket.send(b"".join(msgpack.packb(list(request)) for request in requests))

    def receive(self, timeout_ms: int = REPLY_MS) -> list[Reply]:
        """Give the replies of the next message."""
        assert self.socket.poll(timeout_ms), "no reply"
        return unpack_all(self.socket.recv())

    def ask(self, *requests: Sequence[Any]) -> list[Reply]:
        self.send(*requests)
        replies = self.receive()
        assert [reply[1] for reply in replies] == [request[1] for request in requests]
        return replies

    def call(self, op: int, *values: Any, ask: Any = None) -> Reply:
        """Send one request and give its reply."""
        self.correlation += 1
        return self.ask([1, self.correlation, op, ask, *values])[0]

    def raw(self, *frames: bytes) -> list[Reply]:
        self.socket.send_multipart(frames)
        return self.receive()

    def close(self) -> None:
        self.socket.close()
        self.context.term()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def unpack_all(data: bytes) -> list[Reply]:
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    return list(unpacker)
