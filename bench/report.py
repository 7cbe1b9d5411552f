# SPDX-License-Identifier: Apache-2.0
"""Run the benches in turn and print their figures beside what each must reach.

    report.py                       all, full sizes, three rounds: 45 minutes, 20 GiB of disk
    report.py --quick --rounds 1    smaller sizes: minutes
    report.py --smoke               each for a moment, to see that it works; its figures are nothing
    report.py --markdown            print the last saved figures as Markdown; runs nothing
    report.py --update FILE...      put them between the markers of these pages; runs nothing

Builds nothing: the C benches come from ``--build`` (``make bench`` makes them), the Python ones use
the installed package. A round runs every bench once, each in a process of its own, then the next
round begins: what disturbs the machine for a while disturbs all. The figure is the median of the
rounds. Memory, which does not vary, is measured in the first round only.

Figures go to ``build/bench``: every line as it comes to ``lines.jsonl``; what pytest-benchmark
saves of each Python bench and round to ``pytest``; the run to ``<date>-<commit>.json``, and to
``latest.json`` when it was of all rows and nothing failed (a smoke run: ``smoke.json`` only). A
bench that fails does not stop the others; the exit status is 1 then. No figure ever changes it.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import figures

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "bench"
Line = dict[str, Any]

QUICK = ["--skus", "1000000", "--reservations", "1000000", "--ended", "1000000", "--seconds", "5"]


@dataclasses.dataclass(frozen=True)
class Bench:
    """One process of a round. ``rows`` of the table it measures; none: it is the peers' contest."""

    name: str
    rows: tuple[int, ...]
    arguments: tuple[str, ...] = ()
    once: bool = False
    program: str = ""  # must be installed, else this one is left out

    @property
    def is_python(self) -> bool:
        return self.name.endswith(".py")


def contest(contender: str, work: str, durability: str) -> Bench:
    name = f"test_reserve[{contender}-{work}-{durability}]"
    program = "redis-server" if contender == "redis" else ""
    return Bench("bench_peers.py", (), (name,), program=program)


PLAN = [
    Bench("bench_lines", (19,)),
    Bench("bench_core", (1,), ("--row", "1")),
    Bench("bench_core", (2,), ("--row", "2")),
    Bench("bench_api.py", (3,)),
    Bench("bench_batch.py", (4,)),
    Bench("bench_hot", (9,), ("--row", "9")),
    Bench("bench_hot", (17,), ("--row", "17")),
    Bench("bench_rows.py", (10, 11), once=True),
    Bench("bench_core", (12,), ("--row", "12"), once=True),
    Bench("bench_core", (14,), ("--row", "14")),
    Bench("bench_expiry", (13,)),
    Bench("bench_snapshot.py", (15,)),
    Bench("bench_hold", (20,)),
    Bench("bench_aio.py", (18,)),
    contest("engine", "one by one", "memory"),
    contest("dict", "one by one", "memory"),
    contest("engine", "one by one", "durable"),
    contest("redis", "one by one", "durable"),
    contest("engine", "together", "durable"),
    contest("redis", "together", "durable"),
]


class BenchFailed(Exception):
    pass


# ---- running ------------------------------------------------------------------------------------


