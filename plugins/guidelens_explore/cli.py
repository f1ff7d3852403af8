"""``guidelens explore``: serve the page, and open it."""

from __future__ import annotations

import threading
import webbrowser

import click
from guidelens.cli import console
from guidelens.errors import GuidelensError
from guidelens.plugins import PluginManager

_EPILOG = """\b
Examples:
  guidelens explore
  guidelens explore --guidance shapes:variant=clean --port 9000
  guidelens explore -p ./mirror.py --no-open
  guidelens explore --generator guided-diffusion:checkpoint=a.pt --guidance blip --device cuda
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--generator",
    metavar="SPEC",
    help="Diffusion model chosen at first; the page can change it.  [default: the default of the plugins]",
)
@click.option(
    "--guidance",
    metavar="SPEC",
    help="Vision-language model chosen at first; the page can change it.  [default: the default of the plugins]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8001,
    show_default=True,
    help="Port to listen on; 0: any free one.",
)
@click.option(
    "--open/--no-open", "opens", default=True, show_default=True, help="Open the page in a browser."
)
@click.pass_context
def explore(
    ctx: click.Context,
    generator: str | None,
    guidance: str | None,
    device: str,
    host: str,
    port: int,
    opens: bool,
) -> None:
    """Draw and look, live, in a browser.

    The page draws a prompt under several schedules side by side, step by step, next to a picture without
    guidance. You can draw schedules as curves. It runs on this machine until Ctrl-C and sends no data
    elsewhere. Only the printed link opens it. See docs/explore.md.
    """
    try:
        from guidelens.serving import is_loopback

        from .server import serve
    except ModuleNotFoundError as error:
        raise GuidelensError(f'the explorer needs {error.name}: pip install "guidelens[explore]"') from None
    manager = ctx.find_object(PluginManager) or PluginManager.load()
    if not is_loopback(host):
        console.echo_line(
            "warning", "plain HTTP can be read on the way, and anybody with the link can use this machine"
        )

    def show(address: str) -> None:
        console.print_out(f"open: {address}\nCtrl-C stops")
        if opens:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    serve(
        manager, host=host, port=port, on_address=show, generator=generator, guidance=guidance, device=device
    )
