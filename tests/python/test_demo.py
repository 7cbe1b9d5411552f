# SPDX-License-Identifier: Apache-2.0
"""The demo, small: all of it runs and its figures agree; and what it says when it can't run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import pytest
import streams

pytest.importorskip("rich", reason="the demo's packages are not installed")

from inventory.demo import main
from inventory.demo.baskets import PACKAGE, DemoDataMissing, load_baskets, start_stock
from inventory.demo.job import Job
from inventory.demo.ledger import (
    COMMITTED,
    LOADED,
    SHIPPED,
    STARTED,
    TAKEN,
    Ledger,
    LedgerReader,
    Story,
)
from inventory.demo.result import percentile

HEADER = "ts,basket,store,sku,qty,household\n"
SLIPS = HEADER + "".join(
    f"2017-0{1 + number % 3}-02 10:{number % 60:02}:00,{number},{number % 5},"
    f"{sku},{sku % 3 + 1},7\n"
    for number in range(120)
    for sku in range(number % 7, number % 7 + 4)
)


def has_data_package() -> bool:
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return importlib.util.find_spec("pyarrow") is not None


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A small stream of the same columns."""
    path = tmp_path / "slips.csv"
    path.write_text(SLIPS, encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """Run the demo with --json and return what it printed, which must be all well."""
    code = main(["--json", "--threads", "8", *arguments])
    printed = capsys.readouterr()
    result: dict[str, object] = json.loads(printed.out)
    assert code == 0, result["problems"]
    assert result["ok"] is True
    for name in ("acknowledged_lost", "acknowledged_doubled", "units_oversold"):
        assert result[name] == 0
    return result


@pytest.mark.skipif(not has_data_package(), reason=f"{PACKAGE} and pyarrow are not installed")
def test_small_run_of_the_packaged_stream(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "--baskets", "1500")
    assert result["baskets"] == 1500
    crash = result["crash"]
    assert isinstance(crash, dict)
    assert 750 <= crash["baskets_done"] < 1500
    for name in ("replays", "holds_expired"):
        figure = result[name]
        assert isinstance(figure, int)
        assert figure > 0, name


def test_without_the_kill(capsys: pytest.CaptureFixture[str], stream: Path) -> None:
    result = run(capsys, "--no-kill", "--source", str(stream))
    assert (result["baskets"], result["crash"], result["replays"]) == (120, None, 0)


def test_table_for_people(capsys: pytest.CaptureFixture[str], stream: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    assert main(["--no-kill", "--source", str(stream), "--data", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "acknowledged calls lost" in printed
    assert "Everything agrees." in printed
    assert (folder / "ledger.jsonl").is_file()
    assert main(["--source", str(stream), "--data", str(folder)]) == 2, "used once already"


def test_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    assert main([]) == 2
    assert "pip install" in capsys.readouterr().err
    assert main(["--source", str(tmp_path / "none.csv")]) == 2
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DemoDataMissing, match="lacks the columns"):
        load_baskets(wrong)


@pytest.mark.skipif(streams.data_dir() is None, reason="the order streams are not here")
def test_reads_the_quarter_as_the_streams_do() -> None:
    folder = streams.data_dir()
    assert folder is not None
    baskets = load_baskets(folder / streams.JOURNEY_FILE)
    stock = start_stock(baskets)
    expected = streams.start_stock(streams.journey_per_store(), 60)
    assert stock == {(str(store), str(sku)): n for (store, sku), n in expected.items() if n}
    if has_data_package():
        assert load_baskets(None) == baskets


def test_ledger_survives_a_torn_record(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append(LOADED, "1", "A", 5, 100)
        ledger.append(STARTED, 10)
        ledger.append(TAKEN, "7", {"A": 2}, 150, 200, 11)
        ledger.append(COMMITTED, "7", 300)
        with path.open("ab") as file:
            file.write(b'\n["shipped","7",4')
        ledger.append(SHIPPED, "8", 400)
    story = Story()
    reader = LedgerReader(path)
    story.fold(reader.records())
    assert story.loaded == {("1", "A"): 5}
    assert story.taken["7"].units == {"A": 2}
    assert (story.committed, story.shipped) == ({"7"}, {"8"})
    assert (story.done, story.acknowledged, story.lsn_end) == (1, 4, 400)
    assert reader.records() == []


def test_ledger_that_contradicts_itself_is_noticed() -> None:
    story = Story()
    taken = [TAKEN, "7", {"A": 2}, 150, 200, 2]
    story.fold([[STARTED, 1], taken, taken])
    assert story.contradictions == ["basket 7: taken twice"]


def test_abandons_the_same_baskets_in_every_life() -> None:
    job = Job("store", "ledger", None, None, 8, 1)
    again = Job.from_json(job.to_json())
    abandoned = [number for number in range(10_000) if job.abandons(str(number))]
    assert 200 < len(abandoned) < 400
    assert abandoned == [number for number in range(10_000) if again.abandons(str(number))]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, 0), ([7], 99, 7), ([1, 2, 3, 4], 50, 2), (list(range(1, 101)), 99, 99)],
)
def test_percentile(values: list[int], percent: float, expected: int) -> None:
    assert percentile(values, percent) == expected
