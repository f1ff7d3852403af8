"""Raters for tests: they walk through a survey's pages as a browser without JavaScript would."""

from __future__ import annotations

import asyncio
import html.parser
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Form(html.parser.HTMLParser):
    """The first form of a page that is posted: where to, hidden fields, radios with their values."""

    action: str = ""
    hidden: dict[str, str] = field(default_factory=dict)
    radios: dict[str, list[str]] = field(default_factory=dict)
    checked: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and values.get("method") == "post":
            self.action = values["action"]
        elif tag == "input" and values.get("type") == "hidden":
            self.hidden[values["name"]] = values["value"]
        elif tag == "input" and values.get("type") == "checkbox":
            self.hidden[values["name"]] = values["value"]  # raters here always agree
        elif tag == "input" and values.get("type") == "radio":
            self.radios.setdefault(values["name"], []).append(values["value"])
            if "checked" in values:
                self.checked[values["name"]] = values["value"]
        elif tag == "img" and values["src"].startswith("/i/"):
            self.images.append(values["src"])
        elif tag == "a" and "id" in values:
            self.links[values["id"]] = values["href"]


def read(text: str) -> Form:
    form = Form()
    form.feed(text)
    return form


Choose = Callable[[Form], dict[str, str]]


def first(form: Form) -> dict[str, str]:
    """Choose the first answer of every question."""
    return {name: values[0] for name, values in form.radios.items()}


def walk(client: Any, start: str, choose: Choose = first) -> str:
    """Go from ``start`` to the page of thanks with an httpx-like client and return its text."""
    page = client.get(start)
    for _ in range(500):
        assert page.status_code == 200, (page.status_code, page.text)
        form = read(page.text)
        if not form.action:
            return str(page.text)
        page = client.post(form.action, data={**form.hidden, **choose(form)})
    raise AssertionError("the session does not end")


class Client:
    """A browser's part in a test: keeps cookies and follows redirects; the application runs in this process."""

    def __init__(self, app: Any, base_url: str) -> None:
        self.loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app=app)
        self.http = httpx.AsyncClient(transport=transport, base_url=base_url, follow_redirects=True)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self.http.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.http.get(url, **options))

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.http.post(url, **options))
