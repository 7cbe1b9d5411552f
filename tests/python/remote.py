# SPDX-License-Identifier: Apache-2.0
"""A store behind a node and a client, for tests that know only a store."""

from __future__ import annotations

from typing import Any

from reference_node import Node, Served

import inventory


class Remote:
    """Every operation goes through a client; what is not remote asks the store itself."""

    def __init__(self, inv: inventory.Inventory, **options: Any) -> None:
        self.inv = inv
        self.served = Served(Node(inv))
        self.client = inventory.Client(self.served.endpoint, **options)

    def __getattr__(self, name: str) -> Any:
        owner = self.client if name in dir(inventory.Client) else self.inv
        return getattr(owner, name)

    def close(self) -> None:
        self.client.close()
        self.served.close()
        self.inv.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
