# SPDX-License-Identifier: Apache-2.0
"""The bench report: medians, judgement against must and aim, tables, pages; with made-up lines."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import figures
import pytest
import report
from figures import BEGIN, END, merge, number, reached, replaced

ROOT = Path(__file__).parents[2]


def line(figure: float, row: int = 1, **more: Any) -> figures.Line:
    usual = {
        "row": row,
        "variant": "",
        "what": "reserves",
        "figure": figure,
        "unit": "reserves/s",
        "durability": "memory",
        "must": 4e6,
        "aim": 8e6,
    }
    return usual | more


def peer(who: str, figure: float, variant: str = "one by one, memory") -> figures.Line:
    return {
        "peer": who,
        "variant": variant,
        "what": "one by one",
        "figure": figure,
        "unit": "reserves/s",
        "durability": "memory",
    }


ABOUT = {
    "date": "2026-11-22T10:00:00+00:00",
    "machine": "a machine, 2 cores",
    "disk": "ext4",
    "commit": "abc1234",
    "sizes": "full",
    "rounds": 3,
    "load_before": "0.1",
    "load_after": "2.0",
}


# ---- rounds to one entry -------------------------------------------------------------------------


def test_median_and_spread_of_rounds() -> None:
    (one,) = merge([line(3.0), line(9.0), line(5.0)])
    assert one.figure == 5.0
    assert one.figures == (3.0, 9.0, 5.0)
    assert figures.spread(one.figures) == "3 to 9"


def test_median_of_an_even_number_of_rounds() -> None:
    (one,) = merge([line(2.0), line(4.0)])
    assert one.figure == 3.0


def test_details_are_those_of_the_median_round() -> None:
    (one,) = merge([line(3.0, live=1), line(9.0, live=2), line(5.0, live=3)])
    assert one.line["live"] == 3


def test_one_round_has_no_spread() -> None:
    (one,) = merge([line(3.0)])
    assert figures.spread(one.figures) == "one run"


def test_rounds_in_turn_are_sorted_out_rows_first_by_number() -> None:
    lines = []
    for figure in (1.0, 2.0, 3.0):
        lines += [
            peer("dict", figure),
            line(figure, 10, variant="sku order"),
            line(figure * 10, 10, variant="location order"),
            line(figure, 2),
        ]
    merged = merge(lines)
    keys = [(one.line.get("row"), one.line["variant"], one.figure) for one in merged]
    assert keys == [
        (2, "", 2.0),
        (10, "location order", 20.0),
        (10, "sku order", 2.0),
        (None, "one by one, memory", 2.0),
    ]


def test_saved_and_loaded_is_the_same() -> None:
    for one in merge([line(3.0, limits={"gone_s": [1.0, 2]}), line(5.0), peer("dict", 2.0)]):
        back = figures.Merged.loaded(json.loads(json.dumps(one.saved())))
        assert (back.figure, back.figures, back.limits) == (one.figure, one.figures, one.limits)
        assert reached(back) == reached(one)


# ---- the judgement -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [(3_999_999, "no"), (4e6, "must"), (7_999_999, "must"), (8e6, "aim"), (9e6, "aim")],
)
def test_more_is_better(figure: float, verdict: str) -> None:
    (one,) = merge([line(figure)])
    assert reached(one) == verdict


@pytest.mark.parametrize(
    ("figure", "verdict"), [(96.1, "no"), (96, "must"), (80.1, "must"), (80, "aim"), (1, "aim")]
)
def test_less_is_better(figure: float, verdict: str) -> None:
    (one,) = merge([line(figure, 12, unit="bytes", must=96, aim=80)])
    assert reached(one) == verdict


def test_judged_by_the_median_not_the_best() -> None:
    (one,) = merge([line(9e6), line(1e6), line(2e6)])
    assert reached(one) == "no"


def test_a_broken_limit_is_a_no_whatever_the_figure() -> None:
    usual = {"unit": "x normal", "must": 3, "aim": 1.5}
    kept = line(1.0, 13, limits={"gone_s": [2, 2], "lag_ms": [50, 50]}, **usual)
    broken = line(1.0, 13, limits={"gone_s": [0.5, 2], "lag_ms": [51, 50]}, **usual)
    assert reached(merge([kept])[0]) == "aim"
    assert reached(merge([broken])[0]) == "no: lag_ms 51 > 50"
    # One round of three is enough: the worst of a limit counts.
    assert reached(merge([kept, broken, kept])[0]) == "no: lag_ms 51 > 50"


def test_no_target_no_judgement() -> None:
    assert reached(merge([line(1.0, must=None, aim=None)])[0]) == "-"
    assert reached(merge([peer("dict", 1.0)])[0]) == "-"


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.8134, "0.813"),
        (24.0, "24"),
        (562.7, "563"),
        (9_999, "9,999"),
        (12_345, "12 k"),
        (4e6, "4.00 M"),
        (1_234_567, "1.23 M"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_row_table() -> None:
    head, cells = figures.row_cells(merge([line(5e6, variant="warm", live=10_000_000)]), True)
    assert dict(zip(head, cells, strict=True)) == {
        "row": "1",
        "what": "reserves (warm)",
        "must": "4.00 M",
        "aim": "8.00 M",
        "figure": "5.00 M",
        "spread": "one run",
        "unit": "reserves/s",
        "durability": "memory",
        "reached": "must",
        "note": "10.00 M live",
    }


def test_smoke_figures_are_not_judged() -> None:
    head, cells = figures.row_cells(merge([line(9e6)]), False)
    assert cells[head.index("reached")] == "-"
    text = figures.report_text(ABOUT | {"sizes": "smoke"}, merge([line(9e6)]))
    assert "aim" not in text.splitlines()[1]


def test_peers_beside_the_engine_on_the_same_work() -> None:
    lines = [peer("engine", 500.0), peer("dict", 250.0), peer("redis", 40.0, "together, durable")]
    head, *cells = figures.peer_cells(merge(lines))
    said = {line[head.index("who")]: line[head.index("engine is")] for line in cells}
    assert said == {"engine": "-", "dict": "2.0 x", "redis": "-"}  # no engine on redis's work


def test_report_states_what_was_measured_on() -> None:
    merged = merge([line(5e6), peer("engine", 1.0)])
    for text in (figures.report_text(ABOUT, merged), figures.report_markdown(ABOUT, merged)):
        for said in ("2026-11-22", "abc1234", "2 cores", "ext4", "0.1", "same cores", "full sizes"):
            assert said in text


def test_markdown_is_a_table_of_equal_lines() -> None:
    lines = figures.as_markdown(figures.row_cells(merge([line(5e6), line(1.0, 2)]), True))
    assert {text.count("|") for text in lines.splitlines()} == {len(figures.HEAD) + 1}


# ---- pages ---------------------------------------------------------------------------------------


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert replaced(replaced(page, "new"), "new") == replaced(page, "new")


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        replaced(page, "new")


def test_update_changes_all_pages_or_none(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(f"{BEGIN}\nold\n{END}\n")
    bad.write_text("no markers")
    with pytest.raises(SystemExit, match=r"bad\.md"):
        report.update([good, bad], "new")
    assert "old" in good.read_text()
    report.update([good], "new")
    assert good.read_text() == f"{BEGIN}\nnew\n{END}\n"


# ---- the plan ------------------------------------------------------------------------------------


def flags(**more: Any) -> argparse.Namespace:
    usual = {"rows": None, "smoke": True, "quick": False, "dir": None, "rounds": 1, "build": ROOT}
    return argparse.Namespace(**(usual | more))


def test_every_bench_is_in_the_plan() -> None:
    there = {path.stem for path in (ROOT / "bench").glob("bench_*.c")}
    there |= {path.name for path in (ROOT / "bench").glob("bench_*.py")}
    assert {bench.name for bench in report.PLAN} == there


def test_rows_can_be_chosen() -> None:
    assert [bench.rows for bench in report.chosen(flags(rows="11,3"))] == [(3,), (10, 11)]
    assert {bench.name for bench in report.chosen(flags(rows="peers"))} == {"bench_peers.py"}
    with pytest.raises(SystemExit, match="nothing measures 99"):
        report.chosen(flags(rows="1,99"))


def test_redis_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    without = report.chosen(flags())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert len(report.chosen(flags())) == len(without) + 2
    assert not any("redis" in " ".join(bench.arguments) for bench in without)


def fake_bench(tmp_path: Path, source: str) -> report.Bench:
    program = tmp_path / "fake"
    program.write_text(f"#!{sys.executable}\n{source}\n")
    program.chmod(0o755)
    return report.Bench("fake", (1, 2))


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("print('nothing to say')", "printed no figures"),
        ("print('{\"row\": 1}')", "printed nothing for row 2"),
    ],
)
def test_a_bench_that_fails_is_told(tmp_path: Path, source: str, failure: str) -> None:
    bench = fake_bench(tmp_path, source)
    with pytest.raises(report.BenchFailed, match=failure):
        report.run(bench, flags(build=tmp_path), 1)


def test_a_bench_that_is_not_built_is_told(tmp_path: Path) -> None:
    with pytest.raises(report.BenchFailed, match="make bench"):
        report.run(report.Bench("absent", (1,)), flags(build=tmp_path), 1)


def test_rounds_go_on_after_a_failure_and_memory_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    plan = [report.Bench("a", (1,)), report.Bench("b", (2,)), report.Bench("c", (12,), once=True)]
    monkeypatch.setattr(report, "PLAN", plan)
    order = []

    def run(bench: report.Bench, _: argparse.Namespace, turn: int) -> list[figures.Line]:
        order.append((turn, bench.name))
        if bench.name == "b":
            raise report.BenchFailed("no disk")
        return [line(1.0, bench.rows[0])]

    monkeypatch.setattr(report, "run", run)
    lines, failures = report.run_all(flags(rounds=2))
    assert order == [(1, "a"), (1, "b"), (1, "c"), (2, "a"), (2, "b")]
    assert [one["row"] for one in lines] == [1, 12, 1]
    assert failures == ["b: no disk", "b: no disk"]
    kept = [json.loads(text) for text in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [(one["row"], one["round"]) for one in kept] == [(1, 1), (12, 1), (1, 2)]


def test_only_a_whole_run_is_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    report.save(ABOUT, merge([line(5e6)]), whole=True)
    report.save(ABOUT | {"sizes": "smoke"}, merge([line(1.0)]), whole=True)
    later = ABOUT | {"date": "2026-11-23T10:00:00+00:00"}
    part = report.save(later, merge([line(2.0)]), whole=False)
    about, merged = report.load(tmp_path / "latest.json")
    assert about == ABOUT
    assert [one.figure for one in merged] == [5e6]
    assert report.load(part)[1][0].figure == 2.0
    with pytest.raises(SystemExit, match="make bench"):
        report.load(tmp_path / "absent.json")
