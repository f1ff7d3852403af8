"""``guidelens weights``: list, fetch, verify, remove and convert weights files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guidelens.errors import GuidelensError, UsageError
from guidelens.words import plural

from . import console
from .options import get_manager
from .paths import UserPath
from .sections import CommandGroup

if TYPE_CHECKING:
    from guidelens.weights import Fetched, Status, WeightsFile
    from guidelens.weights.store import ByteProgress

SECONDS_BETWEEN_LINES = 5.0
"""The minimum time between progress lines if stderr is not a terminal."""

_COLOURS = {"present": "green", "changed": "yellow", "unfinished": "yellow", "absent": "bright_black"}


@click.group(cls=CommandGroup)
def weights() -> None:
    """Fetch and verify the files that components need: weights, prompt sets.

    The files are in your cache directory, or in GUIDELENS_CACHE if it is set.
    GUIDELENS_OFFLINE=1 forbids downloads. GUIDELENS_MIRROR is a URL to
    download from instead. See docs/weights.md.
    """


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per file.")
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List weights files with size, state, licence and component."""
    from guidelens.weights import status

    described = [describe(status(file), plugin) for file, plugin in _known(ctx).values()]
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    rows = [
        (
            entry["name"],
            _size_text(entry["size"]),
            _state_text(entry),
            entry["licence"] or "-",
            entry["component"] or f"plugin {entry['plugin']}",
        )
        for entry in described
    ]
    header = ("name", "size", "state", "licence", "component")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(5)]
    console.print_out(click.style("  ".join(map(str.ljust, header, widths)).rstrip(), dim=True))
    for row, entry in zip(rows, described, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[2] = click.style(cells[2], _COLOURS[entry["state"]])
        console.print_out("  ".join(cells).rstrip())


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--mirror",
    metavar="URL",
    help="Download from URL, which replaces scheme://host.  [default: GUIDELENS_MIRROR, else the file's own URL]",
)
@click.option(
    "--from",
    "source",
    type=UserPath(path_type=Path),
    metavar="FILE",
    help="Verify and copy FILE, which you downloaded yourself, instead of downloading.  [default: none]",
)
@click.pass_context
def fetch_command(
    ctx: click.Context, names: tuple[str, ...], mirror: str | None, source: Path | None
) -> None:
    """Download files, verify them and print their paths.

    NAME is a file, or a component whose files begin with that name (sugarcrepe).
    Source and licence are printed before each download. To resume an
    interrupted download, run the same command again.
    """
    from guidelens.weights import fetch, install

    files = [file for name in names for file in _find_all(ctx, name)]
    if source is not None and len(files) != 1:
        raise UsageError(f"--from copies one file, but {len(files)} are named: give the NAME of one file")
    if source is not None and mirror is not None:
        raise UsageError("--from does not download, so --mirror has no effect: give one of them")
    for file in files:
        console.err().print(_announced(file), markup=False, highlight=False)
        with byte_progress(file.filename) as report:
            done = (
                fetch(file, mirror=mirror, report=report) if source is None else install(file, source, report)
            )
        console.err().print(_told(file, done), markup=False)
        click.echo(done.path)


@weights.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_context
def verify_command(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Compare files with their published or recorded hashes.

    Each file is read in full. Without NAME, all present files are verified. The exit code is 1 if a
    file differs.
    """
    from guidelens.weights import status, verify
    from guidelens.weights.store import WeightsCorrupt

    known = _known(ctx)
    here = [file for file, _ in known.values() if status(file).state in ("present", "changed")]
    wrong: list[str] = []
    for file in [_find(ctx, name) for name in names] if names else here:
        try:
            with byte_progress(file.filename) as report:
                found = verify(file, report)
        except WeightsCorrupt as error:
            wrong.append(file.name)
            console.print_out(f"{file.name}: {click.style('wrong', 'red')}: {error}")
        else:
            against = "as published" if found.verified else f"unchanged; {_unpublished(found.sha256)}"
            console.print_out(f"{file.name}: {click.style('right', 'green')}, {against}")
    if not names and not here:
        console.print_out("no weights files are present")
    if wrong:
        raise GuidelensError(f"hash mismatch in {plural(len(wrong), 'file')}: {', '.join(wrong)}")


@weights.command("path")
@click.argument("name", required=False)
@click.pass_context
def path_command(ctx: click.Context, name: str | None) -> None:
    """Print the path of a file, or the directory of all files.

    If the file is not present, an error names the path where it belongs and the exit code is 1.
    """
    from guidelens.weights import locate, target, weights_home

    if name is None:
        click.echo(weights_home())
        return
    file = _find(ctx, name)
    path = locate(file)
    if path is None:
        raise GuidelensError(
            f"{name} is not present: run `guidelens weights fetch {name}`; it belongs at {target(file)}"
        )
    click.echo(path)


@weights.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_context
def rm_command(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove files and their unfinished downloads."""
    from guidelens.weights import remove
    from guidelens.weights.store import format_size

    for file in [_find(ctx, name) for name in names]:
        freed = remove(file)
        console.print_out(f"{file.name}: {f'{format_size(freed)} freed' if freed else 'was not present'}")


@weights.command("convert")
@click.argument("source", type=UserPath(path_type=Path), metavar="IN.pt")
@click.argument("target", type=UserPath(path_type=Path), metavar="OUT.safetensors")
@click.option(
    "--key",
    metavar="NAME",
    help="The entry of IN that holds the tensors.  [default: the only entry with tensors]",
)
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with the name, dtype and shape of every tensor."
)
def convert_command(source: Path, target: Path, key: str | None, force: bool, as_json: bool) -> None:
    """Convert a PyTorch checkpoint to safetensors.

    Code in the checkpoint is not executed. See docs/weights.md.
    """
    from guidelens.weights import convert

    done = convert(source, target, key=key, force=force)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=2))
        return
    for dtype, names in sorted(done.by_dtype().items()):
        console.print_out(
            f"{len(names)} tensors of {dtype}: {', '.join(names[:3])}{', ...' if names[3:] else ''}"
        )
    for name, kept in list(done.shared.items())[:3]:
        console.print_out(f"shared tensor, stored once: {name} is {kept}")
    if len(done.shared) > 3:
        console.print_out(f"... and {len(done.shared) - 3} more shared tensors")
    console.print_out(f"{target}: {done.size:,} bytes, sha256 {done.sha256}")


