# SPDX-License-Identifier: Apache-2.0
"""`completion`: the script that makes a shell complete this program's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from inventory.cli.common import Command

__all__ = ["completion"]

PROGRAM = "inventory"
VARIABLE = "_INVENTORY_COMPLETE"  # click's name for it: what the script calls us with


@click.command(cls=Command, examples=["inventory completion bash", "inventory completion fish"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: eval "$(inventory completion bash)"        in ~/.bashrc (bash 4.4 or later)
    zsh:  eval "$(inventory completion zsh)"         in ~/.zshrc
    fish: inventory completion fish > ~/.config/fish/completions/inventory.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows each shell of the choice"
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
