# SPDX-License-Identifier: Apache-2.0
# Stub of the compiled module. The documentation is in the docstrings of _core.pyx.

from collections.abc import Iterable
from typing import Literal, TypeAlias, final, overload

from typing_extensions import disjoint_base  # known to type checkers; nothing to install

from .models import (
    Line,
    Metrics,
    PolicyChange,
    Recovery,
    Reservation,
    SkuAvailability,
    Snapshot,
    StockChange,
    StockLevel,
    StoreFormat,
    VerifyReport,
)

_Lines: TypeAlias = Iterable[Line | tuple[str, str | None, int]]

@disjoint_base
class Memory:
    def _power_cut(self, seed: int) -> None: ...
    def _set_capacity(self, capacity_bytes: int) -> None: ...

@disjoint_base
class Lines: ...  # the binding's own: lines of a request as the core reads them

@final
class Handle:
    @property
    def read_only(self) -> bool: ...
    def open(
        self,
        *,
        path: bytes | None,
        memory: Memory | None,
        clock_unix_ms: int | None,
        durability: int,
        interval_ms: int,
        segment_bytes: int,
        id_retention_ms: int,
        ended_ids_max: int,
        default_ttl_ms: int,
        restart_grace_ms: int,
        downtime_ms_max: int,
        clock_slew: bool,
        wall_offset_ms: int,
        segments_ahead_max: int,
        snapshot_log_bytes: int,
        consumer_log_bytes_max: int,
        read_only: bool,
        upto_lsn: int,
        accept_loss_lsn: int,
    ) -> None: ...
    def is_open(self) -> bool: ...
    def is_forked(self) -> bool: ...
    def run_flusher(self) -> None: ...
    def run_timekeeper(self) -> None: ...
    def run_housekeeper(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def begin_abandon(self) -> int: ...
    def finish_abandon(self) -> None: ...
    def set_wall_offset(self, wall_offset_ms: int) -> None: ...
    def advance_to(self, now_unix_ms: int) -> None: ...
    def recovery(self) -> Recovery: ...

@disjoint_base
class Store:
    def __init__(self, handle: Handle) -> None: ...
    @property
    def _handle(self) -> Handle: ...
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
    def reservation(self, reservation_id: str, *, seller: str = "default") -> Reservation: ...
    def verify(self) -> VerifyReport: ...
    def metrics(self) -> Metrics: ...
    def barrier(self) -> int: ...
    def snapshot(self, *, timeout_s: int = 3600) -> Snapshot: ...
    def finalize(self, *, timeout_s: int = 60) -> StoreFormat: ...
