# SPDX-License-Identifier: Apache-2.0
"""ZeroMQ and HTTP front ends over the embedded engine.

Empty in this release: the package is reserved so that its name, its place in the wheel and the
direction of its imports (front ends -> service -> ``inventory``, never back) are settled. The
servers come in a later release; until then use the library, ``import inventory``, or the command
line, ``inventory``.
"""

__all__: list[str] = []
