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
from .sections import summary_of

TRACEBACK = "GUIDELENS_TRACEBACK"
"""The environment variable that shows the traceback of expected errors if it is 1, like ``--traceback``."""

_COMMANDS = {
    "compare": (
        "guidelens.cli.cmd_compare",
        "compare",
        "Draw prompts under several schedules and compare them.",
    ),
    "generate": ("guidelens.cli.cmd_generate", "generate", "Draw one prompt under one schedule."),
    "redraw": ("guidelens.cli.cmd_redraw", "redraw", "Draw a cell of a run again, bit for bit."),
    "calibrate": (
        "guidelens.cli.cmd_calibrate",
        "calibrate",
        "Measure gradients of objectives and propose scales.",
    ),
    "probe": (
        "guidelens.cli.cmd_probe",
        "probe",
        "Measure objectives on pictures with a right and a wrong caption.",
    ),
    "tune": (
        "guidelens.cli.cmd_tune",
        "tune",
        "Search the best scale of each objective.",
    ),
    "study": (
        "guidelens.cli.cmd_study",
        "study",
        "Run, resume, report and export studies: grids of conditions.",
    ),
    "figure": (
        "guidelens.cli.cmd_figure",
        "figure",
        "Make a figure for a paper or a talk from a run.",
    ),
    "plugins": ("guidelens.cli.cmd_plugins", "plugins", "List, show, check and create plugins."),
    "install": ("guidelens.cli.cmd_install", "install", "Install packages with plugins."),
    "uninstall": ("guidelens.cli.cmd_install", "uninstall", "Remove packages with plugins."),
    "completion": (
        "guidelens.cli.cmd_completion",
        "completion",
        "Print the completion script for your shell.",
    ),
    "bench": ("guidelens.cli.cmd_bench", "bench", "Benchmark a sampling step and its parts."),
    "gpu-check": (
        "guidelens.cli.cmd_gpu_check",
        "gpu_check",
        "Check a GPU against the CPU and measure its speed.",
    ),
    "weights": (
        "guidelens.cli.cmd_weights",
        "weights",
        "Fetch and verify the files that components need: weights, prompt sets.",
    ),
    "doctor": (
        "guidelens.cli.cmd_doctor",
        "doctor",
        "Show versions, devices and plugins, and report problems.",
    ),
}
"""The module, attribute and help of each command by name, so that commands can be listed without importing them."""

_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""The exception that click raises since version 8.2 where earlier versions print help."""

_EPILOG = """\b
Examples:
  guidelens compare "a red circle above a blue square" --schedule itc --schedule shift --out DIR
  guidelens generate "two small green triangles" --schedule shift --seed 0 --out x.png
  guidelens plugins show shift
  guidelens -p ./my_schedule.py compare "a red circle" --schedule mine --out DIR

