# SPDX-License-Identifier: Apache-2.0
"""What every command shares: exit statuses, printing, opening a store, options, durations."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

import inventory
from inventory.models import StoreFormat

__all__ = [
    "DURATION",
    "EXIT_BROKEN",
    "EXIT_DONE",
    "EXIT_INTERRUPTED",
    "EXIT_REFUSED",
    "EXIT_USAGE",
    "SEGMENT_BYTES",
    "Command",
    "Group",
    "Refusal",
    "actor_options",
    "fail",
    "json_option",
    "needs",
    "open_store",
    "seller_option",
    "show",
    "store_argument",
]

EXIT_DONE = 0
EXIT_BROKEN = 1  # something is wrong with what was looked at
EXIT_USAGE = 2  # click's own
EXIT_REFUSED = 3
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141  # what a shell shows for a program that SIGPIPE ended

SEGMENT_BYTES = 4 << 20

if TYPE_CHECKING:
    IntType = click.ParamType[int]
else:  # not generic in every click
    IntType = click.ParamType

_F = TypeVar("_F", bound=Callable[..., Any])


class Refusal(Exception):
    """A refusal of the command itself, said like one of the engine's."""

    def __init__(self, code_name: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code_name = code_name
        self.details = details


class Command(click.Command):
    """A command whose help ends with examples, and that says refusals and exits with 3."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = tuple(examples)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (inventory.InventoryError, Refusal) as error:
            return fail(error, bool(ctx.params.get("as_json")))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(self.examples, formatter)


class Group(click.Group):
    """A group of such commands. Ctrl-C is exit status 130, a closed pipe 141."""

    command_class = Command

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = tuple(examples)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has gone, which is no fault of anybody's. Python flushes
            # standard output once more at exit: that must find something to write to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(EXIT_PIPE_CLOSED) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(self.examples, formatter)


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    if examples:
        formatter.write("\nExample:\n" + "".join(f"  $ {line}\n" for line in examples))


# ---- what is printed ----------------------------------------------------------------------------


def show(value: msgspec.Struct, as_json: bool) -> None:
    """Print one result: an object of JSON, or a line for each figure."""
    if as_json:
        click.echo(msgspec.json.encode(value))
        return
    for name, figure in _figures(value):
        click.echo(f"{name:22}{figure}")


def _figures(value: msgspec.Struct) -> Iterator[tuple[str, str]]:
    for name, figure in msgspec.structs.asdict(value).items():
        if isinstance(figure, StoreFormat):
            yield name, str(figure)
        elif isinstance(figure, msgspec.Struct):
            yield from _figures(figure)
        elif isinstance(figure, tuple):
            for part in figure or ("none",):
                yield name, _one_line(part) if isinstance(part, msgspec.Struct) else str(part)
        elif type(figure) is int and not name.endswith("_unix_ms"):
            yield name, f"{figure:,}"
        else:
            yield name, "none" if figure is None else str(figure)


def _one_line(value: msgspec.Struct) -> str:
    return "  ".join(f"{name}={figure}" for name, figure in msgspec.structs.asdict(value).items())


def fail(error: inventory.InventoryError | Refusal, as_json: bool) -> None:
    """Say what was refused, with its code and field, in the form asked for; exit with 3.

    JSON goes to standard output like any answer, text to standard error.
    """
    if isinstance(error, Refusal):
        details = error.details
    else:
        details = {name: getattr(error, name) for name in error.detail_names}
    if as_json:
        body = {"code": error.code_name, "error": str(error), **details}
        click.echo(msgspec.json.encode(body))
    else:
        field = details.get("field")
        where = f" ({field})" if field else ""
        click.echo(f"{error.code_name}{where}: {error}", err=True)
    raise SystemExit(EXIT_REFUSED)


# ---- stores and packages ------------------------------------------------------------------------


def open_store(path: str, **options: Any) -> inventory.Inventory:
    """Open the existing store at `path`. Only `init` creates one: a slip in a path must not.

    Each opening to write begins a new log file, of SEGMENT_BYTES here: one call writes little.
    """
    if not any(name == "STATE" or name.startswith("wal-") for name in os.listdir(path)):
        name = click.format_filename(path)
        raise Refusal(
            "IO_ERROR", f"{name} is not a store; make one with: inventory init {name}", field="path"
        )
    return inventory.open(path, **{"segment_bytes": SEGMENT_BYTES, **options})


def needs(module: str, *, extra: str) -> ModuleType:
    """Import a module that an extra of the package brings along, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "inventory":
            raise
        raise click.ClickException(
            f"this command needs {missing or 'more packages'}; install with: "
            f"pip install 'inventory-engine[{extra}]'"
        ) from error


# ---- options ------------------------------------------------------------------------------------


class Duration(IntType):
    """Milliseconds, or parts with a unit: `900000`, `15m`, `1h30m`, `250ms`."""

    name = "duration"
    _unit_ms = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}  # noqa: RUF012
    _part = re.compile(r"([0-9]{1,18})(ms|s|m|h|d)", re.ASCII)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
            return int(text)
        parts = self._part.findall(text)
        if not parts or "".join(figure + unit for figure, unit in parts) != text:
            self.fail(f"{text!r} is no duration: write 900000 (ms), 15m, 1h30m or 2d", param, ctx)
        return sum(int(figure) * self._unit_ms[unit] for figure, unit in parts)


DURATION = Duration()

store_argument = click.argument("path", type=click.Path(exists=True, file_okay=False))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
seller_option = click.option(
    "--seller", default="default", show_default=True, metavar="NAME", help="Whose stock it is."
)


def actor_options(function: _F) -> _F:
    """Options of every change: who asks, for whom, and why."""
    for option in (
        json_option,
        click.option("--reference", default="", metavar="TEXT", help="A document number."),
        click.option("--reason", default="", metavar="TEXT", help="Why, for the log."),
        click.option("--account", default="", metavar="NAME", help="Who asks, for the log."),
        seller_option,
    ):
        function = option(function)
    return function
