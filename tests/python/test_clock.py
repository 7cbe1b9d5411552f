# SPDX-License-Identifier: Apache-2.0
"""Real clocks (campaign 17, its real runs): a child that is stopped, a wall clock that is set under
a running store, and a machine that was started again.

No test here sets the machine's clock. The wall clock of a child is moved by a library put before
the C library, the boot clock by a time namespace; where one can't be had, the test skips and says
so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Answers a question on each line of its input with a line of JSON.
CHILD = """
import json, sys, inventory
inv = inventory.open(sys.argv[1], restart_grace_ms=0)
inv.receive("TEE", "LON", 100, op_id="first")
print(json.dumps([inv.recovery.downtime_ms, inv.recovery.wall_difference_ms,
                  inv.recovery.clock_alarm]), flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    if name == "hold":
        inv.reserve("TEE", 1, reservation_id=arguments[0], ttl_ms=arguments[1])
        answer = True
    elif name == "state":
        answer = inv.reservation(arguments[0]).state.name
    elif name == "ok":
        answer = inv.verify().ok
    elif name == "close":
        inv.close()
        answer = True
    else:
        answer = {key: getattr(inv.metrics(), key) for key in arguments}
    print(json.dumps(answer), flush=True)
"""

# REALTIME of the process is shifted by the milliseconds in the file that WALL_SHIFT_FILE names.
SHIFT = """
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static long long shift_ms(void) {
    char text[32] = {0};
    const char *name = getenv("WALL_SHIFT_FILE");
    int file = name == NULL ? -1 : open(name, O_RDONLY);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atoll(text);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (failed != 0 || id != CLOCK_REALTIME) return failed;
    long long ms = (long long)now->tv_sec * 1000 + now->tv_nsec / 1000000 + shift_ms();
    now->tv_sec = ms / 1000;
    now->tv_nsec = ms % 1000 * 1000000;
    return 0;
}
"""

HOUR_MS = 3_600_000
LAG_MS_MAX = 200  # 20 is normal; the machine that runs the tests has other things to do too


class Child:
    """A store in a process of its own."""

    def __init__(self, path: Path, *before: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", CHILD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.downtime_ms, self.wall_difference_ms, self.clock_alarm = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the child died"
        return json.loads(line)

    def ask(self, *question: object) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def metric(self, name: str) -> int:
        figure = self.ask("metrics", name)[name]
        assert isinstance(figure, int)
        return figure

    def settled(self, wait_s: float = 5) -> float:
        """Wait until time is up with the clock; return how long that took."""
        began_s = time.monotonic()
        while self.metric("lag_ms") > LAG_MS_MAX:
            assert time.monotonic() < began_s + wait_s, "lag stays"
            time.sleep(0.005)
        return time.monotonic() - began_s

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.end()


def test_a_stopped_process(tmp_path: Path, children: list[Child]) -> None:
    """Stopped for 3 s: what was due by then is gone, what was not lives, and time is up at once."""
    child = Child(tmp_path / "shop")
    children.append(child)
    for number in range(50):
        child.ask("hold", f"short-{number}", 1_000 + 20 * number)
        child.ask("hold", f"long-{number}", 60_000)
    alive_s = time.monotonic()
    before_ms = child.metric("now_unix_ms")
    os.kill(child.process.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(child.process.pid, signal.SIGCONT)
    child.settled()
    states = {child.ask("state", f"short-{number}") for number in range(50)}
    assert states == {"EXPIRED"}
    assert {child.ask("state", f"long-{number}") for number in range(50)} == {"HELD"}
    ran_ms = child.metric("now_unix_ms") - before_ms
    assert 2_900 <= ran_ms <= (time.monotonic() - alive_s) * 1_000 + LAG_MS_MAX
    assert child.metric("clock_alarms") == 0
    assert child.ask("ok")


@pytest.fixture(scope="module")
def shift_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: nothing to move the wall clock of a process with")
    folder = tmp_path_factory.mktemp("shift")
    (folder / "shift.c").write_text("#define _GNU_SOURCE\n" + SHIFT)
    library = folder / "shift.so"
    made = subprocess.run(
        [*compiler.split(), "-shared", "-fPIC", "-o", library, folder / "shift.c", "-ldl"],
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        pytest.skip(f"a shared library can't be made here: {made.stderr.strip()[:200]}")
    return library


def wait_for_drift(child: Child, expected_ms: int) -> None:
    deadline_s = time.monotonic() + 10
    while abs(child.metric("clock_drift_ms") - expected_ms) > 100:
        assert time.monotonic() < deadline_s, f"drift is {child.metric('clock_drift_ms')}"
        time.sleep(0.05)


def test_a_wall_clock_that_is_set(
    tmp_path: Path, children: list[Child], shift_library: Path
) -> None:
    """An hour and a day on and back, 1970, and a restart with an earlier clock."""
    shift = tmp_path / "shift"
    shift.write_text("0")
    environment = {"LD_PRELOAD": str(shift_library), "WALL_SHIFT_FILE": str(shift)}
    child = Child(tmp_path / "shop", **environment)
    children.append(child)
    child.ask("hold", "long", 120_000)
    since_1970_ms = int(time.time() * 1_000)
    steps_ms = (HOUR_MS, -HOUR_MS, 24 * HOUR_MS, -24 * HOUR_MS, 60_000 - since_1970_ms)
    for alarms, step_ms in enumerate(steps_ms, 1):
        made_s = time.monotonic()
        child.ask("hold", f"short-{step_ms}", 4_000)
        before_ms = child.metric("now_unix_ms")
        shift.with_suffix(".new").write_text(str(step_ms))
        shift.with_suffix(".new").rename(shift)
        wait_for_drift(child, step_ms)
        assert child.metric("clock_alarms") == alarms
        state = child.ask("state", f"short-{step_ms}")
        assert state == "HELD" or time.monotonic() - made_s >= 4
        assert child.ask("state", "long") == "HELD"
        passed_ms = child.metric("now_unix_ms") - before_ms
        assert 0 <= passed_ms <= (time.monotonic() - made_s) * 1_000 + LAG_MS_MAX
        child.settled()
    time.sleep(max(0.0, made_s + 4.5 - time.monotonic()))
    assert child.ask("state", f"short-{step_ms}") == "EXPIRED"
    child.ask("close")
    child.end()
    shift.write_text(str(-since_1970_ms))
    child = Child(tmp_path / "shop", **environment)
    children.append(child)
    assert child.clock_alarm
    assert child.wall_difference_ms < -30_000
    assert child.downtime_ms == 0
    assert child.ask("state", "long") == "HELD"
    assert child.ask("ok")


def test_a_machine_that_was_started_again(tmp_path: Path, children: list[Child]) -> None:
    """The boot clock shows something else after a restart; a ttl does not notice."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare: no time namespace to be had")
    for boot_s in ("1000000", "5", "40000000"):
        before = (unshare, "--user", "--map-root-user", "--time", "--boottime", boot_s, "--")
        if boot_s == "1000000":
            possible = subprocess.run([*before, "true"], capture_output=True, text=True)
            if possible.returncode != 0:
                pytest.skip(f"no time namespace to be had: {possible.stderr.strip()[:200]}")
        child = Child(tmp_path / "shop", *before)
        children.append(child)
        if boot_s == "1000000":
            child.ask("hold", "long", 60_000)
        child.ask("hold", f"short-{boot_s}", 300)
        assert not child.clock_alarm
        assert child.downtime_ms < 30_000
        assert child.ask("state", "long") == "HELD"
        time.sleep(0.4)
        child.settled()
        assert child.ask("state", f"short-{boot_s}") == "EXPIRED"
        child.ask("close")
        child.end()
