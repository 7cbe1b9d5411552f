# SPDX-License-Identifier: Apache-2.0
"""Every ```python block of README.md and docs/*.md runs: a page's in order, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()
]
BLOCK = re.compile(r"^```python *\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks of a page with the lines they start at."""
    text = page.read_text()
    return [(text.count("\n", 0, m.start(1)), m[1]) for m in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    if not found:
        pytest.skip("no python block")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, source in found:
        # Blank lines in front make a traceback show the line of the page.
        exec(compile("\n" * line + source, str(page), "exec"), namespace)
