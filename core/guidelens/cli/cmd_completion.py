"""``guidelens completion``: print the script that makes a shell complete guidelens commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_GUIDELENS_COMPLETE"
"""The environment variable with which the script requests completions. click determines its name."""

_EPILOG = """\b
Where to put it:
  bash  eval "$(guidelens completion bash)"    in ~/.bashrc
  zsh   eval "$(guidelens completion zsh)"     in ~/.zshrc, after compinit
  fish  guidelens completion fish > ~/.config/fish/completions/guidelens.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script for your shell.

    With the script installed, your shell completes commands, options, components and plugins.
    Completing a line that contains -p FILE.py runs that file, as running the command would.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    script = kind(click.Group("guidelens"), {}, "guidelens", VARIABLE)
    click.echo(script.source_template % script.source_vars())
