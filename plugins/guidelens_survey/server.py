"""The survey's web pages with FastAPI. They are rendered on the server and work without JavaScript.

A rater is identified only by the random code in their address. No address, name, header or size reveals the condition
of a picture: pictures have random names, one length and the same headers. Every form is signed for its rater, screen
and time. A vote is on disk before the response is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from guidelens.errors import GuidelensError, UsageError
from guidelens.serving import Gate, is_loopback, serve_app
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from . import wording
from .design import CHECK
from .figure import environment
from .limits import Buckets, Limits
from .store import Rater, StoredItem, SurveyFile, new_token

logger = logging.getLogger(__name__)

MAX_BODY = 16_384
"""Largest size of a form, in bytes. The survey's forms have a few hundred."""

BODY_SECONDS = 20.0
"""Time limit in seconds for a form to arrive."""

VISIT = "visit"
"""The only cookie: a random name, with which the open link finds the visitor's progress."""

_ROOT_PATH = re.compile(r"(/[A-Za-z0-9_-]{1,100}){1,10}")

_STATIC = {"survey.css": "text/css", "survey.js": "text/javascript"}
_PICTURE = "private, max-age=86400, immutable"


_AGREE = "Please tick the box if you want to take part."


class Refused(Exception):
    """A refused request. Its answer is a page with the reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def create_app(
    survey: SurveyFile, *, local: bool = True, limits: Limits | None = None, root_path: str = ""
) -> Gate:
    """Return the application of a survey.

    :param local: the server is for this machine only. Requests must name it as such, so that a web page elsewhere
        cannot reach it under another name, and ``/`` is an open link. Otherwise only the links from ``guidelens survey
        links`` open the survey.
    :param root_path: path below which a proxy shows the survey, such as ``/rate``.
    :raises UsageError: the path does not begin with a slash, or has parts that are not allowed in an address.
    """
    prefix = root_path.rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise UsageError(f"root path {root_path!r}: it begins with a slash, such as /rate")
    if prefix and not _ROOT_PATH.fullmatch(prefix):
        raise UsageError(
            f"root path {root_path[:60]!r}: its parts are letters, digits, - and _, such as /surveys/rate"
        )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    site = _SurveyPages(survey, local, limits or Limits(), prefix)
    app.add_exception_handler(Refused, site.refused)
    app.add_exception_handler(GuidelensError, site.failed)
    app.add_exception_handler(sqlite3.Error, site.failed)
    app.add_exception_handler(ClientDisconnect, site.gone)
    app.get("/")(site.home)
    app.get("/join/{token}")(site.join_page)
    app.post("/join/{token}")(site.join)
    app.get("/r/{code}")(site.continue_)
    app.get("/r/{code}/consent")(site.consent_page)
    app.post("/r/{code}/consent")(site.consent)
    app.get("/r/{code}/instructions")(site.instructions)
    app.post("/r/{code}/instructions")(site.begin)
    app.get("/r/{code}/thanks")(site.thanks)
    app.get("/r/{code}/{number}")(site.item_page)
    app.post("/r/{code}/{number}")(site.vote)
    app.get("/i/{token}")(site.picture)
    app.get("/static/{name}")(site.static)
    app.get("/favicon.ico")(lambda: Response(status_code=204))
    return Gate(app, local=local, prefix=prefix, refusal=site.refusal)


class _SurveyPages:
    """The handlers of pages. Reads of the file take microseconds and run in the event loop. Writes wait for the disk
    and run in a thread."""

    def __init__(self, survey: SurveyFile, local: bool, limits: Limits, prefix: str) -> None:
        self.survey, self.local, self.prefix = survey, local, prefix
        self.by_rater = Buckets(limits.rater_rate, limits.rater_burst)
        self.by_address = Buckets(limits.address_rate, limits.address_burst)
        self.joins = Buckets(limits.join_rate, limits.join_burst)
        self.secret = bytes.fromhex(survey.meta["secret"])
        # The design does not change while it is served, so a session's items are read once.
        self.seats: dict[int, list[StoredItem]] = {}
        for item in survey.items():
            self.seats.setdefault(item.seat, []).append(item)
        self.sizes = {token: (i["width"], i["height"]) for token, i in survey.images().items()}
        self.files = {
            name: resources.files("guidelens_survey").joinpath("templates", name).read_bytes()
            for name in _STATIC
        }
        self.pages = environment()

    async def refused(self, request: Request, error: Exception) -> Response:
        """Answer with a page that gives the reason."""
        assert isinstance(error, Refused)
        return self.refusal(error.status, error.message)

    async def gone(self, request: Request, error: Exception) -> Response:
        """Send an empty answer, because the rater closed the page."""
        return Response(status_code=400)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answer that nothing was stored, because the file could not be read or written (for example, disk full)."""
        logger.error("%s: %s", request.method, error)
        message = "This could not be stored just now. Please go back and try again in a minute."
        return self.refusal(503, message)

    async def home(self, request: Request) -> Response:
        """Redirect to the open link on a local server. Otherwise answer that a link is needed."""
        if self.local:
            return self.to(f"/join/{self.survey.meta['open']}")
        raise Refused(404, "Please use the link that you were given.")

    async def join_page(self, request: Request, token: str) -> Response:
        """Ask for consent, or redirect a returning visitor."""
        self.check_open(request, token)
        visit = request.cookies.get(VISIT, "")
        known = self.survey.visitor(visit) if visit else None
        if known is not None:
            return self.to(f"/r/{known.code}")
        visit = visit if _is_token(visit) else new_token()
        response = self.consent_form(f"/join/{token}", self.sign("join", visit))
        response.set_cookie(
            VISIT,
            visit,
            max_age=30 * 86400,
            path=self.prefix or "/",
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    async def join(self, request: Request, token: str) -> Response:
        """Make a visitor who consents a rater. A second arrival of the form changes nothing."""
        self.check_open(request, token)
        form = await self.form(request)
        visit = request.cookies.get(VISIT, "")
        if not (_is_token(visit) and self.is_signed(form.get("signature", ""), "join", visit)):
            raise Refused(403, "This form is no longer valid. Please allow cookies and open the link again.")
        if form.get("agree") != "1":
            return self.consent_form(f"/join/{token}", self.sign("join", visit), problem=_AGREE)
        if self.survey.visitor(visit) is None:
            self.slow_down(self.joins, _address(request))
        rater = await run_in_threadpool(self.survey.join, visit)
        if rater is None:
            raise Refused(410, "This survey has all the raters it needs. Thank you for your interest.")
        return self.to(f"/r/{rater.code}")

    async def continue_(self, request: Request, code: str) -> Response:
        """Redirect a rater to the screen where they stopped."""
        rater = await self.rater(request, code)
        return self.to(await self.next_address(rater))

    async def consent_page(self, request: Request, code: str) -> Response:
        """Ask the holder of a personal link for consent."""
        rater = await self.rater(request, code)
        return self.consent_form(f"/r/{rater.code}/consent", self.sign("consent", rater.code))

    async def consent(self, request: Request, code: str) -> Response:
        """Store the consent of the holder of a personal link."""
        rater = await self.rater(request, code)
        form = await self.form(request)
        signed = self.is_signed(form.get("signature", ""), "consent", rater.code)
        if signed and form.get("agree") != "1":
            return self.consent_form(
                f"/r/{rater.code}/consent", self.sign("consent", rater.code), problem=_AGREE
            )
        return await self.step(rater, form, "consent", "consented")

    async def instructions(self, request: Request, code: str) -> Response:
        """Show the instructions, with examples."""
        rater = await self.rater(request, code)
        if rater.consented is None:
            return self.to(f"/r/{code}/consent")
        return self.page(
            "instructions.html.j2",
            action=f"/r/{rater.code}/instructions",
            signature=self.sign("instructions", rater.code),
            kind=self.survey.kind,
            questions=self.survey.questions,
            count=len(self.items(rater)),
        )

    async def begin(self, request: Request, code: str) -> Response:
        """Store that the instructions were read."""
        rater = await self.rater(request, code)
        return await self.step(rater, await self.form(request), "instructions", "instructed")

    async def item_page(self, request: Request, code: str, number: str) -> Response:
        """Show the next screen, or the one before it to change its answers."""
        rater = await self.rater(request, code)
        items, answered = self.items(rater), self.survey.answered(rater)
        current = _first_open(items, answered)
        at = _number(number)
        ready = rater.consented is not None and rater.instructed is not None and current < len(items)
        if not ready or at < 0 or at not in (current, current - 1):
            return self.to(await self.next_address(rater))
        return self.item(rater, at, answered.get(items[at].id, {}), revise=at < current)

    async def vote(self, request: Request, code: str, number: str) -> Response:
        """Store the answers of a screen, and redirect to the next."""
        rater = await self.rater(request, code)
        form = await self.form(request)
        items, at = self.items(rater), _number(number)
        shown, revise = form.get("shown", ""), form.get("revise", "") == "1"
        signed = self.is_signed(form.get("signature", ""), rater.code, str(at), shown, str(revise))
        if not signed or not 0 <= at < len(items) or rater.consented is None:
            raise Refused(403, "This form is not valid. Please open your link again.")
        if rater.finished is not None:
            return self.to(f"/r/{code}/thanks")
        chosen = {question.name: _decimal(form.get(question.name, "")) for question in self.survey.questions}
        given = {name: answer for name, answer in chosen.items() if answer is not None}
        answered = self.survey.answered(rater)
        current = _first_open(items, answered)
        if at > current:  # only a signed form of another time could be ahead; never leave a gap
            return self.to(await self.next_address(rater))
        seconds = max(0.0, time.time() - float(shown))
        # Only the previous screen can change. An older form that arrives again changes nothing.
        revise = revise and at == current - 1
        try:
            await run_in_threadpool(self.survey.vote, rater, items[at], given, seconds=seconds, revise=revise)
        except UsageError:
            return self.item(rater, at, given, revise=revise, problem="Please answer every question.")
        return self.to(await self.next_address(rater))

    async def thanks(self, request: Request, code: str) -> Response:
        """Show thanks and the completion code."""
        rater = await self.rater(request, code)
        if rater.finished is None:
            return self.to(await self.next_address(rater))
        return self.page("thanks.html.j2", completion=rater.completion)

    async def picture(self, token: str) -> Response:
        """Send a picture, by its random name."""
        content = self.survey.image(token)
        if content is None:
            raise Refused(404, "There is no such page.")
        return Response(content, media_type="image/png", headers={"Cache-Control": _PICTURE})

    async def static(self, name: str) -> Response:
        """Send the style sheet or the script."""
        if name not in _STATIC:
            raise Refused(404, "There is no such page.")
        headers = {"Cache-Control": "private, max-age=300"}
        return Response(self.files[name], media_type=_STATIC[name], headers=headers)

    # Helpers of the pages above.

    def to(self, address: str) -> RedirectResponse:
        return RedirectResponse(f"{self.prefix}{address}", 303)

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        meta = self.survey.meta
        text = self.pages.get_template(template).render(
            title=meta["title"], contact=meta["contact"], base=self.prefix, **values
        )
        return HTMLResponse(text, status)

    def refusal(self, status: int, message: str) -> HTMLResponse:
        return self.page("message.html.j2", status, message=message)

    def consent_form(self, action: str, signature: str, problem: str = "") -> HTMLResponse:
        paragraphs = [line for line in self.survey.meta["consent"].splitlines() if line.strip()]
        count = self.survey.meta["items"] + self.survey.meta["repeats"] + self.survey.meta["checks"]
        return self.page(
            "consent.html.j2",
            422 if problem else 200,
            problem=problem,
            action=action,
            signature=signature,
            paragraphs=paragraphs,
            count=count,
            minutes=wording.minutes(count, len(self.survey.questions)),
        )

    def item(
        self, rater: Rater, at: int, given: dict[str, int], *, revise: bool, problem: str = ""
    ) -> HTMLResponse:
        survey, items = self.survey, self.items(rater)
        item, places = items[at], len(items[at].shown)
        shown = f"{time.time():.3f}"
        is_check = item.kind == CHECK
        return self.page(
            "item.html.j2",
            422 if problem else 200,
            kind=survey.kind,
            number=at + 1,
            count=len(items),
            is_check=is_check,
            sentence=wording.instruction(survey.kind, item.expected or 0, places)
            if is_check
            else item.prompt,
            pictures=[
                (token, wording.place_name(survey.kind, i + 1), *self.sizes[token])
                for i, token in enumerate(item.tokens)
            ],
            questions=survey.questions,
            choices=wording.choices(survey.kind, places),
            given=given,
            ahead=[f"{self.prefix}/i/{token}" for later in items[at + 1 : at + 3] for token in later.tokens],
            action=f"/r/{rater.code}/{at + 1}",
            back=f"/r/{rater.code}/{at}" if at > 0 and not revise else "",
            shown=shown,
            revise="1" if revise else "0",
            signature=self.sign(rater.code, str(at), shown, str(revise)),
            problem=problem,
        )

    def items(self, rater: Rater) -> list[StoredItem]:
        return self.seats.get(-1 if rater.seat is None else rater.seat, [])

    async def step(self, rater: Rater, form: Mapping[str, str], form_name: str, event: str) -> Response:
        if not self.is_signed(form.get("signature", ""), form_name, rater.code):
            raise Refused(403, "This form is not valid. Please open your link again.")
        await run_in_threadpool(self.survey.mark, rater, event)
        return self.to(f"/r/{rater.code}")

    async def next_address(self, rater: Rater) -> str:
        base = f"/r/{rater.code}"
        if rater.consented is None:
            return f"{base}/consent"
        if rater.instructed is None:
            return f"{base}/instructions"
        items = self.items(rater)
        current = _first_open(items, self.survey.answered(rater))
        if current < len(items):
            return f"{base}/{current + 1}"
        await run_in_threadpool(self.survey.mark, rater, "finished")
        return f"{base}/thanks"

    async def rater(self, request: Request, code: str) -> Rater:
        rater = self.survey.rater(code)
        if rater is None or rater.seat is None:
            self.slow_down(self.by_address, _address(request))
            raise Refused(404, "There is no such page. Please check the link that you were given.")
        self.slow_down(self.by_rater, rater.code)
        return rater

    def check_open(self, request: Request, token: str) -> None:
        self.slow_down(self.by_address, _address(request))
        if not hmac.compare_digest(token.encode(), self.survey.meta["open"].encode()):
            raise Refused(404, "There is no such page. Please check the link that you were given.")

    @staticmethod
    def slow_down(buckets: Buckets, name: str) -> None:
        if not buckets.allow(name):
            raise Refused(429, "Too many requests at once. Please wait a minute, then load the page again.")

    async def form(self, request: Request) -> dict[str, str]:
        try:
            body = await asyncio.wait_for(_body(request), BODY_SECONDS)
        except asyncio.TimeoutError:
            raise Refused(408, "This form took too long to arrive. Please send it again.") from None
        try:
            fields = parse_qs(
                body.decode("ascii"), keep_blank_values=True, max_num_fields=64, errors="strict"
            )
        except ValueError:
            raise Refused(400, "This form cannot be read.") from None
        return {name: values[-1] for name, values in fields.items()}

    def sign(self, *parts: str) -> str:
        return hmac.new(self.secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()

    def is_signed(self, signature: str, *parts: str) -> bool:
        return hmac.compare_digest(signature.encode(), self.sign(*parts).encode())


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refused(413, "This form is too large.")
    return body


def _first_open(items: list[StoredItem], answered: dict[int, dict[str, int]]) -> int:
    return next((i for i, item in enumerate(items) if item.id not in answered), len(items))


def _number(text: str) -> int:
    """Return the index that a screen's number in an address means, or a negative number."""
    number = _decimal(text)
    return -1 if number is None else number - 1


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def _is_token(text: str) -> bool:
    return len(text) == 22 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def serve(
    survey: SurveyFile,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    root_path: str = "",
    on_listening: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve a survey until interrupted.

    :param root_path: see :func:`create_app`.
    :param on_listening: called with the port (chosen by the system for port 0) once raters can connect.
    :raises GuidelensError: the server cannot listen on the address.
    """
    app = create_app(survey, local=is_loopback(host), root_path=root_path)
    serve_app(app, host=host, port=port, on_listening=on_listening)
