# SPDX-License-Identifier: Apache-2.0
"""How far an import has come: a small file in the store's directory, which the engine leaves alone.

It is written only when everything it speaks of is durable: to a second file, which is synced and
renamed over the first, and then the directory is synced. A crash leaves the old one or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from inventory.loading.source import Columns, Identity, Position

__all__ = ["PROGRESS_NAME", "Progress", "load", "remove", "save"]

PROGRESS_NAME = "import-progress.json"


class Progress(msgspec.Struct, frozen=True):
    """Everything before `position` of this file is in the store, durably."""

    source: Identity
    columns: Columns
    delimiter: str
    seller: str
    position: Position
    rows: int  # good rows so far
    bad: int  # rows left out so far
    bad_rows_path: str | None = None  # where those were written
    bad_rows_bytes: int = 0


def load(store: Path) -> Progress | None:
    """Read the progress of an unfinished import; None if there is none.

    Raises:
        ValueError: the file is not what `save` writes.
    """
    try:
        text = (store / PROGRESS_NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(text, type=Progress)
    except msgspec.DecodeError as error:
        raise ValueError(f"{store / PROGRESS_NAME} can't be read: {error}") from None


def save(store: Path, progress: Progress) -> None:
    """Write the progress; durable when this returns."""
    path = store / PROGRESS_NAME
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(progress)))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync_directory(store)


def remove(store: Path) -> None:
    """Remove the progress, if any; durable when this returns."""
    (store / PROGRESS_NAME).unlink(missing_ok=True)
    _sync_directory(store)


def _sync_directory(store: Path) -> None:
    directory = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
