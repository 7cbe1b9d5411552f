# SPDX-License-Identifier: Apache-2.0
"""Commands that only look: availability, verify."""

from __future__ import annotations

import click

import inventory
from inventory.cli.common import (
    EXIT_BROKEN,
    EXIT_DONE,
    Command,
    json_option,
    open_store,
    seller_option,
    show,
    store_argument,
)

__all__ = ["availability", "verify"]

_COLUMNS = ("on_hand", "held", "allocated", "available_to_promise")


@click.command(cls=Command, examples=["inventory verify shop.inv"])
@store_argument
@json_option
def verify(path: str, as_json: bool) -> None:
    """Replay the closed store at PATH and verify every invariant.

    Exit status: 0 all hold, 1 one is broken, 3 the store can't be opened.
    """
    report = inventory.verify(path)
    show(report, as_json)
    raise SystemExit(EXIT_DONE if report.ok else EXIT_BROKEN)


@click.command(
    cls=Command,
    examples=[
        "inventory availability shop.inv TEE",
        "inventory availability shop.inv TEE LON --json",
    ],
)
@store_argument
@click.argument("sku")
@click.argument("location", required=False)
@seller_option
@json_option
def availability(path: str, sku: str, location: str | None, seller: str, as_json: bool) -> None:
    """Show the stock of SKU in the closed store at PATH, in all locations or in LOCATION.

    Exit status: 0, or 3 when the SKU is not known or the store can't be opened.
    """
    with open_store(path, read_only=True) as inv:
        if location is not None:
            show(inv.availability(sku, location, seller=seller), as_json)
            return
        found = inv.availability(sku, seller=seller)
    if as_json:
        show(found, as_json)
        return
    click.echo(f"{'location':24}" + "".join(f"{name:>22}" for name in _COLUMNS))
    for place, level in [
        *((level.location, level) for level in found.levels),
        ("all locations", found.totals),
    ]:
        click.echo(f"{place:24}" + "".join(f"{getattr(level, name):>22,}" for name in _COLUMNS))
