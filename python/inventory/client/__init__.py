# SPDX-License-Identifier: Apache-2.0
"""Clients of a node: the operations of the library over ZeroMQ. docs/clients.md tells it whole.

``inventory.Client`` is for threads, ``inventory.aio.Client`` for asyncio. Both speak protocol v1
(docs/wire.md) and need the extra ``client`` of the package: pyzmq and msgpack.
"""

from __future__ import annotations

from . import _needs as _needs  # first: it says which extra is missing
from ._blocking import Client
from ._operations import NOT_REMOTE, AsyncOperations, Operations

__all__ = ["NOT_REMOTE", "AsyncOperations", "Client", "Operations"]