def run_c(command: list[str]) -> list[Line]:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise BenchFailed(f"{error.strerror}; `make bench` builds it") from error
    if done.returncode != 0:
        raise BenchFailed(f"exit status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def run_python(node: str, arguments: list[str], saved: Path) -> list[Line]:
    """A pytest-benchmark run; its lines are the ``extra_info`` of the JSON it saves, or their
    ``lines``."""
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += [node, *arguments, "--benchmark-quiet", f"--benchmark-json={saved}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    if done.returncode != 0 or not saved.exists():
        print(done.stdout, file=sys.stderr)
        raise BenchFailed(f"exit status {done.returncode}")
    infos = [found["extra_info"] for found in json.loads(saved.read_text())["benchmarks"]]
    return [line for info in infos for line in info.get("lines", [info])]


def run(bench: Bench, flags: argparse.Namespace, turn: int) -> list[Line]:
    """The lines of one bench in one round. Raises BenchFailed."""
    extra = ["--smoke"] if flags.smoke else QUICK if flags.quick else []
    extra = [*extra, "--dir", str(flags.dir)] if flags.dir else extra
    if bench.is_python:
        node = "::".join([str(ROOT / "bench" / bench.name), *bench.arguments])
        name = re.sub(r"[^\w.]+", "-", "-".join([bench.name, *bench.arguments])).strip("-")
        lines = run_python(node, extra, RESULTS / "pytest" / f"{name}-{turn}.json")
    else:
        lines = run_c([str(flags.build / bench.name), *bench.arguments, *extra])
    if not lines:
        raise BenchFailed("printed no figures")
    missing = set(bench.rows) - {line.get("row") for line in lines}
    if missing:
        raise BenchFailed(f"printed nothing for row {', '.join(map(str, sorted(missing)))}")
    return lines


def chosen(flags: argparse.Namespace) -> list[Bench]:
    """The plan, without what was not asked for and what can't be run here."""
    missing = {b.program for b in PLAN if b.program and shutil.which(b.program) is None}
    for program in sorted(missing):
        print(f"{program} is not installed: left out", file=sys.stderr)
    present = [bench for bench in PLAN if bench.program not in missing]
    if not flags.rows:
        return present
    rows = {int(row) for row in flags.rows.split(",") if row != "peers"}
    known = {row for bench in PLAN for row in bench.rows}
    if rows - known:
        raise SystemExit(f"--rows: nothing measures {', '.join(map(str, sorted(rows - known)))}")
    peers = "peers" in flags.rows.split(",")
    return [b for b in present if rows & set(b.rows) or (peers and not b.rows)]


def run_all(flags: argparse.Namespace) -> tuple[list[Line], list[str]]:
    """All rounds. Returns the lines, and what failed."""
    lines: list[Line] = []
    failures = []
    RESULTS.mkdir(parents=True, exist_ok=True)
    benches = chosen(flags)
    with (RESULTS / "lines.jsonl").open("w") as file:
        for turn in range(1, flags.rounds + 1):
            for bench in benches:
                if bench.once and turn > 1:
                    continue
                title = " ".join([bench.name, *bench.arguments])
                print(f"round {turn} of {flags.rounds}: {title}", file=sys.stderr, flush=True)
                try:
                    found = run(bench, flags, turn)
                except BenchFailed as failure:
                    failures.append(f"{title}: {failure}")
                    print(failures[-1], file=sys.stderr, flush=True)
                    continue
                for line in found:
                    print(json.dumps(line | {"round": turn}), file=file, flush=True)
                lines += found
    return lines, failures


# ---- what the figures were taken on -------------------------------------------------------------


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
    memory = f", {int(memory_kib) / (1 << 20):.0f} GiB" if memory_kib.isdigit() else ""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{cpu}, {os.cpu_count()} cores{memory}, {system}"


def disk(directory: Path) -> str:
    """The file system a directory is on."""
    best, kind = "", "an unknown file system"
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, found, *_ = line.split()
            if directory.is_relative_to(mount) and len(mount) > len(best):
                best, kind = mount, found
    except OSError:
        pass
    return kind


def commit() -> str:
    """The commit measured; a dirty tree says so."""
    try:
        command = ["git", "describe", "--always", "--dirty"]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def load_average() -> str:
    return f"{os.getloadavg()[0]:.1f}"


# ---- saved figures ------------------------------------------------------------------------------


def save(about: Line, merged: list[figures.Merged], whole: bool) -> Path:
    """Write the figures of a run; those of a whole one are the latest ones. Returns the path."""
    text = json.dumps({"about": about, "lines": [one.saved() for one in merged]}, indent=1)
    if about["sizes"] == "smoke":
        path = RESULTS / "smoke.json"
    else:
        moment = about["date"][:19].replace(":", "")
        path = RESULTS / f"{moment}-{about['commit']}.json"
        if whole:
            (RESULTS / "latest.json").write_text(text)
    path.write_text(text)
    return path


def load(path: Path) -> tuple[Line, list[figures.Merged]]:
    try:
        saved = json.loads(path.read_text())
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}; a run of `make bench` makes it") from error
    return saved["about"], [figures.Merged.loaded(line) for line in saved["lines"]]


def update(pages: list[Path], text: str) -> None:
    """Replace the figures of the pages: of all, or of none when one has no place for them."""
    new = {}
    for page in pages:
        try:
            new[page] = figures.replaced(page.read_text(encoding="utf-8"), text)
        except (OSError, ValueError) as error:
            raise SystemExit(f"{page}: {error}") from error
    for page, content in new.items():
        page.write_text(content, encoding="utf-8")


# ---- the command --------------------------------------------------------------------------------


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--smoke", action="store_true", help="each bench for a moment")
    size.add_argument("--quick", action="store_true", help="1 M SKUs and reservations, 5 s")
    parser.add_argument("--rounds", type=int, help="3; with --smoke 1")
    parser.add_argument("--rows", help="only these, as in 1,2,peers")
    parser.add_argument("--dir", type=Path, help="where stores are made; a disk, not memory")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "c" / "bench")
    parser.add_argument("--markdown", action="store_true", help="print saved figures")
    parser.add_argument("--update", type=Path, nargs="+", metavar="FILE", help="pages to put them")
    parser.add_argument(
        "--saved",
        type=Path,
        default=RESULTS / "latest.json",
        metavar="JSON",
        help="of another run than the latest whole one",
    )
    flags = parser.parse_args()
    flags.rounds = flags.rounds or (1 if flags.smoke else 3)
    if flags.rounds < 1:
        parser.error("--rounds: at least 1")
    return flags


def main() -> None:
    flags = parsed()
    if flags.markdown or flags.update:
        text = figures.report_markdown(*load(flags.saved))
        if flags.update:
            update(flags.update, text)
        else:
            print(text)
        return
    about: Line = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "disk": disk((flags.dir or Path(tempfile.gettempdir())).resolve()),
        "commit": commit(),
        "sizes": "smoke" if flags.smoke else "quick" if flags.quick else "full",
        "rounds": flags.rounds,
        "load_before": load_average(),
    }
    lines, failures = run_all(flags)
    about["load_after"] = load_average()
    merged = figures.merge(lines)
    if merged:
        path = save(about, merged, whole=not flags.rows and not failures)
        print(figures.report_text(about, merged))
        print(f"saved in {path}")
    for failure in failures:
        print(f"FAILED: {failure}")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