\b
Write a component (generator, guidance model, schedule, ...) as name or name:key=value,key=value.
If two plugins use one name, write plugin/name. Put a value that contains a comma in quotes.
The documentation is in docs/; start with docs/tutorial.md.
"""


class App(click.Group):
    """The top-level group. It loads plugins first, imports commands on demand and prints errors in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command as click does, but show expected errors as one line on stderr and exit with their code."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, False, **extra)
        try:
            result = super().main(arguments, prog_name, complete_var, False, **extra)
        except (click.ClickException, click.Abort, GuidelensError, KeyboardInterrupt) as error:
            _fail(error, show_traceback=_wants_traceback(arguments))
        except OSError as error:  # problems with files, disks and permissions, which the user can fix
            message = f"{_shortened(error.filename)}: {error.strerror}" if error.filename else str(error)
            _fail(GuidelensError(message), show_traceback=_wants_traceback(arguments), cause=error)
        except (Exception, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a plugin may define an exception that is not an Exception
            _fail(GuidelensError(_culprit(error)), show_traceback=_wants_traceback(arguments), cause=error)
        sys.exit(result if isinstance(result, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Load plugins, so that their commands and components exist when the rest is parsed."""
        from guidelens.plugins import PluginManager

        if ctx.resilient_parsing:  # shell completion: print nothing
            ctx.with_resource(console.log_lines(quiet=True))
            rest, requests = split_plugin_options(without_open_option(args))
            ctx.obj = load_quietly(requests)
            self._plugin_commands(
                ctx
            )  # load them now, while the log is quiet; click closes the context first
        else:
            rest, requests = split_plugin_options(args)
            ctx.with_resource(console.log_lines())
            ctx.obj = PluginManager.load(requests)
        return super().parse_args(ctx, rest)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return our commands, then the plugins'."""
        return [*_COMMANDS, *self._plugin_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one of our commands, which is imported now, or a command of a plugin.

        :raises UsageError: if several plugins offer the command.
        """
        if cmd_name in _COMMANDS:
            module, attribute, _ = _COMMANDS[cmd_name]
            command = getattr(import_module(module), attribute)
            assert isinstance(command, click.Command)
            return command
        offered = self._plugin_commands(ctx)
        several = [name for name in offered if name.rpartition("/")[2] == cmd_name]
        if cmd_name not in offered and several and not ctx.resilient_parsing:
            raise UsageError(f"several plugins offer the command {cmd_name!r}; write {' or '.join(several)}")
        return offered.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does, but suggest the nearest name for an unknown command."""
        from guidelens.plugins.spelling import suggestion

        name = args[0]
        lenient = ctx.resilient_parsing or name.startswith("-")
        if not lenient and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"unknown command {name!r}{suggestion(name, known)}; known: {', '.join(known)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List our commands without importing them, and the commands of plugins in a separate section."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])
        offered = self._plugin_commands(ctx)
        if offered:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, summary_of(command)) for name, command in offered.items()])

    def _plugin_commands(self, ctx: click.Context) -> dict[str, click.Command]:
        """Return the commands of plugins by name, or by ``plugin/name`` where the bare name is taken."""
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

    These options may come before or after the command, so they are read before the command is known. No
    command can use their names.

    :returns: the remaining arguments, including everything after ``--``, and the requested plugins.
    :raises UsageError: if the last ``-p`` has no value.
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
                    f"{argument} needs a value: a plugin's name, a module, a .py file, or no:X to block a plugin"
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


def _shortened(text: object, most: int = 200) -> str:
    return str(text) if len(str(text)) <= most else f"{str(text)[:most]}..."


def _culprit(error: BaseException) -> str:
    """Describe an exception and where it was raised: function, file and line."""
    import traceback

    from guidelens.guarding import one_line

    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)}, raised in {place.name} ({place.filename}, line {place.lineno})"


def _fail(error: BaseException, *, show_traceback: bool, cause: BaseException | None = None) -> NoReturn:
    """Print an expected error and exit.

    :param cause: the exception whose traceback to show, if it is not ``error``.
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
        error.show()  # a group without a command prints its help
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        console.echo_line("error", f"{error.format_message()} (see `{error.ctx.command_path} --help`)")
    elif isinstance(error, click.ClickException):
        console.echo_line("error", error.format_message())
    else:
        console.echo_line("error", _shortened(str(error), 2000) or type(error).__name__)
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
    help="Load plugin X: the name of an installed plugin, a module, or a .py file. Its components become the "
    "defaults. no:X blocks plugin X. Repeatable, before or after the command. The environment variable "
    "GUIDELENS_PLUGINS (comma-separated) does the same.",
)
@click.option("-v", "--verbose", count=True, help="Log more to stderr; -vv logs everything.")
@click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    help="Show the traceback of an error. GUIDELENS_TRACEBACK=1 does the same.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show versions and exit.",
)
def cli(verbose: int) -> None:
    """See what a vision-language objective rewards.

    guidelens lets an objective steer a diffusion model that knows nothing about text. The pictures
    show what the objective asks for.
    """
    console.set_verbosity(verbose)


def main() -> None:
    """Run the command line. This is the entry point of the console script."""
    cli.main(prog_name="guidelens")
