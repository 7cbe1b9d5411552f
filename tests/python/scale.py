# SPDX-License-Identifier: Apache-2.0
"""How long the long tests are, and with which seed.

INV_TEST_SCALE multiplies their rounds (1 in everyday runs). The runner of campaigns
(tools/campaign.py) gives a seed and seconds instead, and reads the line that `units` prints.
"""

import os
import time

SEED = int(os.environ.get("INV_TEST_SEED", "20170101"))
SECONDS = float(os.environ.get("INV_TEST_SECONDS", "0"))


def scaled(count: int) -> int:
    """Rounds to run: `count` times INV_TEST_SCALE, at least 1."""
    return max(1, round(count * float(os.environ.get("INV_TEST_SCALE", "1"))))


class Rounds:
    """Round numbers: `count` of them, scaled, or as many as INV_TEST_SECONDS allow."""

    def __init__(self, count: int) -> None:
        self.count = scaled(count)
        self.until_s = time.monotonic() + SECONDS if SECONDS else None
        self.begun = 0

    def __iter__(self) -> "Rounds":
        return self

    def __next__(self) -> int:
        over = self.begun >= self.count if self.until_s is None else time.monotonic() > self.until_s
        if over:
            raise StopIteration
        self.begun += 1
        return self.begun - 1


def units(count: int, unit: str, seeds: int = 1) -> None:
    """Print the line that counts for a campaign."""
    print(f"units: {count} {unit}, seeds {SEED} to {SEED + seeds - 1}")
