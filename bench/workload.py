# SPDX-License-Identifier: Apache-2.0
"""What the Python benches share: sizes and their flags, generated stock and ids, a loaded store."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import inventory

Line = dict[str, Any]
Ids = npt.NDArray[np.uint8]  # [n, 16]: UUID bytes
Skus = npt.NDArray[np.uint32]
Locations = npt.NDArray[np.uint16]
Places = npt.NDArray[np.int64]

SEED = 20240229
ON_HAND = 2_000_000_000  # never runs out: commits take it for good
TTL_LONG_MS = 86_400_000
TTL_SHORT_MS = 4_000
LOAD_ROWS = 1 << 16  # of one receive_batch, and names of one sku_ids


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large a run is; each field is a flag of the same name (``bench/conftest.py``)."""

    skus: int = 0
    locations: int = 1
    reservations: int = 0  # live ones
    ended: int = 1  # ended ids kept, and made before the clock starts
    seconds: float = 0.0
    batch: int = 1  # rows of one call
    threads: int = 1

    def changed_by(self, flags: dict[str, Any]) -> Sizes:
        given = {name: value for name, value in flags.items() if value is not None}
        return dataclasses.replace(self, **given)


def sku_names(first: int, count: int) -> list[str]:
    """Names of 12 characters."""
    return [f"S{index:011d}" for index in range(first, first + count)]


def location_names(count: int) -> list[str]:
    return [f"L{index:011d}" for index in range(count)]


