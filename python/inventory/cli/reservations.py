# SPDX-License-Identifier: Apache-2.0
"""The life of a reservation: reserve, commit, ship, release, cancel, extend, and a look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from inventory.cli.common import (
    DURATION,
    Command,
    actor_options,
    json_option,
    open_store,
    seller_option,
    show,
    store_argument,
)

__all__ = ["cancel", "commit", "extend", "release", "reservation", "reserve", "ship"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Lines = tuple[tuple[str, int, str], ...]


def _engine_lines(lines: _Lines) -> list[tuple[str, str | None, int]] | None:
    """The engine's lines; a location of "" is left to the engine, no line at all is None."""
    return [(sku, location or None, qty) for sku, qty, location in lines] or None


def line_option(text: str) -> Callable[[_F], _F]:
    return click.option(
        "--line", "lines", type=(str, int, str), multiple=True, metavar="SKU QTY LOCATION",
        help=text,
    )  # fmt: skip


def part_options(function: _F) -> _F:
    """Options of a call that may take a part of a reservation."""
    function = line_option("Only this part (needs --op-id); repeat for more.")(function)
    return click.option(
        "--op-id", metavar="ID", help="Idempotency key of a call that takes a part."
    )(function)


@click.command(
    cls=Command,
    examples=[
        "inventory reserve shop.inv TEE 2 --location LON --id cart-18 --ttl 15m",
        "inventory reserve shop.inv --line TEE 1 LON --line TEE 1 '' --id cart-19",
    ],
)
@store_argument
@click.argument("sku", required=False)
@click.argument("qty", type=int, required=False)
@click.option("--location", metavar="NAME", help="Where; left out, the engine chooses.")
@line_option("A line of a cart; repeat for more. LOCATION '' lets the engine choose.")
@click.option("--id", "reservation_id", metavar="ID", help="Idempotency key; made up if left out.")
@click.option("--ttl", "ttl_ms", type=DURATION, help="Milliseconds, or 15m, 1h30m.  [default: 10m]")
@actor_options
def reserve(
    path: str,
    sku: str | None,
    qty: int | None,
    location: str | None,
    lines: _Lines,
    as_json: bool,
    **options: Any,
) -> None:
    """Hold QTY units of SKU, or all lines of a cart, for a time: all or nothing.

    The same --id with the same body gives the first answer again. What is not committed by the
    deadline goes back by itself.
    """
    if (sku is None) == (not lines) or (sku is None) != (qty is None) or (lines and location):
        raise click.UsageError("name SKU and QTY (and --location), or one --line or more")
    asked: Any = _engine_lines(lines) if sku is None else [(sku, location, qty)]
    with open_store(path) as inv:
        show(inv.reserve_lines(asked, **options), as_json)


@click.command(cls=Command, examples=["inventory commit shop.inv cart-17"])
@store_argument
@click.argument("reservation_id", metavar="ID")
@part_options
@click.option("--keep-rest", is_flag=True, help="What --line does not name stays held.")
@click.option("--rehold", is_flag=True, help="After the deadline take the units again if there.")
@actor_options
def commit(
    path: str,
    reservation_id: str,
    lines: _Lines,
    keep_rest: bool,
    rehold: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn what reservation ID holds into an order: held units become allocated.

    With --line only that part; the rest is released, or kept with --keep-rest.
    """
    with open_store(path) as inv:
        result = inv.commit(
            reservation_id,
            lines=_engine_lines(lines),
            final=not keep_rest,
            if_expired="rehold" if rehold else None,
            **options,
        )
        show(result, as_json)


@click.command(
    cls=Command,
    examples=["inventory commit shop.inv cart-17", "inventory ship shop.inv cart-17"],
)
@store_argument
@click.argument("reservation_id", metavar="ID")
@part_options
@actor_options
def ship(path: str, reservation_id: str, lines: _Lines, as_json: bool, **options: Any) -> None:
    """Ship what is allocated to reservation ID: the units leave."""
    with open_store(path) as inv:
        show(inv.ship(reservation_id, lines=_engine_lines(lines), **options), as_json)


@click.command(cls=Command, examples=["inventory release shop.inv cart-17"])
@store_argument
@click.argument("reservation_id", metavar="ID")
@part_options
@click.option("--tombstone", is_flag=True, help="Remember an unknown ID: refuse a late reserve.")
@actor_options
def release(path: str, reservation_id: str, lines: _Lines, as_json: bool, **options: Any) -> None:
    """Give back what reservation ID holds, before it is committed."""
    with open_store(path) as inv:
        show(inv.release(reservation_id, lines=_engine_lines(lines), **options), as_json)


@click.command(cls=Command, examples=["inventory cancel shop.inv cart-17"])
@store_argument
@click.argument("reservation_id", metavar="ID")
@part_options
@actor_options
def cancel(path: str, reservation_id: str, lines: _Lines, as_json: bool, **options: Any) -> None:
    """Cancel reservation ID: all that is held and allocated goes back."""
    with open_store(path) as inv:
        show(inv.cancel(reservation_id, lines=_engine_lines(lines), **options), as_json)


@click.command(cls=Command, examples=["inventory extend shop.inv cart-17 --ttl 1h"])
@store_argument
@click.argument("reservation_id", metavar="ID")
@click.option(
    "--ttl", "ttl_ms", type=DURATION, required=True, help="From now: milliseconds, or 15m, 1h30m."
)
@click.option("--shorten", is_flag=True, help="Allow an earlier deadline than the present one.")
@actor_options
def extend(path: str, reservation_id: str, as_json: bool, **options: Any) -> None:
    """Give reservation ID a new deadline; never an earlier one unless --shorten is given."""
    with open_store(path) as inv:
        show(inv.extend(reservation_id, **options), as_json)


@click.command(cls=Command, examples=["inventory reservation shop.inv cart-17"])
@store_argument
@click.argument("reservation_id", metavar="ID")
@seller_option
@json_option
def reservation(path: str, reservation_id: str, seller: str, as_json: bool) -> None:
    """Show reservation ID: its state, its lines, its deadline."""
    with open_store(path, read_only=True) as inv:
        show(inv.reservation(reservation_id, seller=seller), as_json)
