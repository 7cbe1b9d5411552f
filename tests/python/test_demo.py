# SPDX-License-Identifier: Apache-2.0
"""The demo, small: all of it runs and its figures agree; and what it says when it can't run."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import re
from pathlib import Path

import click.testing
import pytest
import streams

pytest.importorskip("matplotlib", reason="the demo's packages are not installed")
pytest.importorskip("rich", reason="the demo's packages are not installed")

from inventory.cli import main
from inventory.demo.baskets import ONE_SHOP, PACKAGE, DemoDataMissing, load_baskets, start_stock
from inventory.demo.chart import Outage, slices, write_chart
from inventory.demo.job import Job
from inventory.demo.ledger import (
    COMMITTED,
    LOADED,
    SHIPPED,
    STARTED,
    TAKEN,
    Answer,
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


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart is drawn into the current directory unless told otherwise."""
    monkeypatch.chdir(tmp_path)


def demo(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["demo", "--threads", "8", *arguments])


def run(*arguments: str) -> dict[str, object]:
    """Run the demo with --json and return what it printed, which must be all well."""
    ran = demo("--json", *arguments)
    assert ran.exit_code == 0, ran.output
    result: dict[str, object] = json.loads(ran.stdout)
    assert result["ok"] is True
    for name in ("acknowledged_lost", "acknowledged_doubled", "units_oversold"):
        assert result[name] == 0
    return result


@pytest.mark.skipif(not has_data_package(), reason=f"{PACKAGE} and pyarrow are not installed")
def test_small_run_of_the_packaged_stream() -> None:
    result = run("--baskets", "1500")
    assert result["baskets"] == 1500
    crash = result["crash"]
    assert isinstance(crash, dict)
    assert 750 <= crash["baskets_done"] < 1500
    for name in ("replays", "holds_expired"):
        figure = result[name]
        assert isinstance(figure, int)
        assert figure > 0, name
    chart = Path("inventory-demo.html").read_text(encoding="utf-8")
    for label in ("SIGKILL", "recovered", "baskets refused", "p50", "p99"):
        assert label in chart


def test_without_the_kill(stream: Path) -> None:
    result = run("--no-kill", "--csv", str(stream))
    assert (result["baskets"], result["crash"], result["replays"]) == (120, None, 0)


