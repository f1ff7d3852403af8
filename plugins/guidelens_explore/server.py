"""The explorer's pages and events, served with FastAPI. Access needs the random link.

Drawings are sent as server-sent events in the response to a POST. Closing the connection cancels the drawing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from guidelens.colours import style_sheet
from guidelens.errors import GuidelensError
from guidelens.plugins import PluginManager
from guidelens.runs.live import LiveModels
from guidelens.serving import Gate, is_loopback, serve_app, shown_host
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from .catalogue import catalogue, schedule_weights
from .drawing import draw
from .jobs import Event, JobQueue, Work
from .tries import Try

MAX_BODY = 65_536
"""Largest size of a request body, in bytes."""

_TYPES = {"css": "text/css", "js": "text/javascript"}

_NEEDS_LINK = "Please open the link that guidelens explore printed: it holds the key to this page."


class Refused(Exception):
    """A refused request. The response is a status and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _EventStream(StreamingResponse):
    """Server-sent events. The generator of events is closed when the connection closes, even between events."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        super().__init__(_lines(events), media_type="text/event-stream")
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        # From version 2.4 on, Starlette notices a lost connection only when it sends; a waiting job sends nothing.
        scope = {**scope, "asgi": {**scope.get("asgi", {}), "spec_version": "2.3"}}
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _lines(events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    async for name, data in events:
        yield f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def create_app(
    plugins: PluginManager,
    *,
    token: str,
    generator: str | None = None,
    guidance: str | None = None,
    device: str = "auto",
    local: bool = True,
) -> Gate:
    """Return the application.

    :param token: the token in the link. ``/?token=...`` sets a cookie in the browser.
    :param generator, guidance: the models that are selected at first; None: the defaults.
    :param device: as :class:`~guidelens.engine.Engine` takes it.
    :param local: the Host header of requests must name this machine.
    :raises UsageError: for an unknown model.
    """
    options = catalogue(plugins, generator=generator, guidance=guidance)
    site = _Site(plugins, token, options, LiveModels(plugins, device=device))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(Refused, site.refused)
    app.add_exception_handler(GuidelensError, site.failed)
    app.add_exception_handler(ClientDisconnect, site.gone)
    app.get("/")(site.home)
    app.get("/static/{name}")(site.static)
    app.get("/api/options")(site.options)
    app.post("/api/draw")(site.draw)
    app.post("/api/schedule")(site.schedule)
    app.post("/api/share")(site.share)
    app.get("/favicon.ico")(lambda: Response(status_code=204))
    return Gate(app, local=local, refusal=_message_page)


class _Site:
    """The handlers of pages and requests."""

    def __init__(
        self, plugins: PluginManager, token: str, options: dict[str, Any], models: LiveModels
    ) -> None:
        self.plugins, self.token, self.catalogue, self.live = plugins, token, options, models
        first = {kind: options["defaults"][kind] for kind in ("generator", "guidance")}
        self.jobs = JobQueue(prepare=lambda: models.load(**first))
        self.requests = tuple(plugins.requests())
        # All ports of a host share cookies, so each explorer uses its own cookie name.
        self.cookie = f"explore-{hashlib.sha256(token.encode()).hexdigest()[:8]}"
        folder = resources.files("guidelens_explore").joinpath("templates")
        self.files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        self.files["colours.css"] = style_sheet().encode()

    async def refused(self, request: Request, error: Exception) -> Response:
        """Respond with the reason."""
        assert isinstance(error, Refused)
        return JSONResponse({"error": error.message}, error.status)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Respond with the one-line message of an expected failure."""
        assert isinstance(error, GuidelensError)
        return JSONResponse({"error": " ".join(str(error).split())}, 400)

    async def gone(self, request: Request, error: Exception) -> Response:
        """Send an empty response, because the page was closed while it sent its request."""
        return Response(status_code=400)

    async def home(self, request: Request) -> Response:
        """Show the page. If the address has the token, store it in a cookie first."""
        given = request.query_params.get("token", "")
        if given and hmac.compare_digest(given.encode(), self.token.encode()):
            response: Response = RedirectResponse("/", 303)
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return response
        if not self.is_known(request):
            return _message_page(403, _NEEDS_LINK)
        return HTMLResponse(self.files["explore.html"])

    async def static(self, name: str) -> Response:
        """Send a style sheet or a script."""
        kind = _TYPES.get(name.rpartition(".")[2])
        if kind is None or name not in self.files:
            raise Refused(404, "there is no such page")
        return Response(self.files[name], media_type=kind, headers={"Cache-Control": "no-cache"})

    async def options(self, request: Request) -> Response:
        """Send the choices of the controls."""
        self.check(request)
        return JSONResponse(self.catalogue)

    async def draw(self, request: Request) -> Response:
        """Draw, and send each step as soon as it is computed."""
        wanted = Try.read(await self.content(request), self.requests)
        return self.stream(lambda: draw(self.live, wanted))

    async def schedule(self, request: Request) -> Response:
        """Send the weights of a schedule."""
        spec = (await self.content(request)).get("schedule")
        if not isinstance(spec, str):
            raise Refused(400, "schedule must be a text")
        return JSONResponse(await run_in_threadpool(schedule_weights, self.plugins, spec))

    async def share(self, request: Request) -> Response:
        """Send a try as a command, as Python and as a study file."""
        wanted = Try.read(await self.content(request), self.requests)
        return JSONResponse({"command": wanted.command(), "python": wanted.python(), "study": wanted.study()})

    # Helpers of the handlers above.

    def stream(self, work: Work) -> Response:
        """Queue a job, and send its events while it runs."""
        return _EventStream(self.jobs.events(work))

    def is_known(self, request: Request) -> bool:
        """Return whether the browser has sent the token."""
        given = request.cookies.get(self.cookie, "")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def check(self, request: Request) -> None:
        """Refuse a browser that has not sent the token."""
        if not self.is_known(request):
            raise Refused(403, _NEEDS_LINK)

    async def content(self, request: Request) -> dict[str, Any]:
        """Return the JSON object that a page sent."""
        self.check(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused(415, "the request must be application/json")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Refused(413, "the request is too large")
        try:
            content = json.loads(body)
        except ValueError:
            raise Refused(400, "the request is not JSON") from None
        if not isinstance(content, dict):
            raise Refused(400, "the request is not a JSON object")
        return content


def _message_page(status: int, message: str) -> HTMLResponse:
    text = resources.files("guidelens_explore").joinpath("templates", "message.html").read_text("utf-8")
    return HTMLResponse(text.replace("{{ message }}", message), status)


def serve(
    plugins: PluginManager,
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    on_address: Callable[[str], None] = lambda address: None,
    **options: Any,
) -> None:
    """Serve the explorer until interrupted.

    :param on_address: called with the address of the page, token included, once browsers can connect.
    :param options: as :func:`create_app` takes them.
    :raises UsageError: for an unknown model.
    :raises GuidelensError: the server cannot listen on the address.
    """
    token = secrets.token_urlsafe(16)
    app = create_app(plugins, token=token, local=is_loopback(host), **options)
    serve_app(
        app,
        host=host,
        port=port,
        on_listening=lambda port: on_address(f"http://{shown_host(host)}:{port}/?token={token}"),
    )
