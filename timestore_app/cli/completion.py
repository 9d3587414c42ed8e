"""Completion of commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(short_help="Print a script for the shell's completion.")
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that teaches a shell to complete commands and options.

    For bash: timestore completion bash > ~/.local/share/bash-completion/completions/timestore
    """
    script = _SHELLS[shell](ctx.find_root().command, {}, "timestore", "_TIMESTORE_COMPLETE")
    click.echo(script.source_template % script.source_vars())
