# SPDX-License-Identifier: Apache-2.0
"""`export`: everything in a store, as CSV or Parquet."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import click
import msgspec

import inventory
from inventory.cli.common import (
    Command,
    Refusal,
    json_option,
    needs,
    open_store,
    show,
    store_argument,
)

__all__ = ["export"]

Format = Literal["csv", "parquet"]
What = Literal["rows", "reservations"]

_SUFFIXES: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_CHUNK_ROWS = 65_536
_QUIET_S = 1.0  # no progress is shown before
_STEPS = 1_000  # of the progress bar


class Exported(msgspec.Struct, frozen=True):
    """What was written."""

    file: str
    format: Format
    what: What
    rows: int
    bytes: int


class _Bar:
    """A progress bar on standard error, if that is a terminal and it takes longer than a second."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._begin_s = time.monotonic()
        self._bar: Any = None
        self._steps = 0

    def update(self, progress: float) -> None:
        if time.monotonic() - self._begin_s < _QUIET_S or not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = click.progressbar(length=_STEPS, label=self._label, file=sys.stderr)
            self._bar.__enter__()
        steps = int(progress * _STEPS)
        self._bar.update(steps - self._steps)
        self._steps = steps

    def close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)


@click.command(
    cls=Command,
    examples=[
        "inventory export shop.inv stock.csv",
        "inventory export shop.inv carts.csv --what reservations --ended",
        "inventory export shop.inv stock.parquet --json",
        "inventory export shop.inv -",
    ],
)
@store_argument
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--what",
    type=click.Choice(["rows", "reservations"]),
    default="rows",
    show_default=True,
    help="Stock rows, or lines of reservations.",
)
@click.option("--ended", is_flag=True, help="Of reservations, also those that have ended.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "parquet"]),
    help="If the file's suffix does not say it.",
)
@json_option
def export(
    path: str, file: str, what: What, ended: bool, format_: Format | None, as_json: bool
) -> None:
    """Write all stock of the closed store at PATH to FILE, or all its reservations.

    The suffix of FILE says how: .csv, .parquet or .pq; `-` is CSV on standard output. FILE appears
    when it is complete, in place of an older one. Memory does not grow with the store.

    Exit status: 0, 2 usage, 3 when the store can't be opened or FILE can't be written.
    """
    if ended and what != "reservations":
        raise click.UsageError("--ended goes with --what reservations")
    if format_ is None:
        format_ = "csv" if file == "-" else _SUFFIXES.get(Path(file).suffix.lower())
    if format_ is None:
        name = click.format_filename(file)
        raise click.UsageError(f"{name}: is it CSV or Parquet? Say --format csv or parquet")
    if file == "-" and format_ == "parquet":
        raise click.UsageError("Parquet goes to a file, not to standard output")
    needs("pyarrow", extra="arrow")
    with open_store(path, read_only=True) as inv, _sink(file) as sink:
        rows = _write(inv, sink, what, ended, format_)
        size = 0 if file == "-" else sink.tell()
    name = click.format_filename(file)  # printable, whatever its bytes
    exported = Exported(file=name, format=format_, what=what, rows=rows, bytes=size)
    if file == "-":  # standard output is the CSV's
        click.echo(msgspec.json.encode(exported) if as_json else f"{rows:,} rows", err=True)
    else:
        show(exported, as_json)


def _write(inv: Any, sink: BinaryIO, what: What, ended: bool, format_: Format) -> int:
    import pyarrow.csv
    import pyarrow.parquet

    from inventory.export import to_arrow

    bar = _Bar(f"exporting {what}")
    rows = 0
    try:
        reader = to_arrow(inv, what, _CHUNK_ROWS, ended, bar.update)
        writer: Any = (
            pyarrow.csv.CSVWriter(sink, reader.schema)
            if format_ == "csv"
            else pyarrow.parquet.ParquetWriter(sink, reader.schema)
        )
        with writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
    finally:
        bar.close()
    return rows


@contextlib.contextmanager
def _sink(file: str) -> Iterator[BinaryIO]:
    """The file to write to: its name is another one until it is complete and on disk."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(file)
    whole = target.is_file() or not target.exists()  # a pipe or a device is written in place
    path = target.with_name(target.name + ".part") if whole else target
    try:
        with path.open("wb") as sink:
            yield sink
            sink.flush()
            if whole:
                os.fsync(sink.fileno())
        if whole:
            path.replace(target)
    except OSError as error:
        if isinstance(error, inventory.InventoryError):
            raise  # of the store, not of the file
        name = click.format_filename(file)
        raise Refusal("IO_ERROR", f"{name}: {error.strerror or error}", field="file") from error
    finally:
        if whole:
            path.unlink(missing_ok=True)
