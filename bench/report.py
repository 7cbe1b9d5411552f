# SPDX-License-Identifier: Apache-2.0
"""Run the benches and print their figures beside what each must reach.

Builds nothing: the C benches come from ``--build`` (``make bench`` makes them), the Python ones use
the installed package. One JSON line a run goes to ``--json``; the table goes to the terminal.
With ``--smoke`` each bench runs for a moment, to see that it still works: only an error makes the
exit status non-zero, never a figure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, Any]

# Each in a process of its own: one run's memory is not another's.
C_RUNS = [("bench_core", ["--row", str(row)]) for row in (1, 2, 12, 14)]
PYTHON_RUNS = ["bench_api.py"]
FEWER_IS_BETTER = {"bytes", "ms", "seconds"}


def first_line(path: str, start: str) -> str:
    """The value of the first ``start...: value`` line of a file, or nothing."""
    try:
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(start):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def machine() -> str:
    cpu = first_line("/proc/cpuinfo", "model name") or platform.machine()
    memory_kib = first_line("/proc/meminfo", "MemTotal").split(" ")[0]
    memory = f", {int(memory_kib) >> 20} GiB" if memory_kib.isdigit() else ""
    return f"{cpu}, {os.cpu_count()} cores{memory}, {platform.system()} {platform.release()}"


def commit() -> str:
    """The commit measured; a dirty tree says so."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def run(command: list[str]) -> list[Row]:
    """The JSON lines of one bench. Its errors go to the terminal and end the report."""
    print("running:", " ".join(command), file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"{command[0]}: {error.strerror}; `make bench` builds it") from error
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed with status {done.returncode}")
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise SystemExit(f"{command[0]} printed no figures")
    return rows


def commands(flags: argparse.Namespace) -> list[list[str]]:
    extra = ["--smoke"] if flags.smoke else []
    extra += ["--dir", flags.dir] if flags.dir else []
    found = [[str(Path(flags.build) / name), *args, *extra] for name, args in C_RUNS]
    if not flags.no_python:
        found += [[sys.executable, str(ROOT / "bench" / name), *extra] for name in PYTHON_RUNS]
    return found


def number(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.1f} k" if value >= 1e3 else f"{value:.1f}"


def verdict(row: Row) -> str:
    figure, must, aim = row["figure"], row["must"], row["aim"]
    if row["unit"] in FEWER_IS_BETTER:
        figure, must, aim = -figure, -must, -aim
    if figure >= aim:
        return "aim"
    return "must" if figure >= must else "below"


def table(rows: list[Row], smoke: bool) -> str:
    """Rows as text; the figures of a smoke run are shown but not judged."""
    head = ["row", "what", "must", "aim", "figure", "spread", "unit", "durability", "reaches"]
    lines = [head]
    for row in rows:
        lines.append(
            [
                str(row["row"]),
                row["what"],
                number(row["must"]),
                number(row["aim"]),
                number(row["figure"]),
                row.get("spread", ""),
                row["unit"],
                row["durability"],
                "-" if smoke else verdict(row),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def merged(runs: list[list[Row]]) -> list[Row]:
    """One line a row: the median of its runs, with the spread beside it."""
    result = []
    for same in zip(*runs, strict=True):
        figures = [row["figure"] for row in same]
        row = dict(sorted(same, key=lambda one: one["figure"])[len(same) // 2])
        row["figure"] = statistics.median(figures)
        if len(figures) > 1:
            row["spread"] = f"{number(min(figures))} to {number(max(figures))}"
        result.append(row)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=str(ROOT / "build" / "c" / "bench"))
    parser.add_argument("--dir", help="where stores are made; a disk, not memory")
    parser.add_argument("--runs", type=int, default=1, help="of each bench; the median is shown")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--no-python", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="one line a row")
    flags = parser.parse_args()
    about: Row = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "commit": commit(),
        "smoke": flags.smoke,
    }
    rows: list[Row] = []
    for command in commands(flags):
        rows += merged([run(command) for _ in range(max(1, flags.runs))])
    rows.sort(key=lambda row: row["row"])
    if flags.json:
        flags.json.write_text("".join(json.dumps(about | row) + "\n" for row in rows))
    print(table(rows, flags.smoke))
    print(f"{about['date']}, commit {about['commit']}, {about['machine']}")


if __name__ == "__main__":
    main()
