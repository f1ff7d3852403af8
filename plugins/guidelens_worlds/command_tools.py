"""Helpers for the commands of a world: options, checks of files before slow work, progress, scores as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from guidelens.cli import console
from guidelens.cli.paths import UserPath
from guidelens.errors import GuidelensError, UsageError

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between lines of progress if stderr is not a terminal."""

FILE = UserPath(path_type=Path, dir_okay=False)
FOLDER = UserPath(path_type=Path, file_okay=False)
POSITIVE = click.IntRange(min=1)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads. Results differ in rounding.  [default: PyTorch's choice]",
)
JSON_OUT = click.option("--out", type=FILE, help="Also write the scores to this JSON file.")


def options(*several: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator for several options, in the order of the help."""

    def add(command: Any) -> Any:
        for option in reversed(several):
            command = option(command)
        return command

    return add


def peak_rate(default: float) -> Callable[[Any], Any]:
    """Return the option for the highest learning rate."""
    positive = click.FloatRange(0, min_open=True)
    return click.option(
        "--peak-rate", type=positive, default=default, show_default=True, help="Highest learning rate."
    )


def weights_option(option: str, parameter: str, model: str) -> Callable[[Any], Any]:
    """Return an option for the weights of a model."""
    text = f"Weights of the {model}.  [default: the included ones]"
    return click.option(option, parameter, type=FILE, help=text)


def check_steps(name: str, total: int, batch_size: int) -> None:
    if total < batch_size:
        raise UsageError(f"--{name} {total} is less than one batch of {batch_size}")


def prepare_folder(folder: Path, threads: int | None) -> Path:
    """Make the folder of a training. Called before slow work, so that an error comes early."""
    from guidelens.files import check_writable

    check_writable(folder / "last.pt")
    set_threads(threads)
    return folder


def set_threads(threads: int | None) -> None:
    """Set PyTorch's number of threads. None keeps its choice."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def check_init(path: Path, key: str, command: str) -> None:
    """Check that a file is a checkpoint of a training by ``command``."""
    import torch

    try:
        found = key in torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"--init {path}: {error.strerror or error}") from error
    except Exception as error:  # the unpickler can raise anything for a damaged file
        raise GuidelensError(
            f"--init {path} cannot be read as a checkpoint: {type(error).__name__}"
        ) from error
    if not found:
        raise UsageError(f"--init {path} is not a last.pt of {command}")


def check_json(out: Path | None) -> None:
    """Check before the computation that its scores can be written.

    :raises GuidelensError: ``out`` cannot be written.
    """
    if out is not None:
        from guidelens.files import check_writable

        check_writable(out)


def report(scores: Mapping[str, Any], out: Path | None) -> None:
    """Print scores as JSON, and write them to ``out``."""
    text = json.dumps(scores, indent=2)
    click.echo(text)
    if out is not None:
        from guidelens.files import write_file

        write_file(out, f"{text}\n".encode())


def say(message: str) -> None:
    """Write a line of progress to stderr."""
    console.err().print(message, markup=False)


def losses_text(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """On Ctrl-C, print how to resume the training."""
    try:
        yield
    except KeyboardInterrupt:
        saved = (folder / "last.pt").exists()
        then = (
            "resumes from the last checkpoint"
            if saved
            else "starts from the beginning, because there is no checkpoint yet"
        )
        console.echo_line("note", f"the same command with --out {folder} {then}")
        raise


@contextmanager
def progress_bar(noun: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show progress on stderr while the block runs: a bar on a terminal, otherwise a line from time to time.

    Yields a function of (done, total, further text).
    """
    screen = console.err()
    if not screen.is_terminal:
        yield _ProgressLines(noun)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    detail = TextColumn("{task.fields[detail]}", markup=False)
    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), detail)
    with Progress(*columns, console=screen, speed_estimate_period=120) as bars:
        task = bars.add_task("", total=None, detail="")
        yield lambda done, total, text: bars.update(task, completed=done, total=total, detail=text)


class _ProgressLines:
    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._last = 0.0

    def __call__(self, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and done < total:
            return
        self._last = now
        say(f"{done} of {total} {self._noun}" + (f"; {detail}" if detail else ""))
