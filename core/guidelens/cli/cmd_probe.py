"""``guidelens probe``: measure objectives on pictures with a right and a wrong caption, without sampling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .completion import complete_component
from .options import COMPUTING, SectionedCommand, device_option, get_manager, guidance_option, plugin_option
from .paths import UserPath
from .sections import option

if TYPE_CHECKING:
    from guidelens.contracts import Prompt
    from guidelens.plugins import Component

WHAT = "What to probe"

_EPILOG = """\b
Examples:
  guidelens probe shapes-pairs --out probes/shapes
  guidelens probe sugarcrepe:category=swap_att,limit=200 --images val2017 --out probes/swap
  guidelens probe file:path=mine.csv --images runs/a/samples --out probes/mine
"""


@click.command(cls=SectionedCommand, epilog=_EPILOG)
@click.argument("pairs", metavar="PAIRS", shell_complete=complete_component("prompts"))
@option(
    "--images",
    type=UserPath(path_type=Path, file_okay=False),
    metavar="DIR",
    section=WHAT,
    help="Folder with the pictures that PAIRS names.  [default: the prompt set's own pictures]",
)
@option(
    "--limit",
    type=click.IntRange(min=1),
    section=WHAT,
    help="Maximum number of pairs, the first ones.  [default: all]",
)
@option(
    "--out",
    type=UserPath(path_type=Path, file_okay=False),
    required=True,
    section=WHAT,
    help="Folder for index.html and probe.json; existing files are replaced.",
)
@guidance_option()
@plugin_option()
@device_option()
@option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    section=COMPUTING,
    help="Pictures computed at once.",
)
@click.pass_context
def probe(
    ctx: click.Context,
    pairs: str,
    images: Path | None,
    limit: int | None,
    out: Path,
    guidance: str | None,
    device: str,
    batch_size: int,
) -> None:
    """Measure objectives on pictures with a right and a wrong caption.

    PAIRS is a prompt set with wrong captions, such as shapes-pairs or sugarcrepe,
    or file:path=FILE with the columns prompt, foil and picture. No picture is
    drawn. For every objective the command reports how often it prefers the right
    caption, and where its gradients point. Several models (--guidance, repeated)
    are reported in one table and page. See docs/probe.md.
    """
    import torch

    from guidelens.analysis.pair_pictures import picture_source
    from guidelens.analysis.probe import probe as measure
    from guidelens.files import write_file
    from guidelens.networks import place, resolve_device
    from guidelens.report.probe import probe_table, render_probe

    manager = get_manager(ctx)
    prompts: Sequence[Prompt] = manager.build("prompts", pairs)
    picture_of = picture_source(prompts, images)
    where = resolve_device(device)
    component = manager.resolve("guidance", guidance)
    models = _models(component)
    model = place(manager.build("guidance", guidance), where, torch.float32)
    found = measure(
        model, list(prompts)[:limit], picture_of, device=where, batch_size=batch_size, show=_Counter()
    )
    out.mkdir(parents=True, exist_ok=True)
    described = {"guidance": component.spec, "models": models, "source": pairs, **found.as_dict()}
    write_file(out / "probe.json", (json.dumps(described, indent=1) + "\n").encode())
    page = render_probe(found, models, pairs, picture_of, _command(pairs, images, limit, component, out))
    write_file(out / "index.html", page.encode())
    _print(probe_table(found))
    click.echo(f"page: {out / 'index.html'}")


def _models(component: Component) -> dict[str, str]:
    """Return the name of each guidance model in the objectives -> its spelling; "" for one model."""
    if not component.parts:
        return {"": component.spec}
    names = component.info.name.split(",")
    return {name: part.spec for name, part in zip(names, component.parts, strict=True)}


def _command(pairs: str, images: Path | None, limit: int | None, guidance: Component, out: Path) -> str:
    import shlex

    specs = [part.spec for part in guidance.parts or (guidance,)]
    given = [
        ("--images", images),
        ("--limit", limit),
        *(("--guidance", spec) for spec in specs),
        ("--out", out),
    ]
    words = [word for flag, value in given if value is not None for word in (flag, str(value))]
    return shlex.join(["guidelens", "probe", pairs, *words])


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class _Counter:
    """Prints progress to stderr, in at most ten lines. A probe of one batch prints none."""

    def __init__(self) -> None:
        self._tenths = 0

    def __call__(self, done: int, total: int) -> None:
        tenths = 10 * done // total
        if tenths > self._tenths and done < total:
            self._tenths = tenths
            click.echo(f"{done} of {total} pairs", err=True)
