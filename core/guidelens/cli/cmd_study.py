"""``guidelens study``: run, resume, inspect, report and export studies."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from guidelens.errors import GuidelensError, UsageError
from guidelens.words import plural

from . import console
from .cmd_study_files import new_command, show_command
from .cmd_study_metrics import distribution_command, matrix_command
from .cmd_study_report import report_command, write_report
from .completion import complete_component
from .logs import LOG, print_logs, read_logs
from .options import BatchSize, get_manager, joined_specs
from .paths import UserPath
from .sections import CommandGroup

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager
    from guidelens.runs.execute import ComponentCache, Executor
    from guidelens.studies.file import Study
    from guidelens.studies.forecast import Forecast
    from guidelens.studies.run import StudyRun

RUNS = Path("runs")
"""Parent of the default directory of a study, ``runs/NAME``."""

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=CommandGroup)
def study() -> None:
    """Run, resume, report and export studies: grids of conditions.

    A study file describes a grid of prompts, schedules, seeds and settings. The directory of the
    study holds a picture, a row of results and the recorded steps of each cell. To resume an
    interrupted study, run the same command again. See docs/studies.md.
    """


@dataclass(frozen=True)
class _ExecutionOptions:
    """Options that change how cells are computed, not what is computed."""

    retry_failed: bool
    device: str | None
    batch_size: int | str | None
    executor: str
    workers: int | None
    threads: int | None
    address: str | None
    logs: tuple[str, ...]

    @property
    def planning_device(self) -> str | None:
        """The device for which batches are planned: the first, if there are several."""
        from guidelens.executors.devices import ALL_GPUS

        return "cuda:0" if self.device == ALL_GPUS else self.device

    def maker(self, found: Study, manager: PluginManager) -> Callable[[ComponentCache], Executor]:
        """Return a function that makes the requested executor.

        :raises UsageError: for options that the executor does not take, or if it is not installed.
        """
        from guidelens.executors.devices import ALL_GPUS, all_gpus, devices_executor
        from guidelens.runs.execute import InProcess
        from guidelens.studies.run import study_plugins

        if self.executor == "local":
            given = {
                "--workers": self.workers,
                "--threads-per-worker": self.threads,
                "--address": self.address,
            }
            for option, value in given.items():
                if value is not None:
                    raise UsageError(f"{option} is for --executor ray")
            if self.device == ALL_GPUS:
                return devices_executor(study_plugins(found, manager), all_gpus())
            return InProcess
        if self.device == ALL_GPUS:
            raise UsageError(
                f"--device {ALL_GPUS} is for this machine; with --executor ray say --device cuda"
            )
        from guidelens.executors.ray import LOCAL, RayOptions, ray_executor

        address = LOCAL if self.address is None else self.address
        options = RayOptions(self.workers, self.threads or 1, address)
        return ray_executor(study_plugins(found, manager), options)


_EXECUTION_FLAGS = (
    click.option("--retry-failed", is_flag=True, help="Compute failed cells again."),
    click.option("--device", help="auto, cpu, cuda, cuda:N, cuda:all or mps.  [default: the study's]"),
    click.option("--batch-size", type=BatchSize(), help="Pictures computed at once.  [default: the study's]"),
    click.option(
        "--executor",
        type=click.Choice(("local", "ray")),
        default="local",
        show_default=True,
        help="Compute in this process, or on a Ray cluster.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        help="Number of Ray workers (with --executor ray).  [default: as many as fit]",
    ),
    click.option(
        "--threads-per-worker",
        "threads",
        type=click.IntRange(1),
        help="CPU cores per worker (with --executor ray).  [default: 1]",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT|auto",
        help="Address of a running Ray cluster (with --executor ray).  "
        "[default: a new cluster on this machine]",
    ),
    click.option("--log", "logs", **LOG),
)


def _execution_options(function: F) -> F:
    """Add the options of :class:`_ExecutionOptions` to a command. Its function receives them as ``execution``."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        execution = _ExecutionOptions(
            **{part.name: kwargs.pop(part.name) for part in fields(_ExecutionOptions)}
        )
        return function(*args, execution=execution, **kwargs)

    decorated: Any = wrapper
    for declare in reversed(_EXECUTION_FLAGS):
        decorated = declare(decorated)
    return decorated


