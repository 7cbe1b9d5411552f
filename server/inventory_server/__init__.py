# SPDX-License-Identifier: Apache-2.0
"""Front ends over the embedded engine: ZeroMQ now (``inventory serve``, docs/wire.md), HTTP later.

Imports point one way: front ends -> ``inventory``, never back. The package needs the extra
``server`` (pyzmq); importing this name alone needs nothing.
"""

__all__: list[str] = []
