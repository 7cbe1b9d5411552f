# SPDX-License-Identifier: Apache-2.0
"""`fsck` and `recover`: the files of a store, and what to do when they are damaged."""

from __future__ import annotations

import click
import msgspec

import inventory
from inventory.cli.common import (
    EXIT_BROKEN,
    EXIT_DONE,
    Command,
    json_option,
    open_store,
    show,
    store_argument,
)
from inventory.models import FsckItem

__all__ = ["fsck", "recover"]


@click.command(cls=Command, examples=["inventory fsck shop.inv"])
@store_argument
@json_option
def fsck(path: str, as_json: bool) -> None:
    """Look at every file of the closed store at PATH; nothing is changed.

    Shows each file with what is wrong with it, then whether the store can be opened, and if not,
    where a loss could be accepted. Nothing is replayed: `verify` proves the counters.

    Exit status: 0 it can be opened, 1 it is damaged, 3 it is open or none.
    """
    report = inventory.fsck(path)
    if as_json:
        show(report, as_json)
    else:
        for item in report.items:
            click.echo(_line(item))
        for name, figure in msgspec.structs.asdict(report).items():
            if name != "items":
                text = f"{figure:,}" if type(figure) is int else str(figure)
                click.echo(f"{name:22}{text}".rstrip())
    if not report.ok and not as_json:
        if report.accept_loss_lsn:
            lost = f"lsn {report.accept_loss_lsn} to {max(report.durable, report.lsn_end)}"
            click.echo(
                f"lost for good if accepted, after a copy of the directory: {lost}\n"
                f"  inventory recover {click.format_filename(path)} "
                f"--accept-loss {report.accept_loss_lsn}",
                err=True,
            )
        else:
            click.echo("nothing that is left can be opened: restore a backup", err=True)
    raise SystemExit(EXIT_DONE if report.ok else EXIT_BROKEN)


def _line(item: FsckItem) -> str:
    state = "ok" if item.ok else "DAMAGED"
    figures = f"lsn {item.lsn} to {item.lsn_end}  {item.records:,} records  {item.bytes:,} bytes"
    return f"{item.name:24}{state:9}{figures}  {item.problem}".rstrip()


@click.command(
    cls=Command,
    examples=["inventory recover shop.inv", "inventory recover shop.inv --json"],
)
@store_argument
@click.option(
    "--accept-loss", type=click.IntRange(min=1), metavar="LSN",
    help="The log is damaged at LSN, as fsck says: end it there. What was durable behind is lost.",
)  # fmt: skip
@json_option
def recover(path: str, accept_loss: int | None, as_json: bool) -> None:
    """Recover the store at PATH and close it properly; say what was found.

    Any opening recovers a store; this one can also give up what is damaged, with --accept-loss and
    the lsn that `inventory fsck` says. Copy the directory first: the files of the lost part are
    removed.

    Exit status: 0, or 3 when the store can't be opened, or nothing is damaged at LSN.
    """
    with open_store(path, accept_loss_lsn=accept_loss or 0) as inv:
        show(inv.recovery, as_json)
