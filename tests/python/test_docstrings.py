# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring runs. `inv` is a fresh store with 10 TEE and 5 MUG in LON."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inventory
import inventory.testing
from inventory import aio, errors, events, export, log, models, store

# The compiled classes, as the package loaded them.
COMPILED = [
    sys.modules["inventory._core"].Store,  # type: ignore[attr-defined]
    sys.modules["inventory._batch"].BatchStore,  # type: ignore[attr-defined]
]

MODULES = [inventory, aio, errors, events, export, log, models, store, inventory.testing]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def docstrings() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        yield module.__name__, module.__doc__ or ""
        for name in module.__all__:
            value = getattr(module, name)
            if getattr(value, "__module__", "") != module.__name__:
                continue
            yield f"{module.__name__}.{name}", inspect.getdoc(value) or ""
            if inspect.isclass(value):
                for member, inner in vars(value).items():
                    if not member.startswith("_"):
                        yield f"{module.__name__}.{name}.{member}", inspect.getdoc(inner) or ""
    for compiled in COMPILED:
        for member, inner in vars(compiled).items():
            if not member.startswith("_"):
                yield f"Inventory.{member}", inspect.getdoc(inner) or ""


EXAMPLES = {name: text for name, text in docstrings() if ">>>" in text}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 25


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path) -> None:
    with inventory.open() as inv:
        inv.receive("TEE", "LON", 10)
        inv.receive("MUG", "LON", 5)
        names = vars(models) | vars(errors) | vars(inventory.testing)
        names |= {"asyncio": asyncio, "inventory": inventory, "inv": inv, "path": tmp_path / "shop"}
        test = doctest.DocTestParser().get_doctest(EXAMPLES[name], names, name, None, 0)
        said: list[str] = []
        result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
        assert result.failed == 0, "".join(said)
        assert result.attempted > 0
