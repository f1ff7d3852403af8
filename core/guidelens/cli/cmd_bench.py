"""``guidelens bench``: time a step, its parts and the overhead of the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import console
from .options import (
    COMPUTING,
    DTYPES,
    SectionedCommand,
    batch_sizes_option,
    device_option,
    generator_option,
    get_manager,
    guidance_option,
    plugin_option,
    repeats_option,
)
from .paths import UserPath
from .sections import option

if TYPE_CHECKING:
    from guidelens.bench.report import BatchReport, BenchReport
    from guidelens.bench.timing import Spread
    from guidelens.plugins import PluginManager

STAND_IN = "none"
"""The value of ``--guidance`` that measures the generator alone."""

_WORK = "What to measure"

_EPILOG = """\b
Examples:
  guidelens bench
  guidelens bench --batch-size 1 --batch-size 8 --dtype bfloat16 --json bench.json
  guidelens bench --guidance none --against reference
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@generator_option()
@guidance_option(" 'none': a stand-in that costs almost nothing.")
@plugin_option()
@option(
    "--objective",
    "objectives",
    metavar="NAME",
    multiple=True,
    section=_WORK,
    help="Objective that guides. Repeatable: all are active at once.  [default: all of the guidance model]",
)
@batch_sizes_option(1, section=_WORK)
@option(
    "--against",
    metavar="NAME",
    multiple=True,
    section=_WORK,
    help="Also time another implementation of the generator. 'reference' evaluates the network twice per "
    "step, as published code does; a generator may offer others. Repeatable.  [default: none]",
)
@repeats_option(_WORK)
@option(
    "--warmup",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    section=_WORK,
    help="Unmeasured rounds before the measured ones.",
)
@device_option()
@option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    section=COMPUTING,
    help="Precision of the networks.",
)
@option(
    "--threads",
    type=click.IntRange(min=1),
    section=COMPUTING,
    help="CPU threads of PyTorch.  [default: PyTorch's choice]",
)
@click.option(
    "--json",
    "json_file",
    type=UserPath(path_type=Path, dir_okay=False),
    help="Also write all measurements to this file; an existing file is replaced.  [default: not written]",
)
@click.pass_context
def bench(
    ctx: click.Context, generator: str | None, guidance: str | None, json_file: Path | None, **wanted: Any
) -> None:
    """Benchmark a sampling step and its parts.

    The table shows times and peak memory, and how much the engine adds to the networks. Each round
    times every part once; the table gives the median, lowest and highest time. Do not use the machine
    for anything else meanwhile.
    """
    from guidelens.files import check_writable, write_file

    if json_file is not None:
        check_writable(json_file)
    names, report = _measure(get_manager(ctx), generator, guidance, wanted)
    if json_file is not None:
        content = {**report.to_dict(), "names": names}
        write_file(json_file, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    _print(report, names)
    if json_file is not None:
        click.echo(f"measurements: {json_file}")


def _measure(
    manager: PluginManager, generator: str | None, guidance: str | None, wanted: dict[str, Any]
) -> tuple[dict[str, str], BenchReport]:
    """Build the networks and measure them. Return the names of the networks and the report."""
    network = manager.resolve("generator", generator)
    model = None if guidance == STAND_IN else manager.resolve("guidance", guidance, beside=network)
    from guidelens.bench.run import bench as run

    names = {"generator": network.spec, "guidance": STAND_IN if model is None else model.spec}
    objectives = wanted.pop("objectives") or None
    with _progress() as say:
        report = run(
            network.build(),
            None if model is None else model.build(),
            objectives=objectives,
            on_progress=say,
            **wanted,
        )
    return names, report


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show progress on stderr: in place on a terminal, otherwise as lines."""
    stderr = console.err()
    if not stderr.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    with stderr.status("building the networks") as status:
        yield status.update


def _print(report: BenchReport, names: dict[str, str]) -> None:
    machine, rates, settings = report.machine, report.rates, report.settings
    where = f"{machine['device']}, {machine.get('gpu', machine['processor'])}, {machine['threads']} threads"
    shape = "x".join(map(str, report.generator["image_shape"]))
    click.echo(f"generator: {names['generator']} ({shape}{_parameters(report.generator['parameters'])})")
    objectives = ", ".join(report.guidance["objectives"])
    click.echo(f"guidance:  {names['guidance']} ({objectives}{_parameters(report.guidance['parameters'])})")
    click.echo(f"machine:   {where}; PyTorch {machine['torch']}, {settings['dtype']}")
    click.echo(
        f"rates:     matmul {_rate(rates['matmul'])}, convolution {_rate(rates['convolution'])}, channels"
        f" last {_rate(rates['convolution_channels_last'])}"
    )
    for batch in report.batches:
        _print_batch(batch, report.flop)


def _print_batch(batch: BatchReport, flop: int | None) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=f"batch {batch.batch}: one step", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True, min_width=26)
    for heading in ("median", "lowest", "highest", "per picture", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for label, spread, note in _rows(batch, flop):
        times = (spread.median, spread.low, spread.high, spread.median / batch.batch)
        table.add_row(label, *map(_seconds, times), note)
    console.out().print(table)
    peaks = {**batch.memory, **{name: other.memory for name, other in batch.against.items()}}
    steps = ", ".join(f"{name} {_bytes(peak.peak)}" for name, peak in peaks.items())
    kind, before = batch.memory["guided"].kind, _bytes(batch.memory["unguided"].before)
    click.echo(f"peak memory ({kind}): {steps}; {before} before")
    for name, other in batch.against.items():
        click.echo(f"{name}: {other.summary}; outputs agree to {other.difference:.1e} of the largest value")


def _rows(batch: BatchReport, flop: int | None) -> Iterator[tuple[str, Spread, str]]:
    """Yield the label, times and remark of each row."""
    work = None if flop is None else flop * batch.batch
    reach: Callable[[Spread], str] = lambda s: "" if work is None else _rate(work / s.median)  # noqa: E731
    yield "guided step", batch.guided, f"{batch.overhead:+.1%} over networks"
    yield "  networks alone", batch.bare, ""
    for name, part in batch.parts.items():
        yield f"    {name}", part, reach(part) if name.startswith("generator") else ""
    yield "  engine alone", batch.hollow, f"{batch.hollow_share:.1%} of networks"
    yield "unguided step", batch.unguided, f"{batch.unguided_overhead:+.1%} over network"
    yield "  generator alone", batch.forward, reach(batch.forward)
    for name, other in batch.against.items():
        yield f"{name}: guided step", other.step, f"{other.speedup:.2f} times as long"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _rate(rate: float) -> str:
    return f"{rate / 1e12:.2f} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.0f} GFLOP/s"


def _parameters(count: int | None) -> str:
    if count is None:
        return ""
    return f", {count / 1e6:.1f} M parameters" if count >= 1e6 else f", {count:,} parameters"