def describe(found: Status, plugin: str) -> dict[str, Any]:
    """Return a file as JSON values, as ``weights list --json`` prints it."""
    file = found.file
    return {
        "name": file.name,
        "filename": file.filename,
        "state": found.state,
        "path": str(found.path),
        "size": file.size if file.size is not None else found.size if found.state == "present" else None,
        "bytes_here": found.size,
        "sha256": file.sha256,
        "recorded_sha256": found.sha256,
        "url": file.address,
        "licence": file.licence or None,
        "citation": file.citation or None,
        "component": file.component or None,
        "plugin": plugin,
    }


def _known(ctx: click.Context) -> dict[str, tuple[WeightsFile, str]]:
    """Return every file that plugins register, with the name of the plugin."""
    return {file.name: (file, plugin.name) for plugin, file in get_manager(ctx).weights()}


def _find(ctx: click.Context, name: str) -> WeightsFile:
    from guidelens.plugins.spelling import suggestion

    known = _known(ctx)
    if name not in known:
        raise UsageError(
            f"unknown weights {name!r}{suggestion(name, list(known))}; run `guidelens weights list` to see all"
        )
    return known[name][0]


def _find_all(ctx: click.Context, name: str) -> list[WeightsFile]:
    """Return the file called ``name``, or the files of one component whose names begin with ``name``."""
    known = _known(ctx)
    if name in known:
        return [known[name][0]]
    parts = [file for file, _ in known.values() if file.name.startswith(f"{name}-")]
    if len({file.component for file in parts}) == 1 and parts[0].component.endswith(f" {name}"):
        return parts
    return [_find(ctx, name)]


def _announced(file: WeightsFile) -> str:
    """Describe where a file comes from and under which licence, before it is fetched."""
    cite = f"; cite {file.citation}" if file.citation else ""
    return f"{file.name}: from {file.address}; licence: {file.licence or 'not stated'}{cite}"


def _state_text(entry: Mapping[str, Any]) -> str:
    started = entry["state"] == "unfinished"
    return f"unfinished, {_size_text(entry['bytes_here'])}" if started else str(entry["state"])


def _size_text(size: int | None) -> str:
    from guidelens.weights.store import format_size

    return "?" if size is None else format_size(size)


def _told(file: WeightsFile, done: Fetched) -> str:
    """Describe how a file was obtained and whether it was verified."""
    verb = {"present": "is already present", "downloaded": "was downloaded", "copied": "was copied"}[done.how]
    trust = "verified" if done.verified else _unpublished(done.sha256)
    return f"{file.name} {verb}, {_size_text(done.size)}, {trust}"


def _unpublished(sha256: str | None) -> str:
    return f"not verified against a published hash; the hash recorded at first download is {sha256}"


@contextmanager
def byte_progress(title: str) -> Iterator[ByteProgress]:
    """Show the progress of a file: a bar on a terminal, otherwise a line every few seconds."""
    screen = console.err()
    if not screen.is_terminal:
        yield _PlainLines(title)
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=screen, transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


class _PlainLines:
    def __init__(self, title: str) -> None:
        self._title = title
        self._last = time.monotonic()  # so that a quick operation prints no line

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        share = f" of {_size_text(total)} ({100 * done // total} %)" if total else ""
        console.err().print(f"{self._title}: {_size_text(done)}{share}", markup=False)
