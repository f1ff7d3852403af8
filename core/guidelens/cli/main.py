"""The ``guidelens`` command: loads plugins, then imports and runs one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from guidelens.errors import GuidelensError, UsageError

from . import console
from .completion import complete_plugin, load_quietly, without_open_option
from .interrupts import INTERRUPTED
from .options import get_manager

TRACEBACK = "GUIDELENS_TRACEBACK"
"""Environment variable; 1 shows the traceback of expected errors, like ``--traceback``."""

_COMMANDS = {
    "compare": (
        "guidelens.cli.cmd_compare",
        "compare",
        "Draw prompts under several schedules and compare them.",
    ),
    "generate": ("guidelens.cli.cmd_generate", "generate", "Draw one prompt under one schedule."),
    "calibrate": (
        "guidelens.cli.cmd_calibrate",
        "calibrate",
        "Measure gradients of objectives, and propose scales.",
    ),
    "study": ("guidelens.cli.cmd_study", "study", "Run studies: grids of conditions, from a file."),
    "plugins": ("guidelens.cli.cmd_plugins", "plugins", "Show, check and start plugins."),
    "install": ("guidelens.cli.cmd_install", "install", "Install packages with plugins beside guidelens."),
    "uninstall": ("guidelens.cli.cmd_install", "uninstall", "Remove packages with plugins."),
    "completion": ("guidelens.cli.cmd_completion", "completion", "Print the script of shell completion."),
    "bench": ("guidelens.cli.cmd_bench", "bench", "Measure a sampling step and what it is made of."),
    "gpu-check": (
        "guidelens.cli.cmd_gpu_check",
        "gpu_check",
        "Check that a GPU computes what the CPU does, and how fast.",
    ),
    "weights": (
        "guidelens.cli.cmd_weights",
        "weights",
        "Fetch and check the weights files that components need.",
    ),
    "doctor": (
        "guidelens.cli.cmd_doctor",
        "doctor",
        "Tell what this installation is made of, and what is amiss.",
    ),
}
"""Name -> module, attribute, and help, so that listing commands imports none."""

_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click 8.2 and later raise instead of printing help."""

_EPILOG = """\b
Examples:
  guidelens compare "a red circle above a blue square" --schedule itc --schedule shift --out DIR
  guidelens generate "two small green triangles" --schedule shift --seed 0 --out x.png
  guidelens plugins show shift
  guidelens -p ./my_schedule.py compare "a red circle" --schedule mine --out DIR

\b
A component (generator, guidance model, schedule, ...) is spelled name or name:key=value,key=value,
and plugin/name where two plugins use one name. A value that holds a comma goes in quotes.
"""


