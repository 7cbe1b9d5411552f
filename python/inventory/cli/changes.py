# SPDX-License-Identifier: Apache-2.0
"""A change as text on one line: what `log` and `events` print alike."""

from __future__ import annotations

import datetime
import json

from inventory.models import Event, EventLine, LogEntry, LogLine

__all__ = ["change_parts", "time_text", "word"]


def change_parts(change: LogEntry | Event) -> list[str]:
    """Give what happened to which reservation and stock, and by whom, from its id on."""
    parts = []
    if change.reservation_id is not None:
        parts.append(word(change.reservation_id))
    if change.state is not None:
        parts.append(f"-> {change.state}")
    parts += map(_line, change.lines)
    if change.expires_at_unix_ms is not None:
        parts.append(f"expires={time_text(change.expires_at_unix_ms)}")
    if change.seller != "default":
        parts.append(f"seller={word(change.seller)}")
    for name in ("op_id", "account", "reason", "reference"):
        value = getattr(change, name)
        if value:
            parts.append(f"{name}={word(value)}")
    return parts


def _line(line: LogLine | EventLine) -> str:
    place = "everywhere" if line.location is None else word(line.location)
    return f"{line.op} {line.qty:,} {word(line.sku)} {place}"


def time_text(unix_ms: int) -> str:
    """Give a moment in UTC; one that no calendar has, as a number."""
    try:
        moment = datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03}Z"


def word(text: str) -> str:
    """Give a name that can't spoil the line or the terminal: quoted if it is not one plain word."""
    return text if text.isprintable() and " " not in text and text else json.dumps(text)
