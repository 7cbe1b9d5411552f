# SPDX-License-Identifier: Apache-2.0
"""The command line: ``inventory ...``. Thin: parse, call, print."""

from __future__ import annotations

import importlib
from typing import Any

import click
import msgspec

import inventory

__all__ = ["main"]

_EXIT_FAILED = 1
_EXIT_REFUSED = 3


def _print(value: msgspec.Struct, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(value))
        return
    for name, figure in msgspec.structs.asdict(value).items():
        if isinstance(figure, tuple):
            figure = "; ".join(map(str, figure)) or "none"
        click.echo(f"{name:22}{figure:,}" if type(figure) is int else f"{name:22}{figure}")


def _fail(error: inventory.InventoryError, as_json: bool) -> None:
    """Say what went wrong, in the form asked for, and exit with 3."""
    if as_json:
        body = {"code": error.code_name, "error": str(error)}
        click.echo(msgspec.json.encode(body))
    else:
        click.echo(f"{error.code_name}: {error}", err=True)
    raise SystemExit(_EXIT_REFUSED)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inventory-engine", prog_name="inventory")
def main() -> None:
    """Exact stock and reservations: look at a store, prove it, rehearse a shop."""


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Rehearse a shop on real purchases (--help lists the options)."""
    try:
        module: Any = importlib.import_module("inventory.demo")
        result = module.main(list(arguments))
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "inventory":
            raise
        raise click.ClickException(
            f"the demo needs {missing or 'more packages'}; install them with: "
            "pip install 'inventory-engine[demo]'"
        ) from error
    raise SystemExit(result)


@main.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(path: str, as_json: bool) -> None:
    """Replay the closed store at PATH and verify every invariant.

    Exit status: 0 all hold, 1 one is broken, 3 the store can't be opened.
    """
    try:
        report = inventory.verify(path)
    except inventory.InventoryError as error:
        _fail(error, as_json)
    else:
        _print(report, as_json)
        raise SystemExit(0 if report.ok else _EXIT_FAILED)


@main.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False))
@click.argument("sku")
@click.argument("location", required=False)
@click.option("--seller", default="default", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def availability(path: str, sku: str, location: str | None, seller: str, as_json: bool) -> None:
    """Show the stock of SKU in the closed store at PATH, in all locations or in LOCATION.

    Exit status: 0, or 3 when the SKU is not known or the store can't be opened.
    """
    try:
        with inventory.open(path, read_only=True) as inv:
            if location is not None:
                _print(inv.availability(sku, location, seller=seller), as_json)
                return
            found = inv.availability(sku, seller=seller)
    except inventory.InventoryError as error:
        _fail(error, as_json)
    else:
        if as_json:
            _print(found, as_json)
            return
        columns = ("on_hand", "held", "allocated", "available_to_promise")
        click.echo(f"{'location':24}" + "".join(f"{name:>22}" for name in columns))
        for level in found.levels:
            figures = "".join(f"{getattr(level, name):>22,}" for name in columns)
            click.echo(f"{level.location:24}{figures}")
        figures = "".join(f"{getattr(found.totals, name):>22,}" for name in columns)
        click.echo(f"{'all locations':24}{figures}")
