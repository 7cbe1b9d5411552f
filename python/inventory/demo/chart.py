# SPDX-License-Identifier: Apache-2.0
"""The sale as a picture: one HTML file with the drawing inside, to be opened anywhere, offline."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from inventory.demo.ledger import Answer
from inventory.demo.result import percentile

SLICE_COUNT_MAX = 120
SLICE_MS_MIN = 50


@dataclass(frozen=True, slots=True)
class Outage:
    """The kill and the recovery, in milliseconds of the clock of the answers."""

    killed_ms: int
    recovered_ms: int  # the store was open again; the proof and a replay follow


@dataclass(frozen=True, slots=True)
class Slice:
    """The answers of one stretch of time."""

    begin_s: float
    taken_per_second: float
    refused_per_second: float
    p50_ms: float
    p99_ms: float


def slices(answers: Sequence[Answer]) -> tuple[list[Slice], int]:
    """Cut the run into equal stretches; also when it began, in milliseconds."""
    begin_ms = min((answer.now_ms for answer in answers), default=0)
    span_ms = max((answer.now_ms for answer in answers), default=0) - begin_ms + 1
    slice_ms = max(SLICE_MS_MIN, -(-span_ms // SLICE_COUNT_MAX))
    taken: list[list[int]] = [[] for _ in range(-(-span_ms // slice_ms))]
    refused = [0] * len(taken)
    for answer in answers:
        index = (answer.now_ms - begin_ms) // slice_ms
        if answer.micros:
            taken[index].append(answer.micros)
        else:
            refused[index] += 1
    found = []
    for index, micros in enumerate(taken):
        micros.sort()
        found.append(
            Slice(
                begin_s=index * slice_ms / 1000,
                taken_per_second=len(micros) * 1000 / slice_ms,
                refused_per_second=refused[index] * 1000 / slice_ms,
                p50_ms=percentile(micros, 50) / 1000,
                p99_ms=percentile(micros, 99) / 1000,
            )
        )
    return found, begin_ms


def write_chart(path: Path, answers: Sequence[Answer], outage: Outage | None, title: str) -> None:
    """Draw baskets and latencies over the time of the run, the outage marked."""
    found, begin_ms = slices(answers)
    at = [one.begin_s for one in found]
    never = float("nan")  # a gap in the line
    figure = Figure(figsize=(11, 7), layout="constrained")
    pace, latency = figure.subplots(2, 1, sharex=True)
    pace.plot(at, [one.taken_per_second for one in found], label="baskets reserved", color="C0")
    pace.plot(at, [one.refused_per_second for one in found], label="baskets refused", color="C1")
    pace.set_ylabel("baskets a second")
    pace.set_ylim(bottom=0)
    latency.plot(at, [one.p50_ms or never for one in found], label="p50", color="C0")
    latency.plot(at, [one.p99_ms or never for one in found], label="p99", color="C3")
    latency.set_yscale("log")
    latency.set_ylabel("durable reserve, ms")
    latency.set_xlabel("seconds")
    for axes in (pace, latency):
        if outage is not None:
            killed_s = (outage.killed_ms - begin_ms) / 1000
            recovered_s = (outage.recovered_ms - begin_ms) / 1000
            axes.axvspan(killed_s, recovered_s, color="0.85", label="recovery")
            axes.axvline(killed_s, color="black", linestyle="--", label="SIGKILL")
            recovered = "recovered; proof and replay follow"
            axes.axvline(recovered_s, color="green", linestyle="--", label=recovered)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="best", fontsize="small")
    drawing = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "inventory"}):
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    svg = drawing.getvalue()
    svg = svg[svg.index("<svg") :]
    text = html.escape(title)
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text}</title>'
        "<style>body{font-family:sans-serif;max-width:70em;margin:2em auto}"
        "svg{width:100%;height:auto}</style></head>\n"
        f"<body><h1>{text}</h1>\n{svg}\n</body></html>\n",
        encoding="utf-8",
    )
