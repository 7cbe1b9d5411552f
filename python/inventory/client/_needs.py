# SPDX-License-Identifier: Apache-2.0
"""What clients need beyond the library, looked for before anything else of them is imported."""

from __future__ import annotations

_EXTRA = "install the package's extra: pip install 'inventory-engine[client]'"

try:
    import msgpack
    import zmq
except ImportError as error:
    raise ImportError(f"clients need pyzmq and msgpack; {_EXTRA}") from error

if msgpack.version < (1, 2, 4):  # an older one may crash on bytes that are none
    raise ImportError(f"msgpack {msgpack.version} is too old for a client; {_EXTRA}")
if zmq.zmq_version_info() < (4, 3, 4):  # older ones can be taken over before a handshake
    raise ImportError(f"libzmq {zmq.zmq_version()} is too old for a client; {_EXTRA}")
