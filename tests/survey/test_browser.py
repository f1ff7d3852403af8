"""Whole sessions in Chromium: on a desktop with keys, on a phone with fingers, without JavaScript, and offline."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_rules import violations
from chromium import PHONE, browser
from guidelens_survey.exchange import export, import_answers, write_results
from guidelens_survey.limits import Limits
from guidelens_survey.statistics import results
from guidelens_survey.store import SurveyFile

pytest.importorskip("playwright")
uvicorn = pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

__all__ = ["browser"]  # the fixture, for pytest to find

DESKTOP = {"viewport": {"width": 1280, "height": 800}}


@pytest.fixture
def survey(make: Callable[..., SurveyFile]) -> SurveyFile:
    return make()


@contextmanager
def served(survey: SurveyFile) -> Iterator[str]:
    """Serve a survey from a thread and yield its address."""
    import socket

    from guidelens_survey.server import create_app

    app = create_app(survey, limits=Limits(1e6, 10**6, 1e6, 10**6))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def address(survey: SurveyFile) -> Iterator[str]:
    with served(survey) as address:
        yield address


def opened(browser: Any, **options: Any) -> tuple[Any, list[str]]:
    """Return a page, and what its console complains about."""
    page = browser.new_context(**options).new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page, complaints


def check(page: Any) -> None:
    """A page breaks none of axe-core's rules, has one heading at the top, and needs no scrolling sideways."""
    page.wait_for_load_state("load")
    assert violations(page) == []
    assert page.locator("h1:visible").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_session(browser: Any, address: str, survey: SurveyFile, options: dict[str, Any]) -> None:
    page, complaints = opened(browser, **options)
    page.goto(address)
    check(page)
    page.click("text=Continue")  # not agreed: the browser asks for the box
    assert "/join/" in page.url
    page.check("#agree")
    page.click("text=Continue")
    page.wait_for_url(re.compile("/instructions$"))
    check(page)
    page.click("text=Begin")
    for number in range(1, 9):
        page.wait_for_url(re.compile(f"/{number}$"))
        check(page)
        if options is DESKTOP:
            page.keyboard.press("ArrowRight")
            page.keyboard.press("0")
            assert page.evaluate("document.activeElement.textContent") == "Next"
            page.keyboard.press("Enter")
        else:
            small = page.evaluate(
                "[...document.querySelectorAll('.choices span, button.primary')].filter("
                "(e) => e.getBoundingClientRect().height < 44).length"
            )
            assert small == 0
            page.locator("fieldset >> nth=0").get_by_text("Right").tap()
            page.locator("fieldset >> nth=1").get_by_text("No difference").tap()
            page.get_by_role("button", name="Next").tap()
    page.wait_for_url(re.compile("/thanks$"))
    check(page)
    (rater,) = [r for r in survey.raters() if r.source == "open"]
    assert page.inner_text(".completion") == rater.completion
    assert {(v["question"], v["answer"]) for v in survey.votes()} == {("realism", 2), ("alignment", 0)}
    assert len(survey.votes()) == 16
    assert complaints == []
    page.context.close()


def test_going_back_enlarging_and_looking_ahead(browser: Any, address: str, survey: SurveyFile) -> None:
    page, complaints = opened(browser, **DESKTOP)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(address)
    page.check("#agree")
    page.click("text=Continue")
    page.click("text=Begin")
    page.wait_for_url(re.compile("/1$"))
    page.wait_for_load_state("networkidle")
    (rater,) = [r for r in survey.raters() if r.source == "open"]
    items = survey.items(rater.seat)
    assert {token for item in items[:3] for token in item.tokens} <= set(asked)
    page.click("a.zoom >> nth=0")
    assert page.locator("dialog").is_visible()
    check(page)
    page.keyboard.press("1")  # answers nothing behind the dialog
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.locator("input:checked").count() == 0
    page.keyboard.press("1")
    page.keyboard.press("1")
    page.get_by_role("button", name="Next").dblclick()
    page.wait_for_url(re.compile("/2$"))
    page.keyboard.press("Backspace")
    page.wait_for_url(re.compile("/1$"))
    assert page.locator("input:checked").count() == 2
    page.locator("fieldset >> nth=1").get_by_text("Right").click()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/2$"))
    assert {v["question"]: v["answer"] for v in survey.votes()} == {"realism": 1, "alignment": 2}
    assert complaints == []
    page.context.close()


