# SPDX-License-Identifier: Apache-2.0
# Types of the coroutine functions that _coroutines.py makes; those of _core.pyi and _batch.pyi.

from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import pyarrow
from numpy.typing import NDArray

from . import store
from ._aio import Port
from .export import ReservationChunk, RowChunk
from .models import (
    ConsumerInfo,
    Line,
    Metrics,
    PolicyChange,
    Reservation,
    SkuAvailability,
    Snapshot,
    StockChange,
    StockLevel,
    StoreFormat,
    VerifyReport,
)

__all__ = ["Operations"]

_Codes: TypeAlias = NDArray[np.uint8]
_Names: TypeAlias = Any  # a sequence of str, a numpy array of them, an Arrow string array
_Ids: TypeAlias = NDArray[np.uint8]  # [n, 16]
_Lines: TypeAlias = Iterable[Line | tuple[str, str | None, int]]

class Operations:
    _inv: store.Inventory
    def _port(self) -> Port: ...
    async def reserve(
        self,
        sku: str,
        qty: int,
        *,
        location: str | None = None,
        ttl_ms: int | None = None,
        reservation_id: str | None = None,
        account: str = "",
        seller: str = "default",
        mode: str = "all_or_nothing",
        min_qty: int | None = None,
        backorder: bool = False,
        split: bool = True,
        backorder_ttl_ms: int | None = None,
        soft_ttl_ms: int | None = None,
        priority: int = 0,
        promised_unix_ms: int | None = None,
        locations: Iterable[str] | None = None,
        strategy: str | None = None,
        region: str | None = None,
        max_splits: int | None = None,
        replaces: Iterable[str] = (),
        use_safety_stock: bool = False,
        wait_ms: int = 0,
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def reserve_lines(
        self,
        lines: _Lines,
        *,
        ttl_ms: int | None = None,
        reservation_id: str | None = None,
        account: str = "",
        seller: str = "default",
        mode: str = "all_or_nothing",
        min_qty: int | None = None,
        backorder: bool = False,
        split: bool = True,
        backorder_ttl_ms: int | None = None,
        soft_ttl_ms: int | None = None,
        priority: int = 0,
        promised_unix_ms: int | None = None,
        locations: Iterable[str] | None = None,
        strategy: str | None = None,
        region: str | None = None,
        max_splits: int | None = None,
        replaces: Iterable[str] = (),
        use_safety_stock: bool = False,
        wait_ms: int = 0,
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def commit(
        self,
        reservation_id: str,
        *,
        lines: _Lines | None = None,
        final: bool = True,
        op_id: str | None = None,
        if_expired: Literal["rehold"] | None = None,
        account: str = "",
        seller: str = "default",
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def ship(
        self,
        reservation_id: str,
        *,
        lines: _Lines | None = None,
        op_id: str | None = None,
        account: str = "",
        seller: str = "default",
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def release(
        self,
        reservation_id: str,
        *,
        lines: _Lines | None = None,
        op_id: str | None = None,
        tombstone: bool = False,
        account: str = "",
        seller: str = "default",
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def cancel(
        self,
        reservation_id: str,
        *,
        lines: _Lines | None = None,
        op_id: str | None = None,
        account: str = "",
        seller: str = "default",
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def extend(
        self,
        reservation_id: str,
        *,
        ttl_ms: int,
        shorten: bool = False,
        account: str = "",
        seller: str = "default",
        reason: str = "",
        reference: str = "",
    ) -> Reservation: ...
    async def receive(
        self,
        sku: str,
        location: str,
        qty: int,
        *,
        op_id: str | None = None,
        reason: str = "",
        reference: str = "",
        account: str = "",
        seller: str = "default",
    ) -> StockChange: ...
    async def issue(
        self,
        sku: str,
        location: str,
        qty: int,
        *,
        op_id: str | None = None,
        reason: str = "",
        reference: str = "",
        account: str = "",
        seller: str = "default",
    ) -> StockChange: ...
    async def adjust(
        self,
        sku: str,
        location: str,
        delta: int,
        *,
        reason: str = "",
        strict: bool = False,
        op_id: str | None = None,
        reference: str = "",
        account: str = "",
        seller: str = "default",
    ) -> StockChange: ...
    async def set_on_hand(
        self,
        sku: str,
        location: str,
        qty: int,
        *,
        if_on_hand: int | None = None,
        as_of: int | None = None,
        reason: str = "",
        op_id: str | None = None,
        reference: str = "",
        account: str = "",
        seller: str = "default",
    ) -> StockChange: ...
    async def set_policy(
        self,
        sku: str,
        location: str | None = None,
        *,
        safety_stock: int,
        op_id: str | None = None,
        reason: str = "",
        reference: str = "",
        account: str = "",
        seller: str = "default",
    ) -> PolicyChange: ...
    @overload
    async def availability(
        self, sku: str, location: None = None, *, seller: str = "default", relaxed: bool = False
    ) -> SkuAvailability: ...
    @overload
    async def availability(
        self, sku: str, location: str, *, seller: str = "default", relaxed: bool = False
    ) -> StockLevel: ...
    async def reservation(self, reservation_id: str, *, seller: str = "default") -> Reservation: ...
    async def verify(self) -> VerifyReport: ...
    async def metrics(self) -> Metrics: ...
    async def barrier(self) -> int: ...
    async def snapshot(self, *, timeout_s: int = 3600) -> Snapshot: ...
    async def finalize(self, *, timeout_s: int = 60) -> StoreFormat: ...
    async def sku_ids(
        self, names: _Names, *, seller: str = "default", create: bool = False
    ) -> NDArray[np.uint32]: ...
    async def location_ids(self, names: _Names, *, create: bool = False) -> NDArray[np.uint16]: ...
    async def sku_names(self, sku_ids: NDArray[np.uint32]) -> list[str]: ...
    async def location_names(self, location_ids: NDArray[np.uint16]) -> list[str]: ...
    async def reserve_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        qty: NDArray[np.int64],
        reservation_ids: _Ids,
        *,
        ttl_ms: int | NDArray[np.uint32],
        account: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    async def receive_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        qty: NDArray[np.int64],
        *,
        op_ids: _Ids | None = None,
        account: str = "",
        reason: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    async def issue_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        qty: NDArray[np.int64],
        *,
        op_ids: _Ids | None = None,
        account: str = "",
        reason: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    async def adjust_batch(
        self,
        sku_ids: NDArray[np.uint32],
        location_ids: NDArray[np.uint16],
        delta: NDArray[np.int64],
        *,
        op_ids: _Ids | None = None,
        account: str = "",
        reason: str = "",
        seller: str = "default",
    ) -> _Codes: ...
    async def commit_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    async def ship_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    async def release_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    async def cancel_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    async def extend_batch(
        self, reservation_ids: _Ids, *, ttl_ms: int | NDArray[np.uint32], seller: str = "default"
    ) -> _Codes: ...
    async def availability_batch(
        self, sku_ids: NDArray[np.uint32], location_ids: NDArray[np.uint16]
    ) -> NDArray[np.void]: ...
    def rows(self, *, chunk_rows: int = ...) -> AsyncIterator[RowChunk]: ...
    def reservations(
        self, *, ended: bool = False, chunk_rows: int = ...
    ) -> AsyncIterator[ReservationChunk]: ...
    async def consumers(self) -> list[ConsumerInfo]: ...
    async def to_arrow(
        self,
        what: Literal["rows", "reservations"] = "rows",
        *,
        ended: bool = False,
        chunk_rows: int = ...,
    ) -> pyarrow.RecordBatchReader: ...
