# SPDX-License-Identifier: Apache-2.0
"""The operations of a store as coroutine functions, made from those of ``inventory.Inventory``.

Names, signatures and docstrings are those of the operations themselves; the stub beside this file
gives their types.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import store
from ._core import Store
from .errors import _TakesLong

if TYPE_CHECKING:
    from ._aio import Port

__all__ = ["Operations"]

_Call = Callable[..., Coroutine[Any, Any, Any]]

# What is not named here, and no batch, is a change of few lines: decided on the loop's own thread.
_READS = frozenset({"availability", "metrics", "reservation"})
_IN_THREAD = frozenset({"barrier", "finalize", "snapshot", "verify"})
_WALKS = frozenset({"reservations", "rows"})
_BY_HAND = frozenset({"close", "consumer", "events"})  # in aio.py


class Operations:
    """What :class:`inventory.aio.Inventory` can do with the store it is over."""

    _inv: store.Inventory

    def _port(self) -> Port:
        raise NotImplementedError


def _on_loop(operation: Callable[..., Any], *, reads: bool = False) -> _Call:
    @functools.wraps(operation)
    async def call(self: Operations, *args: Any, **options: Any) -> Any:
        try:
            answer = self._port().call(operation, args, options, reads)
            return await answer if asyncio.isfuture(answer) else answer
        except _TakesLong:
            pass
        return await asyncio.to_thread(operation, self._inv, *args, **options)

    return call


def _with_lines(operation: Callable[..., Any]) -> _Call:
    """As above. Lines are read at the call, once: a busy store tries the same call again later."""
    run = _on_loop(operation)
    comes_first = list(inspect.signature(operation).parameters)[1] == "lines"

    @functools.wraps(operation)
    async def call(self: Operations, *args: Any, **options: Any) -> Any:
        if options.get("lines") is not None:
            options["lines"] = list(options["lines"])
        elif comes_first and args:
            args = (list(args[0]), *args[1:])
        return await run(self, *args, **options)

    return call


def _in_thread(operation: Callable[..., Any]) -> _Call:
    @functools.wraps(operation)
    async def call(self: Operations, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(operation, self._inv, *args, **options)

    return call


def _walk(operation: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    """An asynchronous iterator; each piece is made in a thread."""

    @functools.wraps(operation)
    async def call(self: Operations, *args: Any, **options: Any) -> AsyncIterator[Any]:
        pieces, end = iter(operation(self._inv, *args, **options)), object()
        while (piece := await asyncio.to_thread(next, pieces, end)) is not end:
            yield piece

    return call


def _coroutine(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    if name in _WALKS:
        return _walk(operation)
    if name in _IN_THREAD or not hasattr(Store, name):  # the rest are batches
        return _in_thread(operation)
    if "lines" in inspect.signature(operation).parameters:
        return _with_lines(operation)
    return _on_loop(operation, reads=name in _READS)


for _name, _operation in inspect.getmembers(store.Inventory, callable):
    if not _name.startswith("_") and _name not in _BY_HAND:
        setattr(Operations, _name, _coroutine(_name, _operation))