class App(click.Group):
    """The top-level group: plugins before everything else, commands imported late, errors in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as click does, but show expected errors as one line on stderr, and exit with their code."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, False, **extra)
        try:
            result = super().main(arguments, prog_name, complete_var, False, **extra)
        except (click.ClickException, click.Abort, GuidelensError, KeyboardInterrupt) as error:
            _fail(error, show_traceback=_wants_traceback(arguments))
        except (Exception, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # of a plugin's own making, which nothing else expects
            _fail(GuidelensError(_culprit(error)), show_traceback=_wants_traceback(arguments), cause=error)
        sys.exit(result if isinstance(result, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Load plugins, so that their commands and components exist when the rest is parsed."""
        from guidelens.plugins import PluginManager

        if ctx.resilient_parsing:  # completing in the shell, where nothing must be printed
            ctx.with_resource(console.log_lines(quiet=True))
            rest, requests = split_plugin_options(without_open_option(args))
            ctx.obj = load_quietly(requests)
            self._plugin_commands(ctx)  # now, while the log is quiet: click closes the context first
        else:
            rest, requests = split_plugin_options(args)
            ctx.with_resource(console.log_lines())
            ctx.obj = PluginManager.load(requests)
        return super().parse_args(ctx, rest)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return our commands, then the plugins'."""
        return [*_COMMANDS, *self._plugin_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one of our commands, or take a plugin's.

        :raises UsageError: if several plugins offer it.
        """
        if cmd_name in _COMMANDS:
            module, attribute, _ = _COMMANDS[cmd_name]
            command = getattr(import_module(module), attribute)
            assert isinstance(command, click.Command)
            return command
        offered = self._plugin_commands(ctx)
        several = [name for name in offered if name.rpartition("/")[2] == cmd_name]
        if cmd_name not in offered and several and not ctx.resilient_parsing:
            raise UsageError(f"several plugins offer the command {cmd_name!r}; say {' or '.join(several)}")
        return offered.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, naming the nearest command where there is none."""
        from guidelens.plugins.spelling import suggestion

        name = args[0]
        lenient = ctx.resilient_parsing or name.startswith("-")
        if not lenient and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise UsageError(
                f"unknown command {name!r}{suggestion(name, known)}; there are {', '.join(known)}"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands without importing ours; those of plugins have a section of their own."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])
        offered = self._plugin_commands(ctx)
        if offered:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(
                    [(name, command.get_short_help_str(80)) for name, command in offered.items()]
                )

    def _plugin_commands(self, ctx: click.Context) -> dict[str, click.Command]:
        """Return plugins' commands by name; it is ``plugin/name`` where the bare one is taken."""
        key = f"{__name__}.commands"
        if key not in ctx.meta:
            try:
                found = get_manager(ctx).commands()
            except GuidelensError:
                if not ctx.resilient_parsing:
                    raise
                found = []
            names = [*_COMMANDS, *(name for _, name, _ in found)]
            ctx.meta[key] = {
                name if names.count(name) == 1 else f"{plugin.name}/{name}": command
                for plugin, name, command in found
            }
        commands: dict[str, click.Command] = ctx.meta[key]
        return commands


def split_plugin_options(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``-p X``, ``-pX``, ``--plugin X``, ``--plugin=X`` and ``--traceback`` out of ``args``.

    They may stand before or after the command, so they are read before it is known; no command can use
    these names.

    :returns: what is left, all after a ``--`` included, and the plugins asked for.
    :raises UsageError: if the last one lacks its value.
    """
    rest: list[str] = []
    requests: list[str] = []
    remaining = iter(args)
    for argument in remaining:
        if argument == "--":
            return [*rest, argument, *remaining], requests
        if argument in ("-p", "--plugin"):
            value = next(remaining, None)
            if value is None:
                raise UsageError(
                    f"{argument} needs a plugin: a name, a module or a .py file, or no:X to block one"
                )
            requests.append(value)
        elif argument.startswith("--plugin="):
            requests.append(argument.partition("=")[2])
        elif argument.startswith("-p"):
            requests.append(argument[2:].removeprefix("="))
        elif argument != "--traceback":
            rest.append(argument)
    return rest, requests


def _wants_traceback(args: Sequence[str]) -> bool:
    ours = args[: list(args).index("--")] if "--" in args else args
    return "--traceback" in ours or os.environ.get(TRACEBACK, "") not in ("", "0")


def _culprit(error: BaseException) -> str:
    """Say what was raised and where: the file and function that raised it."""
    import traceback

    from guidelens.guarding import one_line

    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)}, raised in {place.name} ({place.filename}, line {place.lineno})"


def _fail(error: BaseException, *, show_traceback: bool, cause: BaseException | None = None) -> NoReturn:
    """Show an expected error and exit.

    :param cause: whose traceback to show, if it is another's.
    """
    if show_traceback:
        import traceback

        click.echo("".join(traceback.format_exception(cause or error)), err=True, nl=False)
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
        console.echo_line("error", "interrupted")
        sys.exit(INTERRUPTED)
    if isinstance(error, click.Abort):
        console.echo_line("error", "aborted")
        sys.exit(1)
    if isinstance(error, _HELP):
        error.show()  # a group without a command: its help, in lines
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        console.echo_line("error", f"{error.format_message()} (see `{error.ctx.command_path} --help`)")
    elif isinstance(error, click.ClickException):
        console.echo_line("error", error.format_message())
    else:
        console.echo_line("error", str(error) or type(error).__name__)
    sys.exit(getattr(error, "exit_code", 1))


def _print_versions(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from guidelens.doctor import short_versions

        click.echo(short_versions())
        ctx.exit()


@click.group(
    cls=App,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-p",
    "--plugin",
    metavar="X",
    multiple=True,
    expose_value=False,
    shell_complete=complete_plugin,
    help="Load plugin X: an installed plugin's name, a module, or a .py file. What X alone offers becomes "
    "the default. no:X blocks X. Repeatable, before or after the command; GUIDELENS_PLUGINS "
    "(comma-separated) does the same.",
)
@click.option("-v", "--verbose", count=True, help="Say more on stderr; -vv everything.")
@click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    help="Show the traceback of errors (GUIDELENS_TRACEBACK=1).",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions that matter, and exit.",
)
def cli(verbose: int) -> None:
    """See what a vision-language objective means: let it steer a diffusion model
    that knows nothing about text, and look at the pictures.
    """
    console.set_verbosity(verbose)


def main() -> None:
    """Run the command line; the console script's entry."""
    cli.main(prog_name="guidelens")
