# SPDX-License-Identifier: Apache-2.0
"""tools/campaign.py: budgets, the ledger, violations, programs that are not there, planted bugs."""

from __future__ import annotations

import importlib.util
import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSES = """#!/bin/sh
echo "seed $2"
echo "units: 7 states, seeds $2 to $(($2 + 2))"
"""
FAILS = """#!/bin/sh
echo "power cuts: VIOLATION: seed 30000001: an acknowledged command is lost"
echo "repeat: $0 --seed 30000001 --part crash"
echo "units: 2 states, seeds $2 to $(($2 + 1))"
exit 1
"""
SILENT = """#!/bin/sh
echo fine
"""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("campaign_runner", ROOT / "tools/campaign.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "campaign_runner", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PROGRAMS", tmp_path)
    monkeypatch.setattr(module, "LEDGER", tmp_path / "build" / "campaigns.jsonl")
    part = module.Part("sim_fake")
    fake = module.Campaign(3, "fake", "a fake", "states", "1", "2", (part,))
    monkeypatch.setattr(module, "CAMPAIGNS", (fake,))
    return module


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def ledger_of(runner: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in runner.LEDGER.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "seconds", "count"),
    [("90s", 90.0, 0), ("10m", 600.0, 0), ("0.5m", 30.0, 0), ("500", 600.0, 500)],
)
def test_budgets(runner: Any, text: str, seconds: float, count: int) -> None:
    budget = runner.parse_budget(text)
    assert (budget.seconds, budget.count) == (seconds, count)


@pytest.mark.parametrize("text", ["11m", "0s", "0", "", "ten", "-5", "1h"])
def test_budgets_that_are_none(runner: Any, text: str) -> None:
    with pytest.raises(runner.CampaignError, match="BUDGET="):
        runner.parse_budget(text)


def test_seeds_go_on_from_run_to_run(runner: Any, tmp_path: Path) -> None:
    write_program(tmp_path / "sim_fake", PASSES)
    for _ in range(2):
        assert runner.main(["fake", "--budget", "2s"]) == 0
    first, second = ledger_of(runner)
    assert (first["seed_first"], first["seed_next"]) == (30_000_000, 30_000_003)
    assert second["seed_first"] == first["seed_next"]
    assert (first["units"], first["unit"], first["violations"]) == (7, "states", 0)


def test_a_count_is_reached(runner: Any, tmp_path: Path) -> None:
    write_program(tmp_path / "sim_fake", PASSES)
    assert runner.main(["fake", "--budget", "20"]) == 0
    assert [entry["units"] for entry in ledger_of(runner)] == [7, 7, 7]


def test_a_violation_names_the_command_that_repeats_it(
    runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(tmp_path / "sim_fake", FAILS)
    assert runner.main(["fake", "--budget", "2s"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"repeat: \S*sim_fake --seed 30000001 --part crash", said)
    assert "build " in said
    (entry,) = ledger_of(runner)
    assert entry["violations"] == 1
    assert "--seed 30000001" in entry["repeat"]


def test_a_program_that_is_not_there(
    runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(["fake"]) == 2
    assert "sim_fake is not there" in capsys.readouterr().err
    assert not runner.LEDGER.exists()


def test_a_program_that_does_not_count(
    runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(tmp_path / "sim_fake", SILENT)
    assert runner.main(["fake", "--budget", "2s"]) == 2
    assert "units" in capsys.readouterr().err


def test_a_name_that_is_none(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["nothing"]) == 2
    assert "NAME=nothing" in capsys.readouterr().err


def test_every_planted_bug_must_be_caught(
    runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header = tmp_path / "src/invcore/base/inv_base.h"
    header.parent.mkdir(parents=True)
    header.write_text("    INV_PLANT_NONE = 0,\n    INV_PLANT_ONE,\n    INV_PLANT_TWO\n")
    monkeypatch.setattr(runner, "PLANTED_PROGRAMS", ("planted_fake",))
    caught = '#!/bin/sh\necho "planted: 1 caught by crash in 0.25 s: one: lost"\n'
    write_program(tmp_path / "planted_fake", caught)
    assert runner.main(["planted"]) == 1
    assert re.search(r"two +NOT CAUGHT", capsys.readouterr().out)
    both = caught + 'echo "planted: 2 caught by retry in 1.00 s: two: twice"\n'
    write_program(tmp_path / "planted_fake", both)
    assert runner.main(["planted"]) == 0
    assert re.search(r"one +crash in 0.2 s", capsys.readouterr().out)


def test_the_page_knows_every_campaign_and_every_bug() -> None:
    page = (ROOT / "docs/campaigns.md").read_text()
    code = (ROOT / "tools/campaign.py").read_text()
    for name in re.findall(r'^        \d+, "(\w+)"', code, re.MULTILINE):
        assert f"`{name}`" in page, name
    header = (ROOT / "src/invcore/base/inv_base.h").read_text()
    for name in re.findall(r"^\s+INV_PLANT_(\w+)\b", header, re.MULTILINE)[1:]:
        assert f"`{name}`" in page, name