@study.command("run")
@click.argument("study_name", metavar="FILE|NAME")
@click.option(
    "--out",
    type=UserPath(path_type=Path),
    help="Directory for the results.  [default: runs/NAME]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the number of cells and estimate time and memory from a few measured steps. Draw nothing.",
)
@click.option(
    "--generator",
    metavar="SPEC",
    shell_complete=complete_component("generator"),
    help="Diffusion model that replaces the study's.  [default: the study's]",
)
@click.option(
    "--guidance",
    metavar="SPEC",
    multiple=True,
    callback=joined_specs,
    shell_complete=complete_component("guidance"),
    help="Guidance model that replaces the study's.  [default: the study's]",
)
@click.option(
    "--include",
    type=UserPath(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="File with keys of the sampling for all grids, such as scales.toml of guidelens calibrate. Repeatable.  "
    "[default: those the study names]",
)
@_execution_options
@click.pass_context
def run_command(
    ctx: click.Context,
    study_name: str,
    out: Path | None,
    dry_run: bool,
    generator: str | None,
    guidance: str | None,
    include: tuple[Path, ...],
    execution: _ExecutionOptions,
) -> None:
    """Run a study: compute its missing cells, then write its report.

    FILE is a study file (.toml); NAME is a study that a plugin offers (see guidelens study ls). Another
    generator or guidance model needs another directory. The exit code is 1 if cells or metrics failed, and
    130 if the run was interrupted.
    """
    from guidelens.studies.run import find_study, study_plugins

    manager = get_manager(ctx)
    found = find_study(study_name, manager, include)
    models = study_plugins(found, manager)
    found = found.with_models(
        **{
            kind: None if spec is None else models.resolve(kind, spec, Path.cwd()).spec
            for kind, spec in (("generator", generator), ("guidance", guidance))
        }
    )
    directory = out if out is not None else RUNS / found.name
    executor = execution.maker(found, manager)
    if dry_run:
        from guidelens.claims.evaluate import undecidable
        from guidelens.studies.forecast import forecast
        from guidelens.studies.run import study_plugins

        try:
            told = forecast(
                found,
                manager,
                out=directory,
                device=execution.planning_device,
                batch_size=execution.batch_size,
                retry_failed=execution.retry_failed,
            )
        except UsageError:
            raise
        except GuidelensError as missing:  # models or prompts that are not on this machine
            _print_outlook(found, missing)
            return
        _print_forecast(told, one_process=execution.executor != "local")
        for question, reason in undecidable(told.planned, study_plugins(found, manager).claims()).items():
            console.echo_line("warning", f"{question}: {reason}")
        return
    words = ["guidelens", "study", "run", study_name, *(["--out", str(out)] if out is not None else [])]
    words += [word for file in include for word in ("--include", str(file))]
    words += [word for kind, spec in found.overrides.items() for word in (f"--{kind}", spec)]
    _run(ctx, found, manager, directory, execution, executor, shlex.join(words))


@study.command("resume")
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@_execution_options
@click.pass_context
def resume_command(ctx: click.Context, directory: Path, execution: _ExecutionOptions) -> None:
    """Resume the study in DIR with the settings and plugins of its last run."""
    from guidelens.runs.store import read_config
    from guidelens.studies.file import recorded_study

    found = recorded_study(directory)
    manager = get_manager(ctx).including((read_config(directory) or {}).get("plugins", []))
    _run(ctx, found, manager, directory, execution, execution.maker(found, manager))


def _run(
    ctx: click.Context,
    found: Study,
    manager: PluginManager,
    directory: Path,
    execution: _ExecutionOptions,
    executor: Callable[[ComponentCache], Executor],
    command: str = "",
) -> None:
    from guidelens.studies.run import run_study

    from .interrupts import INTERRUPTED, PATIENCE, gentle_interrupts
    from .progress import comparison_progress

    loggers = read_logs(execution.logs, directory)
    try:
        with gentle_interrupts(PATIENCE) as should_stop, comparison_progress() as report:
            done = run_study(
                found,
                out=directory,
                plugins=manager,
                device=execution.planning_device,
                batch_size=execution.batch_size,
                retry_failed=execution.retry_failed,
                executor=executor,
                command=command,
                on_progress=report,
                on_note=lambda note: console.echo_line("warning", str(note)),
                should_stop=should_stop,
                loggers=loggers,
            )
    except KeyboardInterrupt:
        _print_stopped(directory)
        ctx.exit(INTERRUPTED)
    _print_run(done)
    if done.stopped:
        _print_stopped(directory)
        ctx.exit(INTERRUPTED)
    print_logs(loggers)
    if done.reused + done.computed:
        path, _ = write_report(directory, manager)
        console.out().print(f"report: {path}", markup=False, soft_wrap=True)
    if not done.complete:
        ctx.exit(1)


def _print_run(done: StudyRun) -> None:
    screen = console.out()
    there = done.reused + done.computed
    new = f"{done.computed} drawn" + (f", {done.reused} were there" if done.reused else "")
    screen.print(f"study {done.study.name}: {there} of {plural(done.total, 'cell')} ({new})", markup=False)
    for reason, count in done.reasons:
        console.echo_line("error", f"{count} of {plural(done.total, 'cell')}: {reason}")
    if done.failed or done.unscored:
        again = f"guidelens study resume {shlex.quote(str(done.directory))} --retry-failed"
        console.echo_line(
            "error",
            f"{plural(done.failed, 'cell')} failed, {done.unscored} lack scores; {again} tries them again",
        )
    screen.print(f"results: {done.directory}", markup=False, soft_wrap=True)


def _print_stopped(directory: Path) -> None:
    console.echo_line(
        "interrupted", f"finished pictures are in {directory}; run the same command again to resume"
    )


def _print_outlook(found: Study, missing: GuidelensError) -> None:
    """Print what is known from the study file alone, and the reason why the dry run cannot measure."""
    from guidelens.studies.outlook import outlook

    from .progress import duration

    screen = console.out()
    sized = outlook(found)
    width = max(map(len, [*sized.grids, "in all"]))
    for name, cells in sized.grids.items():
        shown = "any number of" if cells is None else f"at most {cells:>6}"
        screen.print(f"{name:<{width}}  {shown} cells", markup=False)
    total = sum(cells or 0 for cells in sized.grids.values())
    screen.print(
        f"{'in all':<{width}}  at most {total:>6} cells, {plural(sized.steps, 'step')} of a picture",
        markup=False,
    )
    if sized.seconds is not None:
        screen.print(
            f"time: about {duration(sized.seconds)} on one GPU, at the {found.step_seconds:g} s a step that the study "
            "assumes (not measured; metrics come on top)",
            markup=False,
        )
    console.echo_line("note", f"to measure it on this machine: {missing}")


def _print_forecast(found: Forecast, *, one_process: bool) -> None:
    from .progress import duration

    screen = console.out()
    width = max(map(len, [*found.grids, "in all"]))
    for name, cells in found.grids.items():
        screen.print(f"{name:<{width}}  {cells:>7} cells", markup=False)
    shared = sum(found.grids.values()) - found.total
    note = f" ({shared} of these are shared between grids)" if shared else ""
    screen.print(f"{'in all':<{width}}  {found.total:>7} cells{note}", markup=False)
    if found.missing < found.total:
        failed = f", {found.failed} failed before" if found.failed else ""
        screen.print(f"{found.missing} of these are missing{failed}", markup=False)
    screen.print(
        f"time: {duration(found.seconds)} for {plural(found.steps, 'step')} of a picture, on {found.device}, "
        f"{plural(found.batch_size, 'picture')} at once{', in one process' if one_process else ''} "
        "(measured on a few steps)",
        markup=False,
    )
    screen.print(f"memory: {found.memory / 2**20:.0f} MiB at their peak", markup=False)


@study.command("status")
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(directory: Path, as_json: bool) -> None:
    """Print the progress of the study in DIR by grid."""
    from guidelens.studies.status import status

    found = status(directory)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    screen = console.out()
    state = " (running)" if found.running else ""
    screen.print(f"study {found.name}{state}", markup=False)
    width = max(map(len, [*found.grids, "in all"]))
    for name, counts in {**found.grids, "in all": found.total}.items():
        parts = [f"{counts.done:>7} of {plural(counts.all, 'cell')}"]
        parts += [f"{counts.failed} failed"] if counts.failed else []
        parts += [f"{counts.unscored} lack scores"] if counts.unscored else []
        screen.print(f"{name:<{width}}  {', '.join(parts)}", markup=False)
    for reason, count in found.reasons.items():
        screen.print(f"{plural(count, 'cell')}: {reason}", markup=False, soft_wrap=True)


@study.command("export")
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(("csv", "parquet")),
    default="csv",
    show_default=True,
    help="File format.",
)
@click.option(
    "--out",
    type=UserPath(path_type=Path),
    metavar="FILE",
    help="File to write; - is standard output.  [default: DIR/cells.csv or DIR/cells.parquet]",
)
def export_command(directory: Path, form: str, out: Path | None) -> None:
    """Export the results of the study or comparison in DIR as a table.

    The table has a row per grid and cell, and a column per value. docs/studies.md describes the columns.
    """
    from guidelens.files import write_file
    from guidelens.studies.results import load_study

    loaded = load_study(directory)
    loaded.check_scores()
    if out is not None and str(out) == "-":
        sys.stdout.buffer.write(loaded.cells.encode(form))
        return
    path = out if out is not None else directory / f"cells.{form}"
    write_file(path, loaded.cells.encode(form))
    console.out().print(f"{plural(len(loaded.cells), 'row')}: {path}", markup=False, soft_wrap=True)


@study.command("ls")
@click.argument("folder", metavar="[FOLDER]", type=UserPath(path_type=Path), default=RUNS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def ls_command(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """List the studies of plugins, and the results in FOLDER.

    FOLDER is runs/ by default.
    """
    from guidelens.studies.status import statuses

    offered = get_manager(ctx).studies()
    there = statuses(folder)
    if as_json:
        listed = [
            {"name": s.name, "summary": s.summary, "plugin": s.plugin, "path": str(s.path)} for s in offered
        ]
        click.echo(json.dumps({"offered": listed, "results": [s.as_dict() for s in there]}, indent=2))
        return
    width = max((len(s.name) for s in offered), default=0)
    for info in offered:
        console.print_out(f"{info.name:<{width}}  {info.summary}  [{info.plugin}]")
    for found in there:
        state = ", running" if found.running else ""
        console.print_out(
            f"{found.directory}  {found.name}: {found.total.done} of {plural(found.total.all, 'cell')}{state}"
        )
    if not offered and not there:
        console.print_out(f"no plugin offers a study, and {folder} holds none")


study.add_command(report_command)
study.add_command(show_command)
study.add_command(new_command)
study.add_command(matrix_command)
study.add_command(distribution_command)
