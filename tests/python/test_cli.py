# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, as text and as JSON, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import pytest

import inventory
from inventory.cli import main


@pytest.fixture
def shop(tmp_path: Path) -> str:
    path = tmp_path / "shop"
    with inventory.open(path, segment_bytes=4 << 20) as inv:
        inv.receive("TEE", "LON", 1_234)
        inv.receive("TEE", "PAR", 4)
        inv.reserve("TEE", 2, location="LON")
    return str(path)


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments)


def test_verify(shop: str) -> None:
    result = run("verify", shop)
    assert result.exit_code == 0
    assert "on_hand               1,238" in result.output
    report = json.loads(run("verify", shop, "--json").output)
    assert (report["ok"], report["rows"], report["held"]) == (True, 2, 2)


def test_availability_of_a_sku(shop: str) -> None:
    result = run("availability", shop, "TEE")
    assert result.exit_code == 0
    assert result.output.splitlines()[1].split() == ["LON", "1,234", "2", "0", "1,232"]
    assert result.output.splitlines()[-1].split() == [
        "all",
        "locations",
        "1,238",
        "2",
        "0",
        "1,236",
    ]
    found = json.loads(run("availability", shop, "TEE", "--json").output)
    assert found["totals"]["available_to_promise"] == 1_236


def test_availability_of_a_row(shop: str) -> None:
    assert "available_to_promise  1,232" in run("availability", shop, "TEE", "LON").output
    found = json.loads(run("availability", shop, "TEE", "LON", "--json").output)
    assert (found["on_hand"], found["location"]) == (1_234, "LON")


def test_refusals_are_said_and_have_their_status(shop: str) -> None:
    result = run("availability", shop, "NOPE")
    assert result.exit_code == 3
    assert "UNKNOWN_SKU" in result.output
    result = run("availability", shop, "NOPE", "--json")
    assert (result.exit_code, json.loads(result.output)["code"]) == (3, "UNKNOWN_SKU")
    with inventory.open(shop, segment_bytes=4 << 20):
        assert json.loads(run("verify", shop, "--json").output)["code"] == "STORE_LOCKED"


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert run("verify", str(tmp_path / "absent")).exit_code == 2


def test_version_and_help() -> None:
    assert run("--version").output.startswith("inventory, version ")
    assert "availability" in run("--help").output


def test_demo_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr("importlib.import_module", missing)
    result = run("demo")
    assert result.exit_code == 1
    assert "inventory-engine[demo]" in result.output


def test_demo_gets_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Demo:
        @staticmethod
        def main(arguments: list[str]) -> int:
            seen.append(arguments)
            return 4

    monkeypatch.setattr("importlib.import_module", lambda name: Demo)
    assert run("demo", "--seed", "7", "--json").exit_code == 4
    assert seen == [["--seed", "7", "--json"]]
