# SPDX-License-Identifier: Apache-2.0
"""Two real order streams and what a plain dictionary makes of them.

The streams lie outside the repository (see `data_dir`). A stream becomes a list of `Event`s once,
here; the dictionary of this file and the engine in `test_streams.py` then replay the same events.
A row of the table says what the replay must give, to the unit: counts, totals and a digest of the
final stock of every key.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

RETAIL_FILE = "online-retail-2010-12-to-2011-08.csv.xz"
JOURNEY_FILE = "complete-journey-2017q1.csv.xz"
NON_STOCK = frozenset(
    ("POST", "DOT", "M", "m", "D", "S", "B", "C2", "CRUK", "PADS", "BANK CHARGES", "AMAZONFEE")
)

Kind = Literal["take", "back", "write_off"]
K = TypeVar("K", bound=Hashable)


# One step of a stream: (kind, number counted from 0, lines as (key, qty)). `take` takes all lines
# or refuses them; `back` and `write_off` have one line.
Event = tuple[Kind, int, tuple[tuple[K, int], ...]]


@dataclass
class Tally:
    """What a replay did; the columns of the table in the order they stand there."""

    start: int = 0
    taken: int = 0
    taken_units: int = 0
    refused: int = 0
    refused_units: int = 0
    back: int = 0
    back_units: int = 0
    written_off: int = 0
    written_off_units: int = 0
    clamped: int = 0
    final: int = 0
    digest: str = field(default="")

    def add(self, other: Tally) -> None:
        """Add the counters of another part of the same stream; figures of stock are left alone."""
        for name in (
            "taken", "taken_units", "refused", "refused_units", "back", "back_units",
            "written_off", "written_off_units", "clamped",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))


EXPECTED: dict[str, Tally] = {
    "retail-line-60": Tally(
        2_016_886, 204_883, 1_976_563, 107_463, 1_387_293, 5_454, 145_217, 913, 20_982, 717,
        164_558, "ad7530a956f7d359",
    ),
    "retail-line-90": Tally(
        3_025_777, 284_543, 2_914_776, 27_803, 449_080, 5_454, 145_217, 913, 41_589, 585,
        214_629, "d66837fa68f6d7da",
    ),
    "retail-order-60": Tally(
        2_016_886, 8_127, 1_562_902, 4_742, 1_800_954, 5_454, 145_217, 913, 39_310, 520,
        559_891, "ba16469a13a06ac8",
    ),
    "journey-per-store-60": Tally(
        20_792_287, 101_884, 20_266_886, 258_934, 14_576_399, 0, 0, 0, 0, 0,
        525_401, "93bcd536445cb604",
    ),
    "journey-pooled-60": Tally(
        20_888_614, 202_671, 20_806_512, 158_147, 14_036_773, 0, 0, 0, 0, 0,
        82_102, "66a9685cac949593",
    ),
}  # fmt: skip


def data_dir() -> Path | None:
    """Folder of the streams: INVENTORY_SHARED_DATA, else beside the repository; None if absent."""
    named = os.environ.get("INVENTORY_SHARED_DATA")
    root = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    for folder in (root / "orders", root):
        if (folder / RETAIL_FILE).is_file() and (folder / JOURNEY_FILE).is_file():
            return folder
    return None


def _rows(name: str) -> Iterator[list[str]]:
    folder = data_dir()
    assert folder is not None, "call only where data_dir() found the streams"
    with lzma.open(folder / name, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader


def _retail_lines() -> Iterator[tuple[str, str, int]]:
    for invoice, sku, _, qty, *_ in _rows(RETAIL_FILE):
        if invoice.startswith("A") or sku in NON_STOCK or sku.startswith(("gift_", "DCGS")):
            continue
        yield invoice, sku, int(qty)


@cache
def retail_by_line() -> tuple[Event[str], ...]:
    """Online Retail, every line an event of its own."""
    events: list[Event[str]] = []
    for invoice, sku, qty in _retail_lines():
        returned = invoice.startswith("C")
        kind: Kind = "back" if returned else "take" if qty > 0 else "write_off"
        events.append((kind, len(events), ((sku, abs(qty)),)))
    return tuple(events)


@cache
def retail_by_order() -> tuple[Event[str], ...]:
    """Online Retail, an invoice at the place of its first line, its negative lines after it."""
    invoices: dict[str, tuple[dict[str, int], list[tuple[str, int]]]] = {}
    for invoice, sku, qty in _retail_lines():
        wanted, negative = invoices.setdefault(invoice, ({}, []))
        if qty > 0 and not invoice.startswith("C"):
            wanted[sku] = wanted.get(sku, 0) + qty
        else:
            negative.append((sku, abs(qty)))
    events: list[Event[str]] = []
    for invoice, (wanted, negative) in invoices.items():
        if wanted:
            events.append(("take", len(events), tuple(wanted.items())))
        kind: Kind = "back" if invoice.startswith("C") else "write_off"
        for line in negative:
            events.append((kind, len(events), (line,)))
    return tuple(events)


@cache
def journey_per_store() -> tuple[Event[tuple[int, int]], ...]:
    """Complete Journey, every line an event; the key is (store, SKU)."""
    lines = (((int(row[2]), int(row[3])), int(row[4])) for row in _rows(JOURNEY_FILE))
    wanted = (line for line in lines if line[1] > 0)
    return tuple(("take", number, (line,)) for number, line in enumerate(wanted))


@cache
def journey_pooled() -> tuple[Event[int], ...]:
    """Complete Journey, every line an event; the key is the SKU, whatever the store."""
    return tuple(
        ("take", number, tuple((sku, qty) for (_, sku), qty in lines))
        for _, number, lines in journey_per_store()
    )


def start_stock(events: Iterable[Event[K]], percent: int) -> dict[K, int]:
    """Start stock of each key: floor(percent x its demand / 100); every key met has a figure."""
    demand: dict[K, int] = defaultdict(int)
    for kind, _, lines in events:
        for key, qty in lines:
            demand[key] += qty if kind == "take" else 0
    return {key: total * percent // 100 for key, total in demand.items()}


def digest_of(stock: dict[K, int]) -> str:
    """First 16 hex digits of sha256 over `key=on_hand` lines sorted by key."""
    keys = sorted(stock)  # type: ignore[type-var]
    return hashlib.sha256("\n".join(f"{k}={stock[k]}" for k in keys).encode()).hexdigest()[:16]


def replay_in_dictionary(events: Iterable[Event[K]], stock: dict[K, int]) -> Tally:
    """Replay over a plain dictionary, which ends as the final stock."""
    tally = Tally(start=sum(stock.values()))
    for kind, _, lines in events:
        units = sum(qty for _, qty in lines)
        if kind == "take":
            taken = all(stock[key] >= qty for key, qty in lines)
            if taken:
                for key, qty in lines:
                    stock[key] -= qty
            tally.taken += taken
            tally.taken_units += units * taken
            tally.refused += not taken
            tally.refused_units += units * (not taken)
        elif kind == "back":
            tally.back += 1
            tally.back_units += units
            stock[lines[0][0]] += units
        else:
            written = min(units, stock[lines[0][0]])
            stock[lines[0][0]] -= written
            tally.written_off += 1
            tally.written_off_units += written
            tally.clamped += written < units
    tally.final = sum(stock.values())
    tally.digest = digest_of(stock)
    return tally
