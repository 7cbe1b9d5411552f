# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, as text and as JSON, its exit status, its help's examples."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import click.testing
import pytest
from click.shell_completion import get_completion_class

import inventory
from inventory.cli import main
from inventory.cli.common import DURATION

PROGRAM = [sys.executable, "-c", "from inventory.cli import main; main(prog_name='inventory')"]


@pytest.fixture
def shop(tmp_path: Path) -> str:
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=4 << 20) as inv:
        inv.receive("TEE", "LON", 1_234)
        inv.receive("TEE", "PAR", 4)
        inv.reserve("TEE", 2, location="LON", reservation_id="cart-17")
    return str(path)


def run(*arguments: str, **options: Any) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments, **options)


def answer(*arguments: str, status: int = 0) -> Any:
    """The JSON that a command prints."""
    result = run(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


# ---- looking ------------------------------------------------------------------------------------


def test_verify(shop: str) -> None:
    result = run("verify", shop)
    assert result.exit_code == 0
    assert "on_hand               1,238" in result.output
    report = answer("verify", shop)
    assert (report["ok"], report["rows"], report["held"]) == (True, 2, 2)


def test_verify_of_a_broken_store(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = inventory.verify(shop)
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    broken = inventory.VerifyReport(**fields | {"ok": False, "problems": ("held is 2, not 3",)})
    monkeypatch.setattr(inventory, "verify", lambda path: broken)
    result = run("verify", shop)
    assert result.exit_code == 1
    assert "held is 2, not 3" in result.output


def test_availability_of_a_sku(shop: str) -> None:
    result = run("availability", shop, "TEE")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[1] == ["LON", "1,234", "2", "0", "1,232"]
    assert lines[-1] == ["all", "locations", "1,238", "2", "0", "1,236"]
    assert answer("availability", shop, "TEE")["totals"]["available_to_promise"] == 1_236


def test_availability_of_a_row(shop: str) -> None:
    assert "available_to_promise  1,232" in run("availability", shop, "TEE", "LON").output
    found = answer("availability", shop, "TEE", "LON")
    assert (found["on_hand"], found["location"]) == (1_234, "LON")


def test_reservation(shop: str) -> None:
    result = run("reservation", shop, "cart-17")
    assert result.exit_code == 0
    assert "state                 HELD" in result.output
    assert "sku=TEE  location=LON  qty=2" in result.output
    assert answer("reservation", shop, "cart-17")["lines"][0]["held"] == 2
    assert answer("reservation", shop, "cart-99", status=3)["code"] == "UNKNOWN_RESERVATION"


# ---- changing -----------------------------------------------------------------------------------


def test_init(tmp_path: Path) -> None:
    path = str(tmp_path / "new")
    assert answer("init", path)["created"] is True
    assert answer("receive", path, "TEE", "LON", "1")["level"]["on_hand"] == 1
    refusal = answer("init", path, status=3)
    assert (refusal["code"], refusal["field"]) == ("IO_ERROR", "path")
    assert inventory.verify(path).on_hand == 1
    assert answer("init", str(tmp_path / "no" / "parent"), status=3)["code"] == "IO_ERROR"


def test_stock_changes(shop: str) -> None:
    assert answer("receive", shop, "TEE", "LON", "6", "--op-id", "po-1")["level"]["on_hand"] == 1240
    again = answer("receive", shop, "TEE", "LON", "6", "--op-id", "po-1")
    assert (again["replayed"], again["level"]["on_hand"]) == (True, 1240)
    assert answer("issue", shop, "TEE", "LON", "40")["level"]["on_hand"] == 1200
    assert answer("adjust", shop, "TEE", "LON", "-200")["level"]["on_hand"] == 1000
    assert (
        answer("adjust", shop, "TEE", "LON", "5", "--reason", "found")["level"]["on_hand"] == 1005
    )
    refusal = answer("adjust", shop, "TEE", "LON", "-1004", "--strict", status=3)
    assert refusal["code"] == "INSUFFICIENT"
    assert answer("adjust", shop, "TEE", "LON", "-1004")["level"]["short"] == 1
    set_to = answer("set-on-hand", shop, "TEE", "LON", "9", "--if-on-hand", "1")
    assert set_to["level"]["on_hand"] == 9
    refusal = answer("set-on-hand", shop, "TEE", "LON", "9", "--if-on-hand", "1", status=3)
    assert (refusal["code"], refusal["actual"]) == ("CAS_FAILED", 9)
    assert answer("set-policy", shop, "TEE", "--safety-stock", "3")["location"] is None
    assert answer("availability", shop, "TEE", "LON")["safety_stock"] == 3
    assert "on_hand               10" in run("receive", shop, "TEE", "LON", "1").output


def test_a_reservation_from_reserve_to_ship(shop: str) -> None:
    asked = ("reserve", shop, "TEE", "5", "--location", "LON", "--id", "c", "--ttl", "15m")
    held = answer(*asked)
    assert (held["state"], held["units"]) == ("HELD", 5)
    assert held["expires_at_unix_ms"] - held["now_unix_ms"] == 900_000
    assert answer(*asked)["replayed"] is True
    longer = answer("extend", shop, "c", "--ttl", "1h")
    assert longer["expires_at_unix_ms"] > held["expires_at_unix_ms"]
    part = ("commit", shop, "c", "--line", "TEE", "2", "LON", "--keep-rest", "--op-id", "p")
    assert answer(*part)["lines"][0]["allocated"] == 2
    assert answer("commit", shop, "c")["state"] == "ALLOCATED"
    shipped = answer("ship", shop, "c", "--line", "TEE", "1", "LON", "--op-id", "s")
    assert shipped["lines"][0]["shipped"] == 1
    assert answer("ship", shop, "c")["state"] == "SHIPPED"
    assert answer("cancel", shop, "c", status=3)["code"] == "ALREADY_SHIPPED"


def test_carts_releases_and_cancels(shop: str) -> None:
    lines = ("--line", "TEE", "1", "LON", "--line", "TEE", "2", "", "--account", "web")
    cart = answer("reserve", shop, *lines, "--id", "cart")
    assert sum(line["qty"] for line in cart["lines"]) == 3
    assert answer("release", shop, "cart")["state"] == "RELEASED"
    assert answer("cancel", shop, "cart-17")["state"] == "CANCELLED"
    assert answer("release", shop, "never", "--tombstone")["state"] == "RELEASED"
    assert answer("reserve", shop, "TEE", "1", "--id", "never", status=3)["code"] == (
        "ALREADY_RELEASED"
    )


@pytest.mark.parametrize(
    "arguments", [[], ["TEE"], ["TEE", "1", "--line", "TEE", "1", ""], ["TEE", "one"]]
)
def test_reserve_wants_one_kind_of_lines(shop: str, arguments: list[str]) -> None:
    assert run("reserve", shop, *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("text", "ms"),
    [("900000", 900_000), ("15m", 900_000), ("1h30m", 5_400_000), ("2d", 172_800_000),
     ("250ms", 250), ("1s5ms", 1_005), ("0", 0)],
)  # fmt: skip
def test_durations(text: str, ms: int) -> None:
    assert DURATION.convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["", "15 m", "1.5h", "-5m", "m", "15M", "5m!", "٣m", "1" * 19])
def test_no_durations(shop: str, text: str) -> None:
    assert run("extend", shop, "cart-17", f"--ttl={text}").exit_code == 2


# ---- refusals -----------------------------------------------------------------------------------


def test_refusals_name_code_and_field(shop: str) -> None:
    result = run("availability", shop, "NOPE")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "UNKNOWN_SKU: " in result.stderr
    result = run("receive", shop, "x" * 129, "LON", "1")
    assert result.exit_code == 3
    assert result.stderr.startswith("BAD_REQUEST (sku): ")
    refusal = answer("receive", shop, "TEE", "LON", "0", status=3)
    assert (refusal["code"], refusal["field"]) == ("BAD_REQUEST", "qty")
    refusal = answer("receive", shop, "TEE", "LON", str(10**30), status=3)
    assert (refusal["code"], refusal["field"]) == ("BAD_REQUEST", "qty")
    refusal = answer("receive", shop, "TEE", "LON", "2147483647", status=3)
    assert refusal["code"] == "QTY_OUT_OF_RANGE"
    refusal = answer("reserve", shop, "TEE", "5", "--location", "PAR", status=3)
    assert refusal["code"] == "INSUFFICIENT"
    assert refusal["short"][0]["available_to_promise"] == 4
    refusal = answer("extend", shop, "cart-17", "--ttl", "31d", status=3)
    assert (refusal["code"], refusal["field"]) == ("BAD_REQUEST", "ttl_ms")


def test_a_store_that_is_open_elsewhere(shop: str) -> None:
    with inventory.open(shop, segment_bytes=4 << 20):
        for command in (["verify"], ["availability", "TEE"], ["receive", "TEE", "LON", "1"]):
            refusal = answer(command[0], shop, *command[1:], status=3)
            assert refusal["code"] == "STORE_LOCKED"


def test_paths_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for command in (["verify"], ["availability", "TEE"], ["receive", "TEE", "LON", "1"]):
        for name in ("absent", "file"):
            assert run(command[0], str(tmp_path / name), *command[1:]).exit_code == 2
        refusal = answer(command[0], str(tmp_path / "empty"), *command[1:], status=3)
        assert refusal["code"] == "IO_ERROR"
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_name_that_is_not_utf8(shop: str) -> None:
    result = subprocess.run(
        [*PROGRAM, "receive", shop, b"T\xff", "LON", "1"], capture_output=True, check=False
    )
    assert result.returncode == 3
    assert b"BAD_REQUEST (sku): " in result.stderr


def test_usage(shop: str) -> None:
    for arguments in (["nope"], ["receive", shop, "TEE", "LON", "x"], ["verify"], ["adjust", shop,
                      "TEE", "LON", "-1", "--nope"]):  # fmt: skip
        assert run(*arguments).exit_code == 2


def test_ctrl_c(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(inventory, "verify", interrupted)
    result = run("verify", shop)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_a_reader_that_goes_away(shop: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        result = subprocess.run(
            [*PROGRAM, "availability", shop, "TEE"],
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (result.returncode, result.stderr) == (141, b"")


# ---- help, examples, completion -----------------------------------------------------------------


def commands(command: click.Command = main, *names: str) -> Iterator[tuple[str, ...]]:
    """Every command of the tree, by its words."""
    yield names
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *names, name)


def examples(*names: str) -> list[str]:
    """The lines of the `Example:` block that a command's help ends with."""
    text = run(*names, "--help").stdout
    _, found, block = text.partition("\nExample:\n")
    assert found, f"inventory {' '.join(names)} --help has no example"
    lines = block.splitlines()
    assert all(line.startswith("  $ inventory ") for line in lines), lines
    return [line.removeprefix("  $ ") for line in lines]


def needs_of(line: str) -> str | None:
    """A package an example needs that is not installed."""
    packages = {"import": ["pyarrow"], "demo": ["pyarrow", "matplotlib", "rich"]}
    wanted = packages.get(shlex.split(line)[1], [])
    return next((name for name in wanted if importlib.util.find_spec(name) is None), None)


def serve_and_stop(line: str) -> None:
    """Run an example of `serve`, on free ports, until it is ready; then stop it."""
    _, _, *options = shlex.split(line)
    options = [re.sub(r":77\d\d$", ":*", option) for option in options]
    if "--bind" not in options:
        options += ["--bind", "tcp://127.0.0.1:*"]
    command = [str(Path(sys.executable).with_name("inventory")), "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert '"ready"' in process.stdout.readline(), line
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0, line


@pytest.mark.parametrize(
    "names", list(commands()), ids=lambda names: " ".join(names) or "inventory"
)
def test_examples_run(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with inventory.open("shop.inv", segment_bytes=4 << 20) as inv:
        inv.receive("TEE", "LON", 100)
        inv.reserve("TEE", 2, location="LON", reservation_id="cart-17")
    Path("stock.csv").write_text("sku,location,on_hand\nTEE,LON,90\nMUG,LON,5\n", encoding="utf-8")
    Path("sale.csv").write_text(
        "time,basket,location,sku,qty,units\n"
        + "".join(
            f"2026-01-02 10:00:{n:02},b{n},LON,{sku},{n % 3 + 1},1\n"
            for n in range(40)
            for sku in ("TEE", "MUG")
        ),
        encoding="utf-8",
    )
    for line in examples(*names):
        missing = needs_of(line)
        if missing is not None:
            pytest.skip(f"{missing} is not installed")
        if names == ("serve",):
            serve_and_stop(line)
            continue
        program, *arguments = shlex.split(line)
        result = run(*arguments)
        assert (program, result.exit_code) == ("inventory", 0), f"{line}\n{result.output}"


def test_version_and_help() -> None:
    assert run("--version").output.startswith("inventory, version ")
    assert "availability" in run("--help").output
    assert run("-h").exit_code == 0


def completions(words: str, shell: str = "bash") -> list[str]:
    """What click's completion protocol answers for a command line."""
    count = len(words.split(" ")) - 1
    result = run(
        env={
            "_INVENTORY_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(count),
        },
        prog_name="inventory",
    )
    return [line.split(",")[-1] for line in result.output.split()]


def test_completion_protocol() -> None:
    assert {"reserve", "release", "reservation"} <= set(completions("inventory re"))
    assert completions("inventory completion z") == ["zsh"]
    assert set(completions("inventory verify shop --j")) == {"--json"}
    assert "--durability" in completions("inventory bench --du")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_INVENTORY_COMPLETE={shell}_complete" in result.stdout
    assert get_completion_class(shell) is not None
    if shutil.which(shell) is not None:
        checked = subprocess.run([shell, "-n"], input=result.stdout.encode(), check=False)
        assert checked.returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_completion_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "inventory"
    program.write_text("#!/bin/sh\n" + shlex.join(PROGRAM) + ' "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = (
        'eval "$(inventory completion bash)"\n'
        "COMP_WORDS=(inventory avail) COMP_CWORD=1\n"
        "_inventory_completion inventory avail inventory\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    result = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["availability"], result.stderr


def test_what_needs_an_extra_says_so(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr("importlib.import_module", missing)
    result = run("demo")
    assert result.exit_code == 1
    assert "inventory-engine[demo]" in result.output
    result = run("import", shop, __file__)
    assert (result.exit_code, "inventory-engine[arrow]" in result.output) == (1, True)


def test_commands_start_without_heavy_packages() -> None:
    code = (
        "import sys, inventory.cli\n"
        "assert not {'numpy', 'pyarrow', 'matplotlib', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bench() -> None:
    result = run("bench", "--durability", "memory", "--seconds", "0.1")
    assert result.exit_code == 0
    assert "batches of 4,096, 1 thread" in result.output


def test_bench_leaves_nothing(tmp_path: Path) -> None:
    report = answer("bench", "--directory", str(tmp_path), "--seconds", "0.2")
    assert (report["durability"], report["directory"]) == ("durable", str(tmp_path))
    assert all(one["reserves_per_second"] > 0 for one in report["measures"])
    assert list(tmp_path.iterdir()) == []
    assert run("bench", "--seconds", "0").exit_code == 2
