# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: live progress, and the closing table. Needs rich; plain without a tty."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from inventory.demo.result import Result

PLAIN_INTERVAL_S = 5.0


class View:
    """Progress of one run, on standard error so that a result on standard output stays clean."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=None, note="", visible=False)
        self._phase = ""
        self._said_s = time.monotonic()

    def __enter__(self) -> View:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line above the progress bar."""
        self._console.print(text, soft_wrap=True)

    def show(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Bring the progress bar up to date; without a terminal a line every few seconds."""
        if self._live:
            if phase != self._phase:
                self._progress.reset(self._task, total=total, description=phase, visible=True)
            self._progress.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self._said_s >= PLAIN_INTERVAL_S:
            self._said_s = time.monotonic()
            self._console.print(f"{phase}: {done:,} of {total:,}  {note}".rstrip())
        self._phase = phase


def print_result(result: Result) -> None:
    """Print the closing table and, if anything is wrong, what."""
    console = Console(file=sys.stdout, highlight=False)
    table = Table(title="Baskets against durable stock", show_header=False, title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    for name, figure in result.rows():
        table.add_row(name, figure)
    console.print(table)
    for problem in result.problems[:20]:
        console.print(f"[red]WRONG[/red] {problem}" if console.is_terminal else f"WRONG {problem}")
    if len(result.problems) > 20:
        console.print(f"... and {len(result.problems) - 20:,} more")
    console.print("Everything agrees." if result.ok else "The run FAILED.")
