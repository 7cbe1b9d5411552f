# SPDX-License-Identifier: Apache-2.0
"""How long the long tests are: INV_TEST_SCALE multiplies their rounds (1 in everyday runs)."""

import os


def scaled(count: int) -> int:
    """Rounds to run: `count` times INV_TEST_SCALE, at least 1."""
    return max(1, round(count * float(os.environ.get("INV_TEST_SCALE", "1"))))
