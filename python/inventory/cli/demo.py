# SPDX-License-Identifier: Apache-2.0
"""`demo`: a rehearsal of a shop on real purchases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inventory.cli.common import EXIT_BROKEN, EXIT_DONE, Command, json_option, needs

__all__ = ["demo"]

_FIELDS = ("time", "basket", "location", "sku", "qty")


if TYPE_CHECKING:
    ColumnsType = click.ParamType[dict[str, str]]
else:  # not generic in every click
    ColumnsType = click.ParamType


class _Columns(ColumnsType):
    """`time=ts,basket=InvoiceNo`: our names of columns to those of a file."""

    name = "columns"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        found: dict[str, str] = {}
        for part in str(value).split(","):
            ours, equals, theirs = part.partition("=")
            if not equals or not theirs or ours not in _FIELDS or ours in found:
                self.fail(f"{part!r}: write {'|'.join(_FIELDS)}=NAME, each once", param, ctx)
            found[ours] = theirs
        return found


@click.command(
    cls=Command,
    examples=[
        "inventory demo --csv sale.csv --threads 4",
        "inventory demo --csv sale.csv --columns qty=units --chart sale.html --no-kill",
    ],
)
@click.option(
    "--csv",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another stream: .csv, .csv.gz, .csv.xz, .parquet.  [default: the packaged quarter]",
)
@click.option(
    "--columns",
    type=_Columns(),
    default={},
    metavar="OURS=THEIRS,...",
    help="Names of the stream's columns time, basket, location, sku, qty.  [default: recognised]",
)
@click.option("--baskets", type=click.IntRange(min=1), metavar="N", help="Only the first N.")
@click.option("--threads", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses abandoned baskets.")
@click.option("--no-kill", is_flag=True, help="Let the worker live.")
@click.option(
    "--chart",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path("inventory-demo.html"),
    show_default=True,
    help="Where to draw the sale: one HTML file.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep store and ledger under this new directory.",
)
@click.option("--keep", is_flag=True, help="Keep the temporary directory.")
@json_option
def demo(
    source: Path | None,
    columns: dict[str, str],
    baskets: int | None,
    threads: int,
    seed: int,
    no_kill: bool,
    chart: Path,
    data: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Rehearse a shop on real purchases, with a crash in the middle.

    Replays a stream of baskets over 60 % of the stock it asks for, kills the process half way,
    recovers, finishes, and proves that nothing acknowledged was lost and nothing oversold.

    A stream has a line for each thing bought. The usual names of columns are recognised; without
    a location all is one shop. Lines without basket or SKU, or with a quantity below 1, are left
    out. Lines are taken in order of time where that is a time or a number, else as they stand.

    Exit status: 0 all agrees, 1 anything is wrong, 2 it can't run.
    """
    app: Any = needs("inventory.demo.app", extra="demo")
    settings = app.Settings(
        source=source,
        columns=columns,
        data=data,
        keep=keep,
        threads=threads,
        basket_count_max=baskets,
        seed=seed,
        kill=not no_kill,
        chart=chart,
    )
    try:
        result = app.rehearse(settings)
    except app.DemoDataMissing as error:
        raise click.UsageError(str(error)) from error
    except app.WorkerFailed as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(result.to_json())
    else:
        app.print_result(result)
    raise SystemExit(EXIT_DONE if result.ok else EXIT_BROKEN)
