# SPDX-License-Identifier: Apache-2.0
"""From the lines that benches print to the table that people read. Pure: no file, no process.

A *line* is what one run of a bench says: a dict with ``row`` (of the table of targets) or ``peer``
(who did it), ``variant`` (tells lines of one row apart), ``what``, ``figure``, ``unit``,
``durability``, and ``must`` and ``aim``, which may be ``None``. ``limits`` names further conditions
of the target, ``{"gone_s": [0.7, 2]}``: the value found and the most it may be. Everything else is
detail, kept in the saved JSON; some of it is shown as a note.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

Line = dict[str, Any]

LESS_IS_BETTER = {"bytes", "ms", "ns", "seconds", "x normal"}
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

# Details worth a word beside the figure.
NOTES = {
    "reserve_call_rate": "inside reserve calls {}/s",
    "whole_answer_rate": "with whole answers {}/s",
    "overall_rate": "ends included {}/s",
    "load_rate": "loaded at {} rows/s",
    "loaded_bytes_a_row": "{} bytes before packing",
    "p99_normal_ms": "p99 normal {} ms",
    "p99_meanwhile_ms": "meanwhile {} ms",
    "lag_ms": "lag {} ms",
    "open_s": "opened in {} s",
    "snapshot_s": "a snapshot takes {} s meanwhile",
    "live": "{} live",
    "in_flight": "{} in flight",
    "loop_own_ms_max": "{} ms but for others' load",
}
HEAD = ["row", "what", "must", "aim", "figure", "spread", "unit", "durability", "reached", "note"]
PEER_HEAD = ["work", "durability", "who", "figure", "spread", "unit", "engine is"]


@dataclasses.dataclass(frozen=True)
class Merged:
    """The runs of one row and variant: the median one's details, and all figures."""

    line: Line
    figures: tuple[float, ...]  # by round
    limits: dict[str, tuple[float, float]]  # the worst found, and the most it may be

    @property
    def figure(self) -> float:
        return statistics.median(self.figures)

    def saved(self) -> Line:
        """As it goes into the JSON file; ``merge`` of what was read back gives the same."""
        return self.line | {
            "figure": self.figure,
            "figures": list(self.figures),
            "limits": {name: list(pair) for name, pair in self.limits.items()},
        }

    @classmethod
    def loaded(cls, saved: Line) -> Merged:
        limits = {name: (found, most) for name, (found, most) in saved["limits"].items()}
        return cls(saved, tuple(saved["figures"]), limits)


def key_of(line: Line) -> tuple[Any, ...]:
    """What tells lines apart: rows by number, then peers by their work."""
    row = line.get("row")
    return (row is None, row or 0, line.get("variant", ""), line.get("peer", ""))


def merge(lines: list[Line]) -> list[Merged]:
    """Lines of all rounds, in any order, to one entry a row and variant: rows first, by number."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(key_of(line), []).append(line)
    result = []
    for _, same in sorted(groups.items()):
        by_figure = sorted(same, key=lambda line: line["figure"])
        worst: dict[str, tuple[float, float]] = {}
        for line in same:
            for name, (found, most) in line.get("limits", {}).items():
                worst[name] = max(worst.get(name, (found, most)), (found, most))
        figures = tuple(line["figure"] for line in same)
        result.append(Merged(by_figure[(len(same) - 1) // 2], figures, worst))
    return result


def number(value: float | None) -> str:
    """Three or four digits are all that a measurement says."""
    if value is None:
        return "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.2f} M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.0f} k"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(figures: tuple[float, ...]) -> str:
    if len(figures) < 2:
        return "one run"
    return f"{number(min(figures))} to {number(max(figures))}"


def reached(merged: Merged) -> str:
    """``aim``, ``must``, ``no`` (with the limit that was broken), or ``-`` without a target.

    Judged by the median of the figures and the worst of each limit.
    """
    line, figure = merged.line, merged.figure
    if line.get("must") is None:
        return "-"
    broken = [
        f"{name} {number(found)} > {number(most)}"
        for name, (found, most) in merged.limits.items()
        if found > most
    ]
    if broken:
        return f"no: {', '.join(broken)}"
    sign = -1 if line["unit"] in LESS_IS_BETTER else 1
    for name in ("aim", "must"):
        if sign * figure >= sign * line[name]:
            return name
    return "no"


def note(merged: Merged) -> str:
    said = [
        text.format(number(merged.line[name]))
        for name, text in NOTES.items()
        if name in merged.line
    ]
    said += [f"{name} {number(found)}" for name, (found, _) in merged.limits.items()]
    return ", ".join(said)


def row_cells(merged: list[Merged], judged: bool) -> list[list[str]]:
    """The table of targets. Figures of a smoke run are shown but not judged."""
    cells = [HEAD]
    for one in merged:
        line = one.line
        if "row" not in line:
            continue
        variant = f" ({line['variant']})" if line.get("variant") else ""
        cells.append(
            [
                str(line["row"]),
                line["what"] + variant,
                number(line.get("must")),
                number(line.get("aim")),
                number(one.figure),
                spread(one.figures),
                line["unit"],
                line["durability"],
                reached(one) if judged else "-",
                note(one),
            ]
        )
    return cells


def peer_cells(merged: list[Merged]) -> list[list[str]]:
    """The same work done by others, each beside the engine's figure of that work."""
    peers = [one for one in merged if "peer" in one.line]
    engine = {one.line["variant"]: one.figure for one in peers if one.line["peer"] == "engine"}
    cells = [PEER_HEAD]
    for one in peers:
        line = one.line
        ours = engine.get(line["variant"])
        times = "-" if ours is None or line["peer"] == "engine" else f"{ours / one.figure:.1f} x"
        cells.append(
            [
                line["what"],
                line["durability"],
                line["peer"],
                number(one.figure),
                spread(one.figures),
                line["unit"],
                times,
            ]
        )
    return cells


def as_text(cells: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def as_markdown(cells: list[list[str]]) -> str:
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def about_lines(about: Line) -> list[str]:
    """Where, when and beside what the figures were taken."""
    return [
        f"{about['date'][:10]}, commit {about['commit']}, {about['sizes']} sizes, "
        f"rounds: {about['rounds']}, taken in turn.",
        f"{about['machine']}; stores on {about['disk']}.",
        f"Load generators run on the same cores; load average before {about['load_before']}, "
        f"after {about['load_after']}.",
    ]


def report_text(about: Line, merged: list[Merged]) -> str:
    judged = about["sizes"] != "smoke"
    parts = [as_text(row_cells(merged, judged))]
    if any("peer" in one.line for one in merged):
        parts.append("The same work done by others:\n" + as_text(peer_cells(merged)))
    parts.append("\n".join(about_lines(about)))
    return "\n\n".join(parts)


def report_markdown(about: Line, merged: list[Merged]) -> str:
    parts = [" ".join(about_lines(about)), as_markdown(row_cells(merged, True))]
    if any("peer" in one.line for one in merged):
        parts += ["The same work done by others:", as_markdown(peer_cells(merged))]
    return "\n\n".join(parts)


def replaced(page: str, text: str) -> str:
    """The page with what is between its two marker comments replaced.

    Raises ValueError when the page has not exactly one of each, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"needs {BEGIN} and, after it, {END}, once each")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
