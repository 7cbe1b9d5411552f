# SPDX-License-Identifier: Apache-2.0
"""Run the campaigns of docs/campaigns.md, one by name, and keep the ledger of what was done.

    make campaign                           # the list, with what the ledger holds
    make campaign NAME=crash BUDGET=10m     # seconds (90s) or minutes, at most 10 minutes a command
    make campaign NAME=retry BUDGET=500000  # or a count of the campaign's units
    make campaign NAME=ledger               # every run
    make campaign NAME=planted              # every planted bug must be caught

A campaign is one or more parts: programs that take a seed and seconds and print
`units: <count> <unit>, seeds <first> to <last>`. Seeds go on from run to run, so that long
campaigns add up out of short commands. A violation prints the seed, the commit and the command that
repeats it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "build" / "c" / "tests"
LEDGER = ROOT / "build" / "campaigns.jsonl"
SEED_FIRST = 30_000_000  # beyond those of the everyday tests
BUDGET_MAX_S = 600.0
SLICE_S = 5.0  # of a run that counts units: long enough for the slowest round of most parts
SLICE_MAX_S = 60.0
GRACE_S = 240.0  # a part may finish the round it is in

UNITS = re.compile(r"^units: (\d+) (\w+), seeds (\d+) to (\d+)$", re.MULTILINE)
REPEAT = re.compile(r"^(?:seed \d+ \()?repeat: ([^\n)]+)\)?$", re.MULTILINE)
PLANTED = re.compile(
    r"^planted: (\d+) (caught|NOT CAUGHT) by (.+?) in ([\d.]+) s: ([^\n]*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Part:
    """One program of a campaign. `style` says how it is given its seed and its seconds."""

    program: str
    style: str = "options"  # options: --seed --seconds; test: argv and environment; pytest
    arguments: tuple[str, ...] = ()
    share: float = 1.0  # of the campaign's seconds
    units_each: int = 0  # of a program that does not count: what one run of it does
    unit: str = ""

    @property
    def name(self) -> str:
        words = [Path(self.program).stem, *(a for a in self.arguments if not a.startswith("-"))]
        return " ".join(words)

    def path(self) -> Path:
        return ROOT / self.program if self.style == "pytest" else PROGRAMS / self.program

    def command(self, seed: int, seconds: float) -> tuple[list[str], dict[str, str]]:
        if self.style == "options":
            timing = ["--seed", str(seed), "--seconds", f"{seconds:.1f}"]
            return [str(self.path()), *timing, *self.arguments], {}
        if self.style == "test":
            return [str(self.path()), str(seed), *self.arguments], {
                "INV_TEST_SECONDS": f"{seconds:.1f}"
            }
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
        if self.units_each:
            command.append(f"--hypothesis-seed={seed}")
        return [*command, str(self.path()), *self.arguments], {
            "INV_TEST_SEED": str(seed),
            "INV_TEST_SECONDS": f"{seconds:.1f}",
        }


@dataclass(frozen=True)
class Campaign:
    """A row of RELIABILITY 5.2; `nightly` and `release` are figures in the unit of its parts."""

    number: int
    name: str
    title: str
    unit: str
    nightly: str
    release: str
    parts: tuple[Part, ...] = field(default_factory=tuple)


KILL = "tests/python/test_kill.py"
MODEL = "tests/python/test_model.py"
DISK_FULL = "tests/python/test_disk_full.py"

# fmt: off
CAMPAIGNS = (
    Campaign(
        1, "model", "random commands against a plain model", "commands", "5 M", "100 M",
        (
            Part("sim_model", "test", ("memory_mode",), 0.4),
            Part("sim_model", "test", ("durable_mode",), 0.4),
            Part(MODEL, "pytest", (), 0.2, units_each=100, unit="examples"),
        ),
    ),
    Campaign(
        2, "engine", "the whole engine: clients, faults, restarts, then no fault", "seeds",
        "200 k", "1 M", (Part("sim_engine"),),
    ),
    Campaign(
        3, "crash", "power cut at every storage call, mixtures of sectors", "states",
        "5 M", "20 M", (Part("sim_crash", share=0.4), Part("planted_crash", share=0.6)),
    ),
    Campaign(
        4, "bytes", "every byte of log and snapshot to other values", "trials",
        "16.7 M", "33.4 M",
        (
            Part("sim_corrupt_all", arguments=("--full",), share=0.4),
            Part("sim_corrupt", arguments=("--part", "bytes", "--full"), share=0.3),
            Part("sim_corrupt", arguments=("--part", "snapshots", "--full"), share=0.3),
        ),
    ),
    Campaign(
        5, "files", "files and sectors cut, deleted, swapped, zeroed, foreign", "trials",
        "500 k", "all", (Part("sim_corrupt", arguments=("--part", "files", "--full")),),
    ),
    Campaign(
        6, "io", "the nth storage call fails, once or for good", "faults", "all sites", "1 M",
        (Part("sim_io", arguments=("--part", "errors")),),
    ),
    Campaign(
        7, "memory", "the nth allocation fails, once or for good", "faults", "all sites", "same",
        (Part("sim_io", arguments=("--part", "memory")),),
    ),
    Campaign(
        8, "kill", "SIGKILL under load, ledgers compared", "kills", "2,000", "10,000",
        (Part(KILL, "pytest"),),
    ),
    Campaign(
        11, "full", "a full disk, filled and freed again", "cycles", "50", "200",
        (
            Part("sim_io", arguments=("--part", "full"), share=0.3),
            Part(DISK_FULL, "pytest", share=0.7),
        ),
    ),
    Campaign(
        12, "hot", "all threads on a few rows, books compared", "attempts", "500 M", "10^9",
        (Part("test_hot", "test", ("hot_rows",)),),
    ),
    Campaign(
        14, "carts", "overlapping carts of up to 256 lines, seen whole", "carts", "50 M", "200 M",
        (Part("test_hot", "test", ("carts_are",)),),
    ),
    Campaign(
        15, "retry", "requests twice, late, reordered, changed, over restarts", "requests",
        "10 M", "50 M", (Part("sim_retry"),),
    ),
    Campaign(
        16, "wheel", "the timing wheel against a sorted list", "operations", "100 M", "10^9",
        (Part("test_wheel", "test", ("random_operations",)),),
    ),
    Campaign(
        17, "clock", "clocks that jump, drift, stop and go back", "seeds", "50 k", "50 k",
        (Part("sim_clock"),),
    ),
    Campaign(
        21, "fuzz", "decoders and command sequences on bytes of any kind", "inputs",
        "1 h each", "24 h each",
        (
            Part("fuzz_log", share=0.2),
            Part("fuzz_snapshot", share=0.2),
            Part("fuzz_effect", share=0.2),
            Part("fuzz_commands", share=0.2),
            Part("fuzz_wire", share=0.2),
        ),
    ),
)

# fmt: on

# Programs that plant one bug after the other.
PLANTED_PROGRAMS = ("planted_log", "planted_model", "planted_race", "planted_snapshot")


class CampaignError(Exception):
    """Ends the command; the message says what is wrong and what to do."""


# ---- the ledger ----------------------------------------------------------------------------------


def read_ledger() -> list[dict[str, Any]]:
    if not LEDGER.exists():
        return []
    return [json.loads(line) for line in LEDGER.read_text().splitlines() if line]


def write_ledger(entry: dict[str, Any]) -> None:
    LEDGER.parent.mkdir(exist_ok=True)
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(entry) + "\n")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return done.stdout.strip()


def build_id() -> str:
    """The commit, marked when the tree has other changes."""
    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")


def next_seed(ledger: Iterable[dict[str, Any]], campaign: Campaign, part: Part) -> int:
    used = [
        entry["seed_next"]
        for entry in ledger
        if entry["name"] == campaign.name and entry["part"] == part.name
    ]
    return max(used, default=SEED_FIRST)


# ---- running -------------------------------------------------------------------------------------


@dataclass
class Ran:
    units: int
    unit: str
    seed_next: int
    failed: bool
    repeat: str


def run_part(part: Part, seed: int, seconds: float) -> Ran:
    """One process of a part; what it prints is shown as it stands."""
    if not part.path().exists():
        raise CampaignError(
            f"{part.path().relative_to(ROOT)} is not there: that part of the campaign is not built"
        )
    command, environment = part.command(seed, seconds)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=2 * seconds + GRACE_S,
        )
        output, failed = done.stdout, done.returncode != 0
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        output = said if isinstance(said, str) else said.decode(errors="replace")
        output += f"\n{part.name} did not end within {late.timeout:.0f} s\n"
        failed = True
    for line in output.splitlines():
        print(f"    {line}")
    counted = UNITS.findall(output)
    ran = Ran(part.units_each, part.unit, seed + 1, failed, shell_text(command, environment))
    if counted:
        ran.units = sum(int(count) for count, *_ in counted)
        ran.unit = counted[-1][1]
        ran.seed_next = max(int(last) for *_, last in counted) + 1
    elif not part.units_each and not failed:
        raise CampaignError(f"{part.name} did not say how much it did (a line `units: ...`)")
    repeat = REPEAT.search(output)
    if repeat:
        ran.repeat = repeat.group(1)
    return ran


def shell_text(command: list[str], environment: dict[str, str]) -> str:
    settings = [f"{name}={value}" for name, value in environment.items()]
    relative = [argument.removeprefix(f"{ROOT}/") for argument in command]
    return " ".join([*settings, *relative])


def book(campaign: Campaign, part: Part, seed: int, ran: Ran, seconds: float, build: str) -> None:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_ledger(
        {
            "date": now,
            "number": campaign.number,
            "name": campaign.name,
            "part": part.name,
            "seed_first": seed,
            "seed_next": ran.seed_next,
            "units": ran.units,
            "unit": ran.unit,
            "violations": int(ran.failed),
            "seconds": round(seconds, 1),
            "commit": build,
            "repeat": ran.repeat if ran.failed else "",
        }
    )
    word = "VIOLATION" if ran.failed else "passed"
    print(
        f"{campaign.name} ({part.name}): {word}, {ran.units:,} {ran.unit}, "
        f"seeds {seed} to {ran.seed_next - 1}, {seconds:.1f} s"
    )
    if ran.failed:
        print(f"    build {build}\n    repeat: {ran.repeat}")


@dataclass(frozen=True)
class Budget:
    seconds: float
    count: int = 0  # of units; 0: only the seconds count


def parse_budget(text: str) -> Budget:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smk]?)", text)
    if not found:
        raise CampaignError(f"BUDGET={text}: 90s, 10m or a count such as 200000 or 200k")
    figure, suffix = float(found.group(1)), found.group(2)
    if suffix in ("s", "m"):
        seconds = figure * (60 if suffix == "m" else 1)
        if not 0 < seconds <= BUDGET_MAX_S:
            raise CampaignError(f"BUDGET={text}: more than 0, at most 10m; the ledger adds runs up")
        return Budget(seconds)
    count = int(figure * (1000 if suffix == "k" else 1))
    if count < 1:
        raise CampaignError(f"BUDGET={text}: at least one unit")
    return Budget(BUDGET_MAX_S, count)


def run_until(campaign: Campaign, part: Part, budget: Budget, build: str) -> bool:
    """Run a part for its share of the budget; False: it found a violation."""
    began = time.monotonic()
    seconds, count = budget.seconds * part.share, round(budget.count * part.share)
    done, slice_s = 0, SLICE_S
    while True:
        left = seconds - (time.monotonic() - began)
        counting = count > 0 and done < count
        if left <= 0.5 or (count > 0 and not counting):
            return True
        if part.units_each:
            left = 1.0  # one run of it is all that can be asked for
        elif counting:
            left = min(left, slice_s)
            slice_s = min(2 * slice_s, SLICE_MAX_S)
        seed = next_seed(read_ledger(), campaign, part)
        slice_began = time.monotonic()
        ran = run_part(part, seed, left)
        book(campaign, part, seed, ran, time.monotonic() - slice_began, build)
        done += ran.units
        if ran.failed:
            return False
        if not counting and not part.units_each:
            return True


def run_campaign(campaign: Campaign, budget: Budget) -> bool:
    build = build_id()
    print(f"campaign {campaign.number}, {campaign.name}: {campaign.title}; build {build}")
    missing: list[CampaignError] = []
    ok = True
    for part in campaign.parts:
        try:
            ok = run_until(campaign, part, budget, build) and ok
        except CampaignError as error:
            missing.append(error)
    if missing:
        raise CampaignError("; ".join(str(error) for error in missing))
    return ok


# ---- planted bugs --------------------------------------------------------------------------------


def planted_names() -> dict[int, str]:
    """The bugs there are, by number, as inv_base.h lists them."""
    text = (ROOT / "src/invcore/base/inv_base.h").read_text()
    names = dict.fromkeys(re.findall(r"^\s+INV_PLANT_(\w+)\b", text, re.MULTILINE))
    return dict(enumerate(names))


def run_planted() -> bool:
    """Every bug must be caught, and nothing may be found where none is planted."""
    names, caught, ok = planted_names(), {}, True
    build = build_id()
    for program in PLANTED_PROGRAMS:
        path = PROGRAMS / program
        if not path.exists():
            raise CampaignError(f"{path.relative_to(ROOT)} is not there: build it first")
        done = subprocess.run(
            [str(path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            errors="replace", timeout=1800,
        )  # fmt: skip
        ok = ok and done.returncode == 0
        if done.returncode != 0:
            print(f"{program} failed; build {build}; repeat: build/c/tests/{program}")
            print("\n".join(f"    {line}" for line in done.stdout.splitlines()[-5:]))
        for number, word, by, seconds, how in PLANTED.findall(done.stdout):
            if int(number) != 0:
                caught.setdefault(int(number), []).append((word, by, float(seconds), how))
    print(f"planted bugs, build {build}")
    for number, name in list(names.items())[1:]:
        finds = [find for find in caught.get(number, []) if find[0] == "caught"]
        ok = ok and bool(finds)
        how = "; ".join(f"{by} in {seconds:.1f} s" for _, by, seconds, _ in finds)
        print(f"  {name.lower():26} {how or 'NOT CAUGHT'}")
    write_ledger(
        {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "number": 28, "name": "planted", "part": "all", "seed_first": 0, "seed_next": 0,
            "units": len(names) - 1, "unit": "bugs", "violations": int(not ok),
            "seconds": round(sum(f[2] for finds in caught.values() for f in finds), 1),
            "commit": build, "repeat": "" if ok else "make campaign NAME=planted",
        }
    )  # fmt: skip
    return ok


# ---- what there is -------------------------------------------------------------------------------


def print_list() -> None:
    ledger = read_ledger()
    print(f"{'no':>2}  {'name':8} {'done (ledger)':>26} {'found':>5}  {'N':>9} {'R':>9}  what")
    for campaign in CAMPAIGNS:
        runs = [entry for entry in ledger if entry["name"] == campaign.name]
        by_unit: dict[str, int] = {}
        for entry in runs:
            by_unit[entry["unit"]] = by_unit.get(entry["unit"], 0) + entry["units"]
        done = f"{by_unit.get(campaign.unit, 0):,} {campaign.unit}" if runs else "-"
        found = sum(entry["violations"] for entry in runs)
        missing = [part.name for part in campaign.parts if not part.path().exists()]
        note = f" (not there: {', '.join(missing)})" if missing else ""
        print(
            f"{campaign.number:2}  {campaign.name:8} {done:>26} {found:5}  "
            f"{campaign.nightly:>9} {campaign.release:>9}  {campaign.title}{note}"
        )
    print("\nmake campaign NAME=<name> BUDGET=10m; also NAME=planted, NAME=ledger")


def print_ledger() -> None:
    for entry in read_ledger():
        word = "VIOLATION" if entry["violations"] else "passed"
        print(
            f"{entry['date']}  {entry['commit']:20} {entry['number']:2} {entry['name']:8} "
            f"{entry['part']:22} seeds {entry['seed_first']} to {entry['seed_next'] - 1}  "
            f"{entry['units']:,} {entry['unit']}  {entry['seconds']:.0f} s  {word}"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run a campaign and keep its ledger.")
    parser.add_argument("name", nargs="?", default="", help="campaign, `planted` or `ledger`")
    parser.add_argument("--budget", default="1m", help="90s, 10m, or a count of units")
    chosen = parser.parse_args(arguments)
    by_name = {campaign.name: campaign for campaign in CAMPAIGNS}
    try:
        if chosen.name == "":
            print_list()
            return 0
        if chosen.name == "ledger":
            print_ledger()
            return 0
        if chosen.name == "planted":
            return 0 if run_planted() else 1
        if chosen.name not in by_name:
            raise CampaignError(f"NAME={chosen.name}: one of {', '.join(by_name)}, planted, ledger")
        return 0 if run_campaign(by_name[chosen.name], parse_budget(chosen.budget)) else 1
    except CampaignError as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
