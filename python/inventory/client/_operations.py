# SPDX-License-Identifier: Apache-2.0
"""The operations of a client as methods and as coroutine functions, made from one list.

Names, signatures and docstrings are those of the library; the stub beside this file gives their
types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from inventory import store
from inventory.errors import InventoryError

from ._requests import OPERATIONS, Plan
from ._wire import Request

__all__ = ["NOT_REMOTE", "AsyncOperations", "Operations"]

# What the library has and protocol v1 has not: walks over everything, events, and what is an
# operator's business.
NOT_REMOTE = frozenset(
    {
        "consumer",
        "consumers",
        "events",
        "finalize",
        "metrics",
        "recovery",
        "reservations",
        "rows",
        "snapshot",
        "to_arrow",
        "verify",
    }
)


class Operations:
    """What a blocking client can do. Made by :func:`inventory.Client`."""

    def _ask(self, request: Request) -> Any:
        raise NotImplementedError

    def _run(self, asked: Request | Plan) -> Any:
        if isinstance(asked, Request):
            return self._ask(asked)
        try:
            request = next(asked)
            while True:
                try:
                    value = self._ask(request)
                except InventoryError as error:
                    request = asked.throw(error)
                else:
                    request = asked.send(value)
        except StopIteration as end:
            return end.value


class AsyncOperations:
    """What an asyncio client can do. Made by :func:`inventory.aio.Client`."""

    async def _ask(self, request: Request) -> Any:
        raise NotImplementedError

    async def _run(self, asked: Request | Plan) -> Any:
        if isinstance(asked, Request):
            return await self._ask(asked)
        done, step = False, functools.partial(next, asked)
        while True:
            done, value = _advance(step)
            if done:
                return value
            try:
                answer = await self._ask(value)
            except InventoryError as error:
                step = functools.partial(asked.throw, error)
            else:
                step = functools.partial(asked.send, answer)


def _advance(step: Callable[[], Request]) -> tuple[bool, Any]:
    """The next request of a plan, or (True, its result)."""
    try:
        return False, step()
    except StopIteration as end:
        return True, end.value


def _method(operation: Callable[..., Any], build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(operation)
    def call(self: Operations, *args: Any, **options: Any) -> Any:
        return self._run(build(*args, **options))

    return call


def _coroutine(operation: Callable[..., Any], build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(operation)
    async def call(self: AsyncOperations, *args: Any, **options: Any) -> Any:
        return await self._run(build(*args, **options))

    return call


for _name, _build in OPERATIONS.items():
    _operation = getattr(store.Inventory, _name)
    setattr(Operations, _name, _method(_operation, _build))
    setattr(AsyncOperations, _name, _coroutine(_operation, _build))
