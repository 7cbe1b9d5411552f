# SPDX-License-Identifier: Apache-2.0
"""`events`: what happened in a store, as other systems are told it."""

from __future__ import annotations

import itertools

import click
import msgspec

from inventory.cli.changes import change_parts, time_text
from inventory.cli.common import Command, open_store, store_argument
from inventory.events import Event

__all__ = ["events"]

_LINES_AT_ONCE = 256


@click.command(
    cls=Command,
    examples=[
        "inventory events shop.inv",
        "inventory events shop.inv --after 4096 --limit 100 --json",
        "inventory events shop.inv --cloudevents --type-prefix com.example.",
    ],
)
@store_argument
@click.option(
    "--after", "after_lsn", type=click.IntRange(min=0), default=0, metavar="LSN",
    help="Events above this position only; 0: from the oldest that the log still has.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--cloudevents", is_flag=True, help="Print one CloudEvent 1.0 (JSON) a line.")
@click.option("--source", metavar="URI", help="Of CloudEvents; urn:uuid: and the store's UUID.")
@click.option("--type-prefix", default="", metavar="TEXT", help="In front of types of CloudEvents.")
def events(
    path: str,
    after_lsn: int,
    limit: int | None,
    as_json: bool,
    cloudevents: bool,
    source: str | None,
    type_prefix: str,
) -> None:
    """Show the events of the closed store at PATH, oldest first: one line each.

    Nothing is written. What the log does not prove to be on disk (a crash leaves it so) is not
    shown, and said on standard error: it becomes certain, or is dropped, when the store is opened
    for writing.

    Exit status: 0, or 3 when the store is open, is none, its log is damaged, or it no longer has
    what follows LSN.
    """

    def form(event: Event) -> str:
        if cloudevents:
            wrapped = event.to_cloudevent(source=source, type_prefix=type_prefix)
            return msgspec.json.encode(wrapped).decode()
        return msgspec.json.encode(event).decode() if as_json else _as_text(event)

    with open_store(path, read_only=True) as inv:
        with inv.events(after_lsn=after_lsn) as found:
            lines = map(form, itertools.islice(found, limit))
            while some := list(itertools.islice(lines, _LINES_AT_ONCE)):
                click.echo("\n".join(some))
        proven, end = inv.recovery.durable_proven, inv.recovery.lsn_end
    if proven < end:
        click.echo(
            f"the log above lsn {proven} ({end - proven:,} bytes) is not proven to be on disk; "
            "open the store for writing to make sure of it",
            err=True,
        )


def _as_text(event: Event) -> str:
    parts = [f"{event.lsn:>12}.{event.index}", time_text(event.now_unix_ms), f"{event.type:22}"]
    return "  ".join(parts + change_parts(event)).rstrip()