def test_without_javascript(browser: Any, address: str, survey: SurveyFile) -> None:
    page, _ = opened(browser, java_script_enabled=False, **DESKTOP)
    page.goto(address)
    page.locator("#agree").check()
    page.get_by_role("button").click()
    page.get_by_role("button").click()
    for _ in range(8):
        page.locator("fieldset >> nth=0").get_by_text("Left").click()
        page.locator("fieldset >> nth=1").get_by_text("Right").click()
        page.get_by_role("button", name="Next").click()
    assert page.url.endswith("/thanks")
    assert len(survey.votes()) == 16
    page.context.close()


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_offline(browser: Any, survey: SurveyFile, tmp_path: Path, options: dict[str, Any]) -> None:
    file = export(survey, "offline", tmp_path / "pages")[0]
    page, complaints = opened(browser, offline=True, accept_downloads=True, **options)
    page.goto(file.as_uri())
    check(page)
    page.check("#agree")
    page.click("#accept")
    page.click("#begin")
    for number in range(8):
        check(page)
        if number == 3:
            page.wait_for_timeout(300)  # the browser writes what a page keeps a little later
            page.reload()
            page.wait_for_selector("text=Screen 4 of 8")  # it goes on where it was
            page.click("#back")
            assert page.locator("#screen input:checked").count() == 2
            page.keyboard.press("Enter")
        page.keyboard.press("1")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
    check(page)
    with page.expect_download() as download:
        page.click("#save")
    answers = Path(download.value.path())
    assert len(json.loads(answers.read_text())["answers"]) == 8
    assert import_answers(survey, "offline", answers).stored == 16
    assert {(v["question"], v["answer"]) for v in survey.votes()} == {("realism", 1), ("alignment", 2)}
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("design", ["rating", "forced-choice"])
def test_other_designs(
    browser: Any, make: Callable[..., SurveyFile], design: str, options: dict[str, Any]
) -> None:
    """All answers of a question stand in one row, and a session with keys ends."""
    survey = make(design=design, items=4, repeats=0, contact="lab@example.org")
    with served(survey) as address:
        page, complaints = opened(browser, **options)
        page.goto(address)
        page.check("#agree")
        page.click("text=Continue")
        page.wait_for_url(re.compile("/instructions$"))
        check(page)
        page.click("text=Begin")
        for number in range(1, 6):
            page.wait_for_url(re.compile(f"/{number}$"))
            if number == 1:
                check(page)
            tops = "[...document.querySelectorAll('.choices')].map((e) => new Set([...e.querySelectorAll('label')]"
            assert page.evaluate(f"{tops}.map((l) => l.getBoundingClientRect().top)).size)") == [1, 1]
            page.keyboard.press("4")
            page.keyboard.press("2")
            page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/thanks$"))
        assert {(v["question"], v["answer"]) for v in survey.votes()} == {("realism", 4), ("alignment", 2)}
        assert complaints == []
        page.context.close()


def test_pages_that_say_no(browser: Any, address: str) -> None:
    page, _ = opened(browser, **PHONE)
    page.goto(f"{address}r/unknown")
    assert "no such page" in page.inner_text("main")
    check(page)
    page.goto(address)
    page.check("#agree")
    page.click("text=Continue")
    page.click("text=Begin")
    page.wait_for_url(re.compile("/1$"))
    page.evaluate("document.querySelectorAll('input').forEach((e) => { e.required = false; })")
    page.click("text=Next")
    page.wait_for_selector("text=Please answer every question.")
    check(page)
    page.context.close()


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("design", ["pairwise", "rating", "forced-choice"])
def test_results(
    browser: Any, make: Callable[..., SurveyFile], tmp_path: Path, design: str, options: dict[str, Any]
) -> None:
    survey = make(design=design)
    for number in range(3):
        rater = survey.join(f"visit {number}")
        assert rater is not None
        for item in survey.items(rater.seat):
            value = item.expected or 1 + (item.id + number) % 2
            survey.vote(rater, item, {"realism": value, "alignment": value}, seconds=0.1 if number else 4.0)
    file, *_ = write_results(survey, results(survey), tmp_path / "out")
    page, complaints = opened(browser, offline=True, **options)
    page.goto(file.as_uri())
    for summary in page.locator("summary").all():
        if summary.locator("xpath=..").get_attribute("open") is None:
            summary.click()
    check(page)
    assert complaints == []
    page.context.close()
