# SPDX-License-Identifier: Apache-2.0
# Types of the methods that _operations.py makes; those of _core.pyi and _batch.pyi.

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from inventory.models import (
    Line,
    PolicyChange,
    Reservation,
    SkuAvailability,
    StockChange,
    StockLevel,
)

from ._requests import Plan
from ._wire import Request

__all__ = ["NOT_REMOTE", "AsyncOperations", "Operations"]

_Codes: TypeAlias = NDArray[np.uint8]
_Names: TypeAlias = Any  # a sequence of str, a numpy array of them, an Arrow string array
_Ids: TypeAlias = NDArray[np.uint8]  # [n, 16]
_Lines: TypeAlias = Iterable[Line | tuple[str, str | None, int]]

NOT_REMOTE: frozenset[str]

class Operations:
    def _ask(self, request: Request) -> Any: ...
    def _run(self, asked: Request | Plan) -> Any: ...
    def reserve(
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
    def reserve_lines(
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
    def commit(
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
    def ship(
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
    def release(
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
    def cancel(
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
    def extend(
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
    def reservation(self, reservation_id: str, *, seller: str = "default") -> Reservation: ...
    def receive(
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
    def issue(
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
    def adjust(
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
    def set_on_hand(
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
    def set_policy(
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
    def availability(
        self, sku: str, location: None = None, *, seller: str = "default", relaxed: bool = False
    ) -> SkuAvailability: ...
    @overload
    def availability(
        self, sku: str, location: str, *, seller: str = "default", relaxed: bool = False
    ) -> StockLevel: ...
    def barrier(self) -> int: ...
    def sku_ids(
        self, names: _Names, *, seller: str = "default", create: bool = False
    ) -> NDArray[np.uint32]: ...
    def location_ids(self, names: _Names, *, create: bool = False) -> NDArray[np.uint16]: ...
    def sku_names(self, sku_ids: NDArray[np.uint32]) -> list[str]: ...
    def location_names(self, location_ids: NDArray[np.uint16]) -> list[str]: ...
    def reserve_batch(
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
    def receive_batch(
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
    def issue_batch(
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
    def adjust_batch(
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
    def commit_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def ship_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def release_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def cancel_batch(self, reservation_ids: _Ids, *, seller: str = "default") -> _Codes: ...
    def extend_batch(
        self, reservation_ids: _Ids, *, ttl_ms: int | NDArray[np.uint32], seller: str = "default"
    ) -> _Codes: ...
    def availability_batch(
        self, sku_ids: NDArray[np.uint32], location_ids: NDArray[np.uint16]
    ) -> NDArray[np.void]: ...

class AsyncOperations:
    async def _ask(self, request: Request) -> Any: ...
    async def _run(self, asked: Request | Plan) -> Any: ...
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
    async def reservation(self, reservation_id: str, *, seller: str = "default") -> Reservation: ...
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
    async def barrier(self) -> int: ...
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
