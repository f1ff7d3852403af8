"""``guidelens redraw``: compute a cell of a run again, bit for bit."""

from __future__ import annotations

from pathlib import Path

import click

from .options import get_manager
from .paths import UserPath


@click.command()
@click.argument("directory", metavar="DIR", type=UserPath(path_type=Path))
@click.argument("key")
@click.option(
    "--out",
    type=UserPath(path_type=Path, dir_okay=False),
    help="Also write the picture to this file (.png).  [default: not written]",
)
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: the kind that drew the cell]")
@click.pass_context
def redraw(ctx: click.Context, directory: Path, key: str, out: Path | None, device: str | None) -> None:
    """Draw a cell of a run again, bit for bit.

    KEY is a cell of the comparison or study in DIR. Its new picture is compared with the stored one. The
    whole batch of the cell is computed, because networks round differently in another batch. On the same
    machine, with the same versions, the picture is the same bit for bit. The exit code is 1 if it
    differs.
    """
    from guidelens.errors import UsageError
    from guidelens.files import check_writable, write_file
    from guidelens.studies.redraw import redraw as draw_again

    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: the file name must end in .png")
        check_writable(out)
    again = draw_again(directory, key, plugins=get_manager(ctx), device=device)
    if out is not None:
        write_file(out, again.png)
    click.echo(str(again))
    if out is not None:
        click.echo(f"picture: {out}")
    if not again.same:
        ctx.exit(1)
