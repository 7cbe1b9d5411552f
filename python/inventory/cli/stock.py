# SPDX-License-Identifier: Apache-2.0
"""`init`, `snapshot` and the commands that change stock. Each opens the store, acts, closes it.

All are durable when they return.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

import inventory
from inventory.cli.common import (
    SEGMENT_BYTES,
    Command,
    Refusal,
    actor_options,
    json_option,
    open_store,
    show,
    store_argument,
)

__all__ = [
    "adjust",
    "finalize",
    "init",
    "issue",
    "receive",
    "set_on_hand",
    "set_policy",
    "snapshot",
]

_F = TypeVar("_F", bound=Callable[..., Any])


def op_id_option(function: _F) -> _F:
    """The idempotency key of a stock change."""
    return click.option("--op-id", metavar="ID", help="Idempotency key: the same again acts once.")(
        function
    )


@click.command(cls=Command, examples=["inventory init new.inv"])
@click.argument("path", type=click.Path(file_okay=False))
@json_option
def init(path: str, as_json: bool) -> None:
    """Create an empty store at PATH, a new directory or an empty one.

    Its parent directory must exist. Exit status: 0, or 3 when PATH is not empty or can't be made.
    """
    if os.path.isdir(path) and os.listdir(path):
        raise Refusal("IO_ERROR", f"{click.format_filename(path)} is not empty", field="path")
    with inventory.open(path, segment_bytes=SEGMENT_BYTES) as inv:
        show(inv.recovery, as_json)


@click.command(cls=Command, examples=["inventory snapshot shop.inv"])
@store_argument
@json_option
def snapshot(path: str, as_json: bool) -> None:
    """Write the whole closed store at PATH into a snapshot, and trim its log.

    The state comes back from the newest snapshot and the log behind it; two are kept, so the log
    goes as far as the one before. An open store does it by itself (option snapshot_log_bytes).

    Exit status: 0, or 3 when the store or the snapshot fails; the last one stays then.
    """
    with open_store(path) as inv:
        show(inv.snapshot(), as_json)


@click.command(cls=Command, examples=["inventory finalize shop.inv"])
@store_argument
@json_option
def finalize(path: str, as_json: bool) -> None:
    """Put the newest file format this release knows in force in the closed store at PATH.

    After an upgrade the files stay readable for the release before, so that it can be undone: until
    this is done, and not after. Prints the format in force; again, it changes nothing.

    Exit status: 0, or 3 when the store can't be opened or written.
    """
    with open_store(path) as inv:
        show(inv.finalize(), as_json)


@click.command(cls=Command, examples=["inventory receive shop.inv TEE LON 100 --op-id po-7"])
@store_argument
@click.argument("sku")
@click.argument("location")
@click.argument("qty", type=int)
@op_id_option
@actor_options
def receive(path: str, sku: str, location: str, qty: int, as_json: bool, **options: Any) -> None:
    """Receive QTY units of SKU at LOCATION; creates both if they are new."""
    with open_store(path) as inv:
        show(inv.receive(sku, location, qty, **options), as_json)


@click.command(cls=Command, examples=["inventory issue shop.inv TEE LON 1 --reason sample"])
@store_argument
@click.argument("sku")
@click.argument("location")
@click.argument("qty", type=int)
@op_id_option
@actor_options
def issue(path: str, sku: str, location: str, qty: int, as_json: bool, **options: Any) -> None:
    """Issue QTY units of SKU from LOCATION without a reservation; never promised units."""
    with open_store(path) as inv:
        show(inv.issue(sku, location, qty, **options), as_json)


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True},  # a DELTA of -3 looks like an option
    examples=["inventory adjust shop.inv TEE LON -1 --reason damaged"],
)
@store_argument
@click.argument("sku")
@click.argument("location")
@click.argument("delta", type=int)
@click.option("--strict", is_flag=True, help="Refuse to break promises.")
@op_id_option
@actor_options
def adjust(path: str, sku: str, location: str, delta: int, as_json: bool, **options: Any) -> None:
    """Correct the units of SKU on hand at LOCATION by DELTA, which may be negative.

    Physical truth wins: a correction may leave fewer units than are promised (short), unless
    --strict is given.
    """
    with open_store(path) as inv:
        show(inv.adjust(sku, location, delta, **options), as_json)


@click.command(cls=Command, examples=["inventory set-on-hand shop.inv TEE PAR 7 --if-on-hand 0"])
@store_argument
@click.argument("sku")
@click.argument("location")
@click.argument("qty", type=int)
@click.option("--if-on-hand", type=int, required=True, help="Only if this is the figure now.")
@op_id_option
@actor_options
def set_on_hand(
    path: str, sku: str, location: str, qty: int, as_json: bool, **options: Any
) -> None:
    """Set the units of SKU on hand at LOCATION to QTY, as counted."""
    with open_store(path) as inv:
        show(inv.set_on_hand(sku, location, qty, **options), as_json)


@click.command(cls=Command, examples=["inventory set-policy shop.inv TEE LON --safety-stock 2"])
@store_argument
@click.argument("sku")
@click.argument("location", required=False)
@click.option("--safety-stock", type=int, required=True, help="Units kept out of promises.")
@op_id_option
@actor_options
def set_policy(path: str, sku: str, location: str | None, as_json: bool, **options: Any) -> None:
    """Set the policy of SKU at LOCATION, or of every row of SKU."""
    with open_store(path) as inv:
        show(inv.set_policy(sku, location, **options), as_json)
