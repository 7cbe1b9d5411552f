# SPDX-License-Identifier: Apache-2.0
"""`import`: the stock figures of a file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import inventory
from inventory.cli.common import (
    EXIT_BROKEN,
    Command,
    Refusal,
    json_option,
    needs,
    open_store,
    seller_option,
    show,
    store_argument,
)

if TYPE_CHECKING:
    from inventory.loading import BadRow, Import, Source

__all__ = ["load"]

_SHOWN_BAD_MAX = 20
_QUIET_S = 1.0  # no progress is shown before


class _View:
    """Bad rows and progress on standard error."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begin_s = time.monotonic()
        self._bar: Any = None
        self._bar_at = 0
        self._bad = 0
        self._is_line_open = False
        self._stack = contextlib.ExitStack()

    def bad(self, row: BadRow) -> None:
        self._bad += 1
        if self._bad <= _SHOWN_BAD_MAX:
            click.echo(f"line {row.line}: {row.reason}", err=True)
        elif self._bad == _SHOWN_BAD_MAX + 1:
            click.echo("... and more (--bad-rows FILE writes them all)", err=True)

    def chunk(self, rows: int, position: int) -> None:
        if time.monotonic() - self._begin_s < _QUIET_S or not sys.stderr.isatty():
            return
        if not self._total:  # of a pipe
            click.echo(f"\r{rows:,} rows", err=True, nl=False)
            self._is_line_open = True
            return
        if self._bar is None:
            self._bar = self._stack.enter_context(
                click.progressbar(length=self._total, label="importing", file=sys.stderr)
            )
        self._bar.update(position - self._bar_at)
        self._bar_at = position

    def close(self) -> None:
        self._stack.close()
        if self._is_line_open:
            click.echo(err=True)


@click.command(
    "import",
    cls=Command,
    examples=[
        "inventory import shop.inv stock.csv",
        "inventory import shop.inv stock.csv --bad-rows bad.csv --json",
    ],
)
@store_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--sku-column", default="sku", show_default=True, metavar="NAME")
@click.option("--location-column", default="location", show_default=True, metavar="NAME")
@click.option("--on-hand-column", default="on_hand", show_default=True, metavar="NAME")
@click.option("--delimiter", default=",", show_default=True, metavar="CHAR", help="Of a CSV.")
@click.option(
    "--max-bad", type=click.IntRange(min=0), default=100, show_default=True,
    help="Bad rows to leave out at most; 0 stops at the first.",
)  # fmt: skip
@click.option("--bad-rows", type=click.Path(dir_okay=False), help="Write bad rows to this CSV.")
@click.option("--restart", is_flag=True, help="Forget an unfinished import; begin anew.")
@click.option("--account", default="", metavar="NAME", help="Who asks, for the log.")
@click.option("--reason", default="import", show_default=True, metavar="TEXT", help="For the log.")
@seller_option
@json_option
def load(
    path: str,
    file: str,
    sku_column: str,
    location_column: str,
    on_hand_column: str,
    delimiter: str,
    max_bad: int,
    bad_rows: str | None,
    restart: bool,
    account: str,
    reason: str,
    seller: str,
    as_json: bool,
) -> None:
    """Set stock to the figures of FILE, a CSV or Parquet file; "-" reads CSV from standard input.

    FILE has the columns sku, location, on_hand (others are ignored). Afterwards on_hand of each
    listed row is the figure of the file, like after a count; what did not exist is created; rows
    that are not listed stay as they are; of two lines of the same row the later one counts.

    An import that was interrupted goes on where it was: give the same command again. A row that
    can't be used (a field is missing, no whole number, negative, too large, a name is too long or
    empty, not UTF-8) is reported with its line number and left out; with more than --max-bad of
    them the import stops, and nothing of the chunk (about 65,536 rows) with the last of them is
    applied.

    Exit status: 0 all rows imported, 1 imported but bad rows left out, 2 no such file or column,
    3 refused: too many bad rows, FILE changed, or the store refuses.
    """
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise click.BadParameter("one ASCII character, no quote", param_hint="--delimiter")
    loading = needs("inventory.loading", extra="arrow")
    columns = loading.Columns(sku_column, location_column, on_hand_column)
    with _source(loading, file, columns, delimiter) as source:
        view = _View(source.total)
        with (
            contextlib.closing(view),
            _refusals(loading),
            open_store(path, durability="interval", segment_bytes=None) as inv,
        ):
            run: Import = loading.Import(
                inv,
                Path(path),
                source,
                columns,
                delimiter=delimiter,
                seller=seller,
                account=account,
                reason=reason,
                bad_max=max_bad,
                bad_rows=None if bad_rows is None else Path(bad_rows),
                restart=restart,
                on_bad=view.bad,
                on_chunk=view.chunk,
            )
            if run.rows_before:
                click.echo(f"going on after {run.rows_before:,} rows", err=True)
            summary = run.run()
    show(summary, as_json)
    if summary.bad:
        raise SystemExit(EXIT_BROKEN)


@contextlib.contextmanager
def _source(loading: Any, file: str, columns: Any, delimiter: str) -> Iterator[Source]:
    stdin = sys.stdin.buffer if file == "-" else None
    try:
        source = loading.open_source(file, columns, delimiter=delimiter, stdin=stdin)
    except (loading.SourceUnusable, OSError) as error:
        raise click.BadParameter(str(error), param_hint="FILE") from error
    try:
        yield source
    except loading.SourceUnusable as error:
        raise Refusal(
            "BAD_REQUEST", f"{click.format_filename(file)}: {error}", field="file"
        ) from error
    finally:
        if stdin is None:
            source.close()


@contextlib.contextmanager
def _refusals(loading: Any) -> Iterator[None]:
    try:
        yield
    except loading.ImportRefused as error:
        raise Refusal(error.code_name, str(error)) from error
    except (inventory.InventoryError, BrokenPipeError):
        raise
    except OSError as error:
        raise Refusal("IO_ERROR", str(error)) from error
