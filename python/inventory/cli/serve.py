# SPDX-License-Identifier: Apache-2.0
"""`serve`: the store over ZeroMQ. The server is loaded by name when it is asked for: the library
does not know its front ends."""

from __future__ import annotations

import functools
from typing import Any

import click

import inventory
from inventory.cli.common import Command, needs

__all__ = ["serve"]


@click.command(
    cls=Command,
    examples=[
        "inventory serve --data shop.inv",
        "inventory serve --data shop.inv --bind tcp://127.0.0.1:7707 --bind tcp://127.0.0.1:7708",
        "inventory serve --memory",
    ],
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="The store's directory; made if there is none.",
)
@click.option(
    "--bind",
    "binds",
    multiple=True,
    default=("tcp://127.0.0.1:7707",),
    show_default=True,
    metavar="ENDPOINT",
    help="Where to listen; again for more, each has a thread of its own.",
)
@click.option(
    "--durability",
    type=click.Choice(["durable", "interval"]),
    default="durable",
    show_default=True,
    help="When a reply leaves: synced, or in the page cache.",
)
@click.option(
    "--interval-ms",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="With --durability interval: how often is synced.",
)
@click.option(
    "--memory",
    is_flag=True,
    help="Keep no log at all: nothing survives the process. Instead of --data.",
)
@click.option(
    "--message-bytes-max",
    type=click.IntRange(1 << 16, 1 << 24),
    default=1 << 20,
    show_default=True,
    help="Of a message; a longer one closes its connection.",
)
@click.option(
    "--requests-in-flight-max",
    type=click.IntRange(1, 1 << 24),
    default=262_144,
    show_default=True,
    help="Of an endpoint; beyond: BUSY.",
)
@click.option(
    "--reply-bytes-in-flight-max",
    type=click.IntRange(1 << 16, 1 << 40),
    default=64 << 20,
    show_default=True,
    help="Of an endpoint; beyond: BUSY.",
)
@click.option(
    "--receive-queue-max",
    type=click.IntRange(1, 1 << 20),
    default=256,
    show_default=True,
    help="Messages from one connection that wait.",
)
@click.option(
    "--send-queue-max", type=click.IntRange(1, 1 << 20), default=1_000, show_default=True,
    help="Messages to one connection that wait.",
)  # fmt: skip
def serve(
    data: str | None,
    binds: tuple[str, ...],
    durability: str,
    interval_ms: int,
    memory: bool,
    **limits: int,
) -> None:
    """Serve a store over ZeroMQ until SIGTERM or Ctrl-C; clients in any language (docs/wire.md).

    Prints one line of JSON when it is ready. On the loopback interface only in this release: beyond
    it peers need keys (CURVE).

    Exit status: 0 stopped, all answered and closed properly; 74 the disk failed.
    """
    if (data is None) != memory:
        raise click.UsageError("give --data DIR, or --memory and nothing survives the process")
    needs("zmq", extra="server")
    config = needs("inventory_server.config", extra="server")
    process = needs("inventory_server.process", extra="server")
    for endpoint in binds:
        config.check_endpoint(endpoint)
    options: dict[str, Any] = {} if memory else {"durability": durability}
    if durability == "interval":
        options["interval_ms"] = interval_ms
    open_store = functools.partial(inventory.open, data, **options)
    try:
        process.serve(open_store, binds, limits=config.Limits(**limits))
    except config.LibzmqError as error:
        raise click.ClickException(str(error)) from error