def chunks(count: int, length: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the pieces of ``range(count)``."""
    for start in range(0, count, length):
        yield start, min(count, start + length)


def must_be_ok(codes: npt.NDArray[np.uint8]) -> None:
    if codes.any():
        bad = codes[codes != 0]
        raise RuntimeError(f"{len(bad)} rows refused, the first with code {bad[0]}")


def random_ids(rng: np.random.Generator, count: int) -> Ids:
    """Version 4 UUIDs, the same ones for the same generator."""
    ids = np.frombuffer(rng.bytes(count * 16), np.uint8).reshape(count, 16).copy()
    ids[:, 6] = ids[:, 6] & 0x0F | 0x40
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return ids


def id_texts(ids: Ids) -> list[str]:
    digits = ids.tobytes().hex()
    texts = (digits[at : at + 32] for at in range(0, len(digits), 32))
    return [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in texts]


class Loaded:
    """A store's numbers of its generated SKUs and locations."""

    def __init__(self, inv: inventory.Inventory, sizes: Sizes) -> None:
        self.inv = inv
        self.sizes = sizes
        self.skus: Skus = np.zeros(sizes.skus, np.uint32)
        self.skus.fill(1)  # touch the pages now: they are not the store's
        self.locations: Locations = inv.location_ids(location_names(sizes.locations), create=True)

    def number_skus(self) -> None:
        for start, end in chunks(self.sizes.skus, LOAD_ROWS):
            self.skus[start:end] = self.inv.sku_ids(sku_names(start, end - start), create=True)

    def receive(self, skus: Skus, locations: Locations) -> None:
        must_be_ok(self.inv.receive_batch(skus, locations, np.full(len(skus), ON_HAND, np.int64)))

    def in_sku_order(self) -> None:
        """All rows of a SKU, then of the next: how a catalogue is imported."""
        per_call = max(1, LOAD_ROWS // self.sizes.locations)
        for start, end in chunks(self.sizes.skus, per_call):
            self.skus[start:end] = self.inv.sku_ids(sku_names(start, end - start), create=True)
            self.receive(
                np.repeat(self.skus[start:end], self.sizes.locations),
                np.tile(self.locations, end - start),
            )

    def in_location_order(self) -> None:
        """All SKUs of a location, then of the next: how warehouses are imported."""
        self.number_skus()
        for location in self.locations:
            for start, end in chunks(self.sizes.skus, LOAD_ROWS):
                self.receive(self.skus[start:end], np.full(end - start, location, np.uint16))


class Load:
    """One thread's stream of reserves and ends: 6 of 10 are released, 2 committed, 2 expire."""

    def __init__(self, loaded: Loaded, number: int, batch: int) -> None:
        self.inv = loaded.inv
        self.loaded = loaded
        self.batch = batch
        self.rng = np.random.default_rng([SEED, number])
        self.live: list[Ids] = []  # a ring of batches, without those that expire
        self.oldest = 0
        self.ended = 0

    def draw(self) -> tuple[Places, Places, Ids, npt.NDArray[np.uint32]]:
        """A batch: places of random SKUs and locations in their lists, new ids, ttl of each."""
        sizes, count = self.loaded.sizes, self.batch
        skus = self.rng.integers(0, sizes.skus, count)
        locations = self.rng.integers(0, sizes.locations, count)
        ttl_ms = np.full(count, TTL_LONG_MS, np.uint32)
        expiring = count // 5
        ttl_ms[:expiring] = self.rng.integers(1, TTL_SHORT_MS, expiring)
        return skus, locations, random_ids(self.rng, count), ttl_ms

    def next_batch(self) -> tuple[Skus, Locations, Ids, npt.NDArray[np.uint32]]:
        """A batch by number, for one batch call."""
        skus, locations, ids, ttl_ms = self.draw()
        return self.loaded.skus[skus], self.loaded.locations[locations], ids, ttl_ms

    def next_texts(self, places: list[str]) -> list[tuple[str, str, str, int]]:
        """A batch by name, for single calls: (sku, location, id, ttl_ms). Its ids are kept."""
        skus, locations, ids, ttl_ms = self.draw()
        self.keep(ids)
        columns = skus.tolist(), locations.tolist(), id_texts(ids), ttl_ms.tolist()
        return [
            (f"S{sku:011d}", places[location], text, ttl)
            for sku, location, text, ttl in zip(*columns, strict=True)
        ]

    def keep(self, ids: Ids) -> None:
        self.live.append(ids[len(ids) // 5 :])

    def end_oldest(self) -> None:
        ids = self.live[self.oldest]
        self.live[self.oldest] = ids[:0]
        self.oldest += 1
        committed = len(ids) // 4
        must_be_ok(self.inv.commit_batch(ids[:committed]))
        must_be_ok(self.inv.ship_batch(ids[:committed]))  # orders must not pile up in memory
        must_be_ok(self.inv.release_batch(ids[committed:]))
        self.ended += len(ids)

    def reserve_batch(self) -> int:
        """Reserve a batch. Returns the nanoseconds inside the call."""
        skus, locations, ids, ttl_ms = self.next_batch()
        qty = self.ones(len(ids))
        start_ns = time.perf_counter_ns()
        codes = self.inv.reserve_batch(skus, locations, qty, ids, ttl_ms=ttl_ms)
        inside_ns = time.perf_counter_ns() - start_ns
        must_be_ok(codes)
        self.keep(ids)
        return inside_ns

    def warm_up(self, live: int, ended: int) -> None:
        """End ``ended`` reservations, then have ``live`` that live for long: memory is used again
        from there on, and the store is full."""
        while self.ended < ended:
            self.reserve_batch()
            self.end_oldest()
        self.ended = made = 0
        while made < live:
            self.reserve_batch()
            made += self.batch - self.batch // 5

    @staticmethod
    def ones(count: int) -> npt.NDArray[np.int64]:
        return np.ones(count, np.int64)


@contextlib.contextmanager
def open_loaded(
    directory: Path, sizes: Sizes, durability: Literal["durable", "interval"]
) -> Iterator[Loaded]:
    """A store in a new directory, with all its rows."""
    path = directory / "store"
    with inventory.open(path, durability=durability, ended_ids_max=sizes.ended) as inv:
        loaded = Loaded(inv, sizes)
        loaded.in_sku_order()
        yield loaded
