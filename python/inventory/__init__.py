# SPDX-License-Identifier: Apache-2.0
"""Exact real-time stock and reservations with a TTL, logged and crash-safe.

>>> with inventory.open() as shop:                    # a path makes it a store on disk
...     change = shop.receive("TEE", "LON", 100)
...     hold = shop.reserve("TEE", 2, location="LON", reservation_id="cart-17")
...     order = shop.commit("cart-17")
...     shop.availability("TEE", "LON").available_to_promise
98
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors, events, log, models
from .errors import (
    BadRequest,
    EventsTrimmed,
    Expired,
    IdempotencyMismatch,
    InsufficientStock,
    InventoryError,
    OutcomeUnknown,
    OverCommit,
    StoreClosed,
    UnknownReservation,
    UnknownSku,
)
from .models import (
    Event,
    Line,
    Reservation,
    ReservationLine,
    ShortLine,
    SkuAvailability,
    State,
    StockChange,
    StockLevel,
    VerifyReport,
)
from .store import Inventory, fsck, open, verify

if TYPE_CHECKING:
    from . import aio
    from .client import Client as Client  # not in __all__: it needs an extra

__all__ = [
    "BadRequest",
    "Event",
    "EventsTrimmed",
    "Expired",
    "IdempotencyMismatch",
    "InsufficientStock",
    "Inventory",
    "InventoryError",
    "Line",
    "OutcomeUnknown",
    "OverCommit",
    "Reservation",
    "ReservationLine",
    "ShortLine",
    "SkuAvailability",
    "State",
    "StockChange",
    "StockLevel",
    "StoreClosed",
    "UnknownReservation",
    "UnknownSku",
    "VerifyReport",
    "aio",
    "errors",
    "events",
    "fsck",
    "log",
    "models",
    "open",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import ``inventory.aio`` when it is first named: asyncio takes longer than all the rest; and
    ``inventory.Client``, which needs pyzmq and msgpack."""
    if name == "aio":
        return import_module(".aio", __name__)
    if name == "Client":
        return import_module(".client", __name__).Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
