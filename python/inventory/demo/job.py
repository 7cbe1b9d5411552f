# SPDX-License-Identifier: Apache-2.0
"""What the worker process is told: every choice of a run, the same in each of its lives."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path

ABANDONED_TTL_MS = 1_500  # of a basket nobody comes back for
BASKET_TTL_MS = 600_000
ABANDONED_PERCENT = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One run of the demo."""

    store: str  # directory of the store
    ledger: str  # file of acknowledgements
    source: str | None  # stream to replay; None: the installed data package
    columns: dict[str, str]  # our names of its columns to its own, where given
    basket_count_max: int | None
    threads: int
    seed: int

    def to_json(self) -> str:
        """Spell the job as the worker's one argument."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def source_path(self) -> Path | None:
        return None if self.source is None else Path(self.source)

    def abandons(self, basket_id: str) -> bool:
        """Whether this basket is left to its deadline: the same answer in every life."""
        return zlib.crc32(f"{self.seed}:{basket_id}".encode()) % 100 < ABANDONED_PERCENT

    def ttl_ms(self, basket_id: str) -> int:
        return ABANDONED_TTL_MS if self.abandons(basket_id) else BASKET_TTL_MS
