# SPDX-License-Identifier: Apache-2.0
"""`log`: what happened in a store, entry by entry."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator

import click
import msgspec

import inventory
from inventory.cli.changes import change_parts, time_text, word
from inventory.cli.common import Command, store_argument
from inventory.models import LogEntry, LogRecord

__all__ = ["log"]

_UUID_CHARS = 36
_LINES_AT_ONCE = 256


@click.command(
    cls=Command,
    examples=[
        "inventory log shop.inv",
        "inventory log shop.inv --reservation cart-17",
        "inventory log shop.inv --sku TEE --limit 10 --json",
    ],
)
@store_argument
@click.option(
    "--after-lsn", type=click.IntRange(min=0), default=0, metavar="LSN",
    help="Leave out records that end at or before this position.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N entries.")
@click.option("--reservation", metavar="ID", help="Entries of this reservation only.")
@click.option("--sku", metavar="SKU", help="Entries with a line of this SKU only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def log(
    path: str,
    after_lsn: int,
    limit: int | None,
    reservation: str | None,
    sku: str | None,
    as_json: bool,
) -> None:
    """Show the log of the closed store at PATH: one line an entry, oldest first.

    Bytes after the end that are no whole record (a crash leaves them; nobody was told of them) are
    noted on standard error. What is whole before some damage is shown, then the damage is named.

    Exit status: 0, or 3 when the store is open, is none, or its log is damaged.
    """
    form = _as_json if as_json else _as_text
    lines: list[str] = []
    with inventory.log.read(path, after_lsn=after_lsn) as records:
        chosen = (form(*pair) for pair in _choose(records, _ids(reservation), sku))
        try:
            for line in itertools.islice(chosen, limit):
                lines.append(line)
                if len(lines) == _LINES_AT_ONCE:
                    _print(lines)
        finally:
            _print(lines)  # also what is whole before some damage
        tail = records.tail
    if tail is not None and tail.torn_bytes:
        click.echo(
            f"the log ends at lsn {tail.lsn_end}; {tail.torn_bytes:,} bytes after it are no whole "
            f"record, {tail.torn_records:,} whole records lie beyond: never acknowledged",
            err=True,
        )
    if tail is not None and tail.skipped_records:
        click.echo(
            f"{tail.skipped_records:,} records are of a later release and were skipped: they say "
            "that they need not be understood",
            err=True,
        )


def _choose(
    records: Iterable[LogRecord], reservation_ids: tuple[str, ...], sku: str | None
) -> Iterator[tuple[LogRecord, LogEntry]]:
    for record in records:
        for entry in record.entries:
            if reservation_ids and entry.reservation_id not in reservation_ids:
                continue
            if sku is None or any(line.sku == sku for line in entry.lines):
                yield record, entry


def _print(lines: list[str]) -> None:
    if lines:
        click.echo("\n".join(lines))
    lines.clear()


def _ids(reservation: str | None) -> tuple[str, ...]:
    """The id as given, and as the engine shows it if it is a UUID."""
    if reservation is None:
        return ()
    if len(reservation) == _UUID_CHARS:
        try:
            return reservation, str(uuid.UUID(reservation))
        except ValueError:
            pass
    return (reservation,)


# ---- an entry as a line -------------------------------------------------------------------------


def _as_json(record: LogRecord, entry: LogEntry) -> str:
    place = {
        "now_unix_ms": record.now_unix_ms,
        "record_lsn": record.lsn,
        "epoch": record.epoch,
        "segment": record.segment,
        "offset": record.offset,
    }
    return msgspec.json.encode(msgspec.structs.asdict(entry) | place).decode()


def _as_text(record: LogRecord, entry: LogEntry) -> str:
    parts = [f"{entry.lsn:>12}", time_text(record.now_unix_ms), f"{entry.kind:10}"]
    if entry.name is not None:
        parts.append(f"{entry.name_kind} {entry.number} = {word(entry.name)}")
    if entry.wall_unix_ms is not None:
        parts.append(f"clock={time_text(entry.wall_unix_ms)}")
    if entry.format is not None:
        parts.append(f"format {entry.format}")
    parts += change_parts(entry)
    return "  ".join(parts).rstrip()
