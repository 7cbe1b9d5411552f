# SPDX-License-Identifier: Apache-2.0
"""README.md and every page under docs/ run, block by block, in order.

All blocks of a page share one namespace and one empty directory:

- ``python`` blocks are executed;
- ``console`` and ``sh`` blocks: each ``$ inventory ...`` line runs with the installed command and
  must end with status 0, or with N where the line after its output is ``# exit status N``;
- a block that must not run says so to the reader, in a line that begins ``# not run:``, and is in
  NOT_RUN below;
- blocks of the languages in SHOWN are only shown. Any other language, or none, is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import inventory

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

SHOWN = {"c", "cmake", "cython", "diff", "ini", "json", "make", "mermaid", "text", "toml", "yaml"}

# (page, first command of the block): what only a human runs.
NOT_RUN = {
    ("README.md", "make demo"),
    ("docs/campaigns.md", "make campaign"),
    ("docs/clients.md", "pip install 'inventory-engine[client,server]'"),
    ("docs/performance.md", "make bench"),
    ("docs/tutorial.md", "make demo"),
}

COMMAND_S = 60
NOT_RUN_MARK = "# not run:"
FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
STATUS = re.compile(r"^# exit status (\d+)$")


class Block(NamedTuple):
    language: str
    line: int  # of its first line in the page, from 1
    text: str


class Command(NamedTuple):
    line: int
    text: str
    status: int


class PageError(AssertionError):
    """What is wrong with a page, with its place."""


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page. Raises PageError for one that does not end."""
    inside: list[str] | None = None
    start, language, closing = 0, "", ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if inside is not None:
            if line.strip() == closing:
                yield Block(language, start, "".join(f"{text}\n" for text in inside))
                inside = None
            else:
                inside.append(line)
        elif fence := FENCE.match(line):
            if fence["indent"]:
                raise PageError(f"{page}:{number}: a block begins at the start of the line")
            inside, start, closing = [], number + 1, fence["fence"]
            language = fence["info"].strip()
    if inside is not None:
        raise PageError(f"{page}:{start}: the block does not end")


def commands(page: Path, block: Block) -> list[Command]:
    """The ``$ `` lines of a console block; a ``\\`` at the end goes on in the next line."""
    found: list[Command] = []
    continued = False
    for number, line in enumerate(block.text.splitlines(), block.line):
        if continued:
            last = found[-1]
            found[-1] = last._replace(text=f"{last.text} {line.removeprefix('>').strip()}")
        elif line.startswith("$ "):
            found.append(Command(number, line[2:].strip(), 0))
        elif status := STATUS.match(line):
            if not found:
                raise PageError(f"{page}:{number}: the status of which command?")
            found[-1] = found[-1]._replace(status=int(status[1]))
        continued = bool(found) and found[-1].text.endswith("\\")
        if continued:
            found[-1] = found[-1]._replace(text=found[-1].text[:-1].rstrip())
    return found


def is_not_run(block: Block) -> bool:
    return any(line.startswith(NOT_RUN_MARK) for line in block.text.splitlines())


def first_command(block: Block) -> str:
    """The first line that is no comment, without its prompt and what follows two blanks."""
    for line in block.text.splitlines():
        if line.strip() and not line.startswith("#"):
            return re.split(r" {2,}", line.removeprefix("$ "))[0].strip()
    return ""


def run_python(page: Path, block: Block, namespace: dict[str, Any]) -> None:
    # Blank lines in front make a traceback show the line of the page.
    exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)


def run_console(page: Path, block: Block, directory: Path) -> None:
    found = commands(page, block)
    if not found:
        raise PageError(f"{page}:{block.line}: no line begins with `$ `")
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for command in found:
        if command.text.split()[0] != "inventory":
            raise PageError(
                f"{page}:{command.line}: only `inventory` is run here: mark the block with "
                f"`{NOT_RUN_MARK} <why>` and add it to NOT_RUN"
            )
        done = subprocess.run(
            command.text,
            shell=True,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
        )
        if done.returncode != command.status:
            raise PageError(
                f"{page}:{command.line}: {command.text}: exit status {done.returncode}, "
                f"the page says {command.status}\n{done.stdout}"
            )


def run_block(page: Path, block: Block, namespace: dict[str, Any], directory: Path) -> bool:
    """Run a block, unless it is only shown or marked. Returns whether it ran."""
    if block.language in SHOWN:
        return False
    if block.language not in ("python", "console", "sh"):
        raise PageError(
            f"{page}:{block.line}: language {block.language!r}: python, console, sh or one of "
            f"{', '.join(sorted(SHOWN))}"
        )
    if is_not_run(block):
        return False
    if block.language == "python":
        run_python(page, block, namespace)
    else:
        run_console(page, block, directory)
    return True


def run_page(page: Path, directory: Path) -> int:
    """Run all blocks of a page in a directory, which must be the current one. Returns how many."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        count = sum(run_block(page, block, namespace, directory) for block in blocks(page))
    finally:
        left_open = [name for name, value in namespace.items() if is_open_store(value)]
        for name in left_open:
            namespace[name].close()
    if left_open:
        raise PageError(f"{page}: leaves open: {', '.join(left_open)}")
    return count


def is_open_store(value: object) -> bool:
    return isinstance(value, inventory.Inventory) and not value.closed


# ---- the pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


def test_what_is_not_run_is_listed() -> None:
    marked = {
        (page.relative_to(ROOT).as_posix(), first_command(block))
        for page in PAGES
        for block in blocks(page)
        if is_not_run(block)
    }
    assert marked == NOT_RUN


# ---- a page with a fault in it -------------------------------------------------------------------


def run_text(text: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(directory)
    page = directory / "page.md"
    page.write_text(text)
    return run_page(page, directory)


def test_blocks_share_namespace_and_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
```python
import inventory
with inventory.open("shop.inv") as inv:
    level = inv.receive("MUG", "LON", 3).level
```
and
```python
assert level.on_hand == 3
```
```console
$ inventory verify \\
    shop.inv
ok ...
$ inventory availability shop.inv CUP
no such SKU
# exit status 3
```
```text
not run
```
"""
    assert run_text(text, tmp_path, monkeypatch) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nassert 1 == 2, 'one'\n```\n", "one"),
        ("```console\n$ inventory verify nothing-here\n```\n", "exit status 2, the page says 0"),
        ("```sh\n$ inventory --version\n# exit status 1\n```\n", "0, the page says 1"),
        ("```console\n$ make bench\n```\n", "only `inventory` is run here"),
        ("```sh\nmake bench\n```\n", "no line begins with"),
        ("```console\n# exit status 1\n```\n", "the status of which command"),
        ("```\nx\n```\n", "language ''"),
        ("```ruby\nx\n```\n", "language 'ruby'"),
        ("```python\n1\n", "does not end"),
        ("```python\nimport inventory\nx = inventory.open()\n```\n", "leaves open: x"),
        ("- x\n  ```python\n  1\n  ```\n", "start of the line"),
    ],
)
def test_a_fault_is_found(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match=message):
        run_text(text, tmp_path, monkeypatch)


def test_a_traceback_shows_the_line_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_text("one\n\n```python\nx = 0\n1 / x\n```\n", tmp_path, monkeypatch)
    last = caught.traceback[-1]
    assert (Path(str(last.path)).name, last.lineno + 1) == ("page.md", 5)
