# SPDX-License-Identifier: Apache-2.0
"""An import that says on a pipe when progress has been kept: `import_worker.py PIPE STORE FILE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from inventory.cli import main
from inventory.loading import progress, run


def work(pipe: int, store: str, file: str) -> None:
    save = progress.save

    def save_and_say(path: Path, found: progress.Progress) -> None:
        save(path, found)
        os.write(pipe, b"%d\n" % found.rows)

    progress.save = save_and_say  # type: ignore[assignment]
    run.PROGRESS_INTERVAL_S = 0.0  # after every chunk
    main(["import", store, file])


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2], sys.argv[3])