def test_table_for_people(stream: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    arguments = ["--no-kill", "--csv", str(stream), "--data", str(folder), "--chart", "sale.html"]
    ran = demo(*arguments)
    assert ran.exit_code == 0, ran.output
    assert "acknowledged calls lost" in ran.stdout
    assert "Everything agrees." in ran.stdout
    assert f"chart of the sale: {tmp_path / 'sale.html'}" in ran.stderr
    assert "SIGKILL" not in Path("sale.html").read_text(encoding="utf-8")
    assert (folder / "ledger.jsonl").is_file()
    assert demo(*arguments).exit_code == 2, "used once already"


def test_one_shop_and_columns_of_ones_own(tmp_path: Path) -> None:
    """Names that nobody knows, in a packed file without a location; returns are left out."""
    path = tmp_path / "slips.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("wann,Bon,Artikel,Menge\n")
        for number in range(60):
            file.write(f"{number},{number // 2},A{number % 9},{number % 4 - 1}\n")
    assert demo("--csv", str(path)).exit_code == 2
    result = run("--csv", str(path), "--columns", "time=wann,basket=Bon,sku=Artikel,qty=Menge")
    assert result["baskets"] == 15


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    ran = demo()
    assert ran.exit_code == 2
    assert "pip install" in ran.stderr
    assert demo("--csv", str(tmp_path / "none.csv")).exit_code == 2
    stream = tmp_path / "slips.csv"
    stream.write_text(SLIPS, encoding="utf-8")
    assert demo("--csv", str(stream), "--chart", str(tmp_path / "no" / "such.html")).exit_code == 2
    for columns in ("ts", "when=ts", "time=", "time=ts,time=ts", "time=nope"):
        assert demo("--csv", str(stream), "--columns", columns).exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lacks a column for time"),
        (b"a,b\n1,2\n", "lacks a column for time; it has: a, b"),
        (b"time,basket,sku\n1,2,3\n", "lacks a column for qty"),
        (b"time,basket,sku,qty\n", "no basket"),
        (b"time,basket,sku,qty\n1,2,3,x\n", "can't be read"),
        (b"time,basket,sku,qty\n1,2,3,1.5\n", "can't be read"),
        (b"time,basket,sku,qty\n1,2,\xff,1\n", "can't be read"),
        (b"time,basket,sku,qty\n1,2,3\n", "can't be read"),
        (b"time,basket,sku,qty\n1,2,3,0\n", "no basket"),
        (b"time,basket,sku,qty\n1,2," + b"x" * 129 + b",1\n", "more than 128 bytes"),
        (b"time,basket,sku,qty\n1," + b"x" * 41 + b",2,1\n", "more than 40 bytes"),
        (b"time,basket,sku,qty\n1,2,3,2147483648\n", "more than 4,096 lines, or"),
        (b"time,basket,sku,qty\n" + b"".join(b"1,2,%d,1\n" % n for n in range(4_097)),
         "more than 4,096 lines"),
    ],
)  # fmt: skip
def test_streams_that_cannot_be_used(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "slips.csv"
    path.write_bytes(content)
    with pytest.raises(DemoDataMissing, match=said):
        load_baskets(path)
    for suffix in (".csv.xz", ".csv.gz", ".parquet"):
        packed = tmp_path / f"slips{suffix}"
        packed.write_bytes(b"not packed at all")
        with pytest.raises(DemoDataMissing, match="can't be read"):
            load_baskets(packed)


def test_baskets_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "slips.csv"
    path.write_text(
        "\ufeffTimestamp,Invoice,Store,Item,Units,note\n"
        "2026-01-02 10:00:01,b,LON,A,2,\n"
        '2026-01-02 10:00:00,a,LON,B,1,"two\nlines"\n'
        "2026-01-02 10:00:02,a,LON,B,3,\n"
        "2026-01-02 10:00:03,a,PAR,B,4,\n"
        "2026-01-02 10:00:04,,PAR,B,4,\n",
        encoding="utf-8",
    )
    found = [(basket.basket_id, basket.store, basket.lines) for basket in load_baskets(path)]
    assert found == [
        ("a", "LON", (("B", 1), ("B", 3))),
        ("b", "LON", (("A", 2),)),
        ("a@PAR", "PAR", (("B", 4),)),
    ]


@pytest.mark.skipif(streams.data_dir() is None, reason="the order streams are not here")
def test_recognises_the_retail_stream() -> None:
    folder = streams.data_dir()
    assert folder is not None
    baskets = load_baskets(folder / streams.RETAIL_FILE, limit=3)
    assert [basket.basket_id for basket in baskets] == ["536365", "536366", "536367"]
    assert baskets[0].store == ONE_SHOP
    assert baskets[0].lines[0] == ("85123A", 6)


def test_chart(tmp_path: Path) -> None:
    """Equal stretches of time; the figures of each; nothing from outside in the page."""
    answers = [Answer(1_000 + ms, 500 if ms % 3 else 0) for ms in range(0, 12_000, 10)]
    found, begin_ms = slices(answers)
    assert (len(found), begin_ms) == (120, 1_000)
    assert {(one.taken_per_second, one.p50_ms, one.p99_ms) for one in found[:-1]} <= {
        (60.0, 0.5, 0.5),
        (70.0, 0.5, 0.5),
    }
    assert sum(one.refused_per_second for one in found) == pytest.approx(400 * 10)
    path = tmp_path / "chart.html"
    write_chart(path, answers, Outage(5_000, 5_300), "a <sale>")
    page = path.read_text(encoding="utf-8")
    assert "<title>a &lt;sale&gt;</title>" in page
    assert "<svg" in page
    assert not re.search(r"(href|src)=.http|url\(http|<script", page)
    write_chart(path, [], None, "nothing sold")


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
    job = Job("store", "ledger", None, {}, None, 8, 1)
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
