"""What the commands of a world share: options, checks before anything slow begins, progress, scores as JSON."""

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
"""At most one line of progress in this time where stderr is no terminal."""

THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads; by default PyTorch's choice. Results differ in rounding.",
)
JSON_OUT = click.option(
    "--out", type=UserPath(path_type=Path, dir_okay=False), help="Also write the scores to this JSON file."
)


def check_steps(name: str, total: int, batch_size: int) -> None:
    if total < batch_size:
        raise UsageError(f"--{name} {total} is less than one batch of {batch_size}")


def prepare_folder(folder: Path, threads: int | None) -> Path:
    """Make the folder of a training, or say why that fails, before anything slow begins."""
    from guidelens.files import check_writable

    check_writable(folder / "last.pt")
    set_threads(threads)
    return folder


def set_threads(threads: int | None) -> None:
    """Let PyTorch use so many threads; None leaves its choice."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def check_init(path: Path, key: str, command: str) -> None:
    """Tell what is wrong with a file that is no checkpoint of a training by ``command``."""
    import torch

    try:
        found = key in torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"--init {path}: {error.strerror or error}") from error
    except Exception as error:  # the unpickler raises whatever a damaged file makes it trip over
        raise GuidelensError(
            f"--init {path} cannot be read as a checkpoint: {type(error).__name__}"
        ) from error
    if not found:
        raise UsageError(f"--init {path} is no last.pt of {command}")


def check_json(out: Path | None) -> None:
    """Find out before the computation that there is no place for its scores.

    :raises GuidelensError: ``out`` cannot be written.
    """
    if out is not None:
        from guidelens.files import check_writable

        check_writable(out)


def report(scores: Mapping[str, Any], out: Path | None) -> None:
    """Print scores as JSON, and write the same to ``out``."""
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
    """Say on Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        saved = (folder / "last.pt").exists()
        then = (
            "goes on from its last checkpoint"
            if saved
            else "starts anew, since no checkpoint was written yet"
        )
        console.echo_line("note", f"the same command with --out {folder} {then}")
        raise


@contextmanager
def progress_bar(noun: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show progress while the block runs: a bar on a terminal, a line now and then elsewhere, on stderr.

    Yields a function of (done, total, what else to say).
    """
    screen = console.err()
    if not screen.is_terminal:
        yield _PlainLines(noun)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    detail = TextColumn("{task.fields[detail]}", markup=False)
    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), detail)
    with Progress(*columns, console=screen, speed_estimate_period=120) as bars:
        task = bars.add_task("", total=None, detail="")
        yield lambda done, total, text: bars.update(task, completed=done, total=total, detail=text)


class _PlainLines:
    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._last = 0.0

    def __call__(self, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and done < total:
            return
        self._last = now
        say(f"{done} of {total} {self._noun}" + (f"; {detail}" if detail else ""))
