# SPDX-License-Identifier: Apache-2.0
"""Settings of the server: endpoints and limits, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from inventory.errors import BadRequest

__all__ = ["LibzmqError", "Limits", "check_endpoint"]

_TCP = re.compile(r"tcp://(?P<host>[^:\[\]]+|\[[^\]]+\]):(?P<port>[0-9]{1,5}|\*)", re.ASCII)
_KIB = 1024


class LibzmqError(RuntimeError):
    """The libzmq that pyzmq has loaded can't be used; the message says what to install."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the ZeroMQ endpoints; docs/wire.md says what is refused beyond them."""

    message_bytes_max: int = 1024 * _KIB  # of a frame: a longer one closes its connection
    requests_in_flight_max: int = 262_144  # of an endpoint
    reply_bytes_in_flight_max: int = 64 * 1024 * _KIB  # of an endpoint
    receive_queue_max: int = 256  # messages from one connection that wait to be read
    send_queue_max: int = 1_000  # messages to one connection that wait to be sent
    backlog: int = 1_024  # connections not yet accepted
    handshake_ms: int = 5_000
    heartbeat_ms: int = 10_000
    silence_ms_max: int = 30_000  # a peer that answers no heartbeat for so long is given up
    linger_ms: int = 1_000  # on stopping: for replies to leave the sockets

    def check(self) -> None:
        """Raise BadRequest for a limit out of its range."""
        ranges = {
            "message_bytes_max": (64 * _KIB, 16 * 1024 * _KIB),
            "requests_in_flight_max": (1, 1 << 24),
            "reply_bytes_in_flight_max": (64 * _KIB, 1 << 40),
            "receive_queue_max": (1, 1 << 20),
            "send_queue_max": (1, 1 << 20),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise BadRequest(field=name, figure=value, limit=least if value < least else most)


def check_endpoint(endpoint: str) -> None:
    """Raise BadRequest unless this is a TCP endpoint on the loopback interface.

    >>> check_endpoint("tcp://127.0.0.1:7707")
    >>> check_endpoint("tcp://0.0.0.0:7707")
    Traceback (most recent call last):
        ...
    inventory.errors.BadRequest: bind: tcp://0.0.0.0:7707 is not a loopback address. Beyond this \
machine peers need keys (CURVE), which this release does not have yet: bind to 127.0.0.1
    """
    match = _TCP.fullmatch(endpoint)
    if match is None:
        raise BadRequest(
            f"bind: {endpoint!r} is no endpoint; write tcp://127.0.0.1:7707", field="bind"
        )
    host = match["host"].strip("[]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False  # a name may mean anything
    if not is_loopback:
        raise BadRequest(
            f"bind: {endpoint} is not a loopback address. Beyond this machine peers need keys "
            "(CURVE), which this release does not have yet: bind to 127.0.0.1",
            field="bind",
        )
    if match["port"] != "*" and not 0 <= int(match["port"]) <= 65_535:
        raise BadRequest(f"bind: {endpoint}: no such port", field="bind")
