# SPDX-License-Identifier: Apache-2.0
"""The command line: ``inventory ...``. Thin: parse, call, print. One module a command group."""

from __future__ import annotations

import click

from inventory.cli import (
    bench,
    completion,
    demo,
    events,
    export,
    load,
    log,
    mend,
    reads,
    reservations,
    serve,
    stock,
)
from inventory.cli.common import Group

__all__ = ["main"]


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=[
        "inventory receive shop.inv TEE LON 100",
        "inventory availability shop.inv TEE",
        "inventory reserve --help",
    ],
)
@click.version_option(package_name="inventory-engine", prog_name="inventory")
def main() -> None:
    """Exact stock and reservations: change a store, look at it, prove it, rehearse a shop.

    Every command opens the store at PATH for the call, alone, and is durable when it returns.

    Exit status: 0 done, 1 broken (an invariant, or rows left out of an import), 2 usage,
    3 refused, 130 interrupted.
    """


for command in (
    stock.init,
    stock.snapshot,
    stock.finalize,
    stock.receive,
    stock.issue,
    stock.adjust,
    stock.set_on_hand,
    stock.set_policy,
    reservations.reserve,
    reservations.commit,
    reservations.ship,
    reservations.release,
    reservations.cancel,
    reservations.extend,
    reservations.reservation,
    reads.availability,
    reads.verify,
    mend.fsck,
    mend.recover,
    export.export,
    events.events,
    log.log,
    load.load,
    serve.serve,
    bench.bench,
    demo.demo,
    completion.completion,
):
    main.add_command(command)
