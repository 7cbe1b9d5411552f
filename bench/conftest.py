# SPDX-License-Identifier: Apache-2.0
"""Flags and fixtures of the Python benches. Each bench names its full and its smoke sizes."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from workload import Sizes


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sizes of the benches")
    for field in dataclasses.fields(Sizes):
        kind = float if field.name == "seconds" else int
        group.addoption(f"--{field.name}", type=kind, default=None)
    group.addoption("--dir", default=None, help="where stores are made: a disk, not memory")
    group.addoption("--smoke", action="store_true", help="for a moment; its figures are nothing")


@pytest.fixture
def sizes(request: pytest.FixtureRequest) -> Sizes:
    """The sizes of the bench's module, FULL or SMOKE, changed by the flags given."""
    config = request.config
    chosen: Sizes = request.module.SMOKE if config.getoption("--smoke") else request.module.FULL
    return chosen.changed_by(
        {field.name: config.getoption(f"--{field.name}") for field in dataclasses.fields(Sizes)}
    )


@pytest.fixture
def work_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of this run on the disk of ``--dir``; gone afterwards, also after a failure."""
    directory = tempfile.mkdtemp(prefix="inventory-bench.", dir=request.config.getoption("--dir"))
    yield Path(directory)
    shutil.rmtree(directory)
