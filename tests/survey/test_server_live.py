"""A real server in a process of its own: many raters at once, killed under load, ended by Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from guidelens_survey.store import SurveyFile
from sessions import first, read

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

SERVE = "from guidelens.cli.main import cli; cli()"


@contextmanager
def served(survey: SurveyFile, how: str = "serve") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve with the command and yield the address."""
    command = [sys.executable, "-c", SERVE, "survey", how, str(survey.path), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://[\d.]+:(\d+)/", line)
            assert found, line + process.stdout.read()
            yield f"http://127.0.0.1:{found[1]}", process
        finally:
            process.kill()


class Rater:
    """Goes through a session and notes what the server confirmed."""

    def __init__(self, client: httpx.AsyncClient, code: str) -> None:
        self.client, self.code = client, code
        self.confirmed: list[int] = []
        self.latencies: list[float] = []

    async def request(self, method: str, url: str, **options: object) -> httpx.Response:
        answer = await self.client.request(method, url, **options)  # type: ignore[arg-type]
        self.latencies.append(answer.elapsed.total_seconds())
        return answer

    async def session(self) -> None:
        where = f"/r/{self.code}"
        while not where.endswith("/thanks"):
            page = await self.request("GET", where)
            if page.status_code == 303:
                where = page.headers["location"]
                continue
            assert page.status_code == 200, page.text
            form = read(page.text)
            for image in form.images:
                assert (await self.request("GET", image)).status_code == 200
            answer = await self.request("POST", form.action, data={**form.hidden, **first(form)})
            assert answer.status_code == 303, answer.text
            if form.radios:
                self.confirmed.append(int(form.action.rpartition("/")[2]))
            where = answer.headers["location"]


def codes(survey: SurveyFile) -> list[str]:
    return [rater.code for rater in survey.raters() if rater.source == "personal"]


def check_stored(survey: SurveyFile, raters: list[Rater]) -> int:
    """Every confirmed screen of every rater is in the file, with all its questions."""
    stored = 0
    for rater in raters:
        about = survey.rater(rater.code)
        assert about is not None
        position = {item.id: item.position + 1 for item in survey.items(about.seat)}
        found = {position[item]: given for item, given in survey.answered(about).items()}
        assert set(rater.confirmed) <= set(found)
        assert all(given == {"realism": 1, "alignment": 1} for given in found.values())
        stored += len(found)
    return stored


def test_two_hundred_raters_at_once(make: Callable[..., SurveyFile]) -> None:
    survey = make(raters=200, items=4, repeats=0, checks=0, overlap=50)

    async def run(base: str) -> list[Rater]:
        # A client each, as in life: one client with 200 connections would spend its time on looking through them.
        async def one(code: str) -> Rater:
            async with httpx.AsyncClient(base_url=base, timeout=120, verify=False) as client:
                rater = Rater(client, code)
                await rater.session()
                return rater

        return list(await asyncio.gather(*map(one, codes(survey))))

    with served(survey) as (base, _):
        raters = asyncio.run(run(base))
    assert check_stored(survey, raters) == 200 * 4
    assert all(rater.finished for rater in survey.raters())
    latencies = sorted(value for rater in raters for value in rater.latencies)
    print(
        f"{len(latencies)} answers to 200 raters at once: median {statistics.median(latencies):.3f} s, "
        f"95 % under {latencies[int(0.95 * len(latencies))]:.3f} s"
    )


def test_pictures_take_equally_long(make: Callable[..., SurveyFile]) -> None:
    """No condition's pictures come later than another's: medians of many, asked for in turn."""
    survey = make()
    about = survey.images()
    took: dict[str, list[float]] = {}
    with served(survey) as (base, _), httpx.Client(base_url=base) as client:
        for _ in range(30):
            for token, picture in about.items():
                answer = client.get(f"/i/{token}")
                took.setdefault(picture["condition"], []).append(answer.elapsed.total_seconds())
    medians = {condition: statistics.median(values) for condition, values in took.items()}
    print({condition: f"{1000 * value:.2f} ms" for condition, value in medians.items()})
    assert max(medians.values()) - min(medians.values()) < min(medians.values())


def test_a_connection_lost_while_answering_stores_a_screen_whole_or_not_at_all(
    make: Callable[..., SurveyFile],
) -> None:
    """A form is sent and the line goes dead, before or after all of it arrived; the rater comes back and goes on."""
    survey = make(raters=12, items=4, repeats=0, checks=0, overlap=50)
    with served(survey) as (base, _), httpx.Client(base_url=base, follow_redirects=True) as client:
        for number, code in enumerate(codes(survey)):
            page = client.get(f"/r/{code}")
            while not read(page.text).radios:
                form = read(page.text)
                page = client.post(form.action, data=form.hidden)
            form = read(page.text)
            body = urllib.parse.urlencode({**form.hidden, **first(form)}).encode()
            head = (
                f"POST {form.action} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
            ).encode()
            with socket.create_connection(("127.0.0.1", client.base_url.port or 80)) as line:
                line.sendall(head + (body if number % 2 else body[:-1]))
                # Closed with a reset: nothing can be sent back any more.
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rater = survey.rater(code)
            assert rater is not None
            assert all(len(given) == 2 for given in survey.answered(rater).values())
            assert number % 2 or survey.answered(rater) == {}
            again = read(client.get(f"/r/{code}").text)
            answer = client.post(again.action, data={**again.hidden, **first(again)})
            assert answer.status_code == 200
            client.post(
                form.action, data={**form.hidden, **dict.fromkeys(form.radios, "2")}
            )  # sent once more
    for code in codes(survey):
        rater = survey.rater(code)
        assert rater is not None
        stored = survey.answered(rater)
        assert 1 <= len(stored) <= 2
        assert all(given == {"realism": 1, "alignment": 1} for given in stored.values())
        assert sum(vote["rater"] == rater.id for vote in survey.votes()) == 2 * len(stored)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of connections cut by the kill
def test_killed_under_load_no_confirmed_vote_is_lost(make: Callable[..., SurveyFile]) -> None:
    survey = make(raters=16, items=6, overlap=50)

    async def run(base: str, process: subprocess.Popen[str]) -> list[Rater]:
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            raters = [Rater(client, code) for code in codes(survey)]
            tasks = [asyncio.create_task(rater.session()) for rater in raters]
            while sum(len(rater.confirmed) for rater in raters) < 40 and not any(t.done() for t in tasks):
                await asyncio.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(error, httpx.TransportError) for error in ended), ended
            return raters

    with served(survey) as (base, process):
        raters = asyncio.run(run(base, process))
    confirmed = sum(len(rater.confirmed) for rater in raters)
    stored = check_stored(SurveyFile(survey.path), raters)
    print(f"killed with {confirmed} screens confirmed; {stored} are stored")
    assert 40 <= confirmed <= stored < 16 * 8

    async def go_on(base: str) -> None:
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            await asyncio.gather(*(Rater(client, code).session() for code in codes(survey)))

    with served(survey) as (base, process):
        asyncio.run(go_on(base))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
    assert len(survey.votes()) == 16 * 8 * 2


def test_a_preview_leaves_nothing_behind(make: Callable[..., SurveyFile]) -> None:
    survey = make(raters=2, items=4, repeats=0, checks=0)
    assert survey.join("a" * 22) is not None
    survey.close()
    before = survey.path.read_bytes()
    with (
        served(survey, "preview") as (base, process),
        httpx.Client(base_url=base, follow_redirects=True) as client,
    ):
        page = client.get("/")
        assert "Preview: " in page.text
        page = client.post(read(page.text).action, data={**read(page.text).hidden, "agree": "1"})
        assert page.status_code == 200
        assert page.url.path.endswith("/instructions")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "answers are not stored" in process.stdout.read()
    assert survey.path.read_bytes() == before
    assert len([rater for rater in SurveyFile(survey.path).raters() if rater.source == "open"]) == 1
