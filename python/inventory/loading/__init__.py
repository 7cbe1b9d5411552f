# SPDX-License-Identifier: Apache-2.0
"""Stock figures from a file into a store: CSV and Parquet, in bounded memory, to be resumed.

A file has a line for each row: `sku, location, on_hand`. After the import `on_hand` of each listed
row is the figure of the file, whatever it was before: the figures are absolute, like those of a
count. Doing a part of a file again therefore changes nothing, and that is what makes it exact to
go on after a crash from the last position known to be durable.

    source     reads a file in chunks, each with the numbers of its lines and the position after it
    check      sorts the good rows of a chunk from the bad ones, with a reason for each of those
    progress   the small file in the store's directory that says how far an import has come
    run        the import: chunks into differences, differences into the store

Needs numpy and pyarrow (`pip install 'inventory-engine[arrow]'`).
"""

from inventory.loading.check import BadRow
from inventory.loading.progress import PROGRESS_NAME, Progress
from inventory.loading.run import BAD_MAX, Import, ImportRefused, Summary
from inventory.loading.source import Columns, Source, SourceUnusable, open_source

__all__ = [
    "BAD_MAX",
    "PROGRESS_NAME",
    "BadRow",
    "Columns",
    "Import",
    "ImportRefused",
    "Progress",
    "Source",
    "SourceUnusable",
    "Summary",
    "open_source",
]
