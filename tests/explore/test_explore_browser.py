"""Sessions in Chromium: step through, draw a curve with mouse and keys, keep and compare tries, a phone, failures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_rules import violations
from chromium import PHONE, browser
from explorer import TOKEN, Gated
from guidelens.studies.file import load_study_file

pytest.importorskip("playwright")
pytestmark = pytest.mark.slow

__all__ = ["browser"]  # the fixture, for pytest to find

DESKTOP = {"viewport": {"width": 1280, "height": 860}}
DRAWN = "#status:has-text('Drawn in')"
FIRST = {
    "prompt": "a red circle",
    "schedules": ["turn"],
    "seed": 0,
    "steps": 8,
    "scale": 1,
    "sampler": "ddpm",
    "generator": "tiny",
    "guidance": "tiny-vl",
}
"""What the page remembers of a visit before."""

Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """Return a function that opens the page; no page may complain in its console."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(**{**DESKTOP, **options})
        contexts.append(context)
        kept = json.dumps(json.dumps(FIRST))
        context.add_init_script(f"sessionStorage.setItem('guidelens-explore', {kept})")
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}/?token={TOKEN}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # A refused schedule is an answer 400, which Chromium puts into the console.
    assert [text for text in complaints if "status of 400" not in text] == []


def check(page: Any) -> None:
    """The page breaks none of axe-core's rules and needs no scrolling sideways."""
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def choose(page: Any, *names: str) -> None:
    """Leave only these schedules chosen."""
    for chip in page.locator("#schedules .chip").all():
        chip.locator("input").set_checked(chip.locator("b").inner_text() in names)


def redrawn(page: Any, action: Callable[[], Any]) -> None:
    """Do something that makes the page draw again, and wait until that is done."""
    before = page.locator(".try").count()
    action()
    page.locator(".try").nth(before).wait_for()
    page.wait_for_selector(DRAWN)


def test_look_and_step_through(opened: Open) -> None:
    page = opened()
    page.wait_for_selector(DRAWN)
    assert page.locator("h1").inner_text() == "guidelens explore"
    assert "token" not in page.url
    assert page.locator(".column h2").all_inner_texts() == ["unguided", "turn"]
    redrawn(page, lambda: choose(page, "itc", "turn"))
    assert page.locator(".column h2").all_inner_texts() == ["unguided", "itc", "turn"]
    redrawn(page, lambda: choose(page, "turn"))
    check(page)
    assert page.inner_text("#where") == "finished"
    assert page.locator("#forth").is_disabled()
    finished = page.locator("figure img >> nth=0").get_attribute("src")

    page.locator("body").press("ArrowLeft")
    assert page.inner_text("#where") == "step 8 of 8"
    page.locator("body").press("Home")
    assert page.inner_text("#where") == "step 1 of 8"
    assert page.locator("figure img >> nth=0").get_attribute("src") != finished
    page.click("#forth")
    assert page.inner_text("#where") == "step 2 of 8"
    page.click("#play")
    page.wait_for_selector("#where:not(:has-text('step 2 of 8'))")
    page.click("#play")
    stopped = page.inner_text("#where")
    assert page.get_attribute("#play", "aria-label") == "Play"
    assert page.inner_text("#where") == stopped

    assert page.locator("img.heat:visible").count() == 0
    page.select_option("#overlay", "")
    assert page.locator("img.heat:visible").count() == 1
    page.select_option("#overlay", "itc")
    assert page.locator("img.heat:visible").count() == 1
    check(page)
    titles = page.locator(".chart:visible .title").all_inner_texts()
    assert titles == ["loss", "gradient", "cosine"]
    assert page.locator(".chart path.line[d*='L']").count() == 5
    assert page.locator(".scores dt").all_inner_texts() == ["bright", "bright"]


def test_draw_a_curve(opened: Open) -> None:
    page = opened()
    page.wait_for_selector(DRAWN)
    redrawn(page, lambda: page.click("#draw-curve"))
    assert page.inner_text(".spec") == "curve:cap=1@0/0@1,itc=0@0/1@1"
    check(page)
    box = page.locator(".plot").bounding_box()

    def click_plot() -> None:
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)

    redrawn(page, click_plot)
    assert page.locator(".handle").count() == 3
    middle = page.locator(".handle >> nth=1")

    def drag() -> None:
        at = middle.bounding_box()
        page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=5)
        page.mouse.up()

    before = page.inner_text(".spec")
    redrawn(page, drag)
    after = page.inner_text(".spec")
    assert after != before
    assert page.evaluate("document.activeElement.dataset.index") == "1"

    def keys() -> None:
        for key in ("Home", "ArrowUp", "ArrowUp", "Shift+ArrowLeft"):
            page.keyboard.press(key)

    redrawn(page, keys)
    weight, progress = re.findall(r"itc=0@0/([\d.]+)@([\d.]+)/1@1", page.inner_text(".spec"))[0]
    assert float(weight) == pytest.approx(0.1)
    assert page.get_attribute(".handle >> nth=1", "aria-valuetext") == f"weight 0.1 at progress {progress}"
    page.keyboard.press("Enter")
    assert page.locator(".handle").count() == 4
    page.keyboard.press("Delete")  # back to the curve that was drawn
    assert page.locator(".handle").count() == 3
    assert page.locator("#schedules .chip", has_text="curve").count() == 1
    with page.expect_download() as download:
        page.click("text=Save as file")
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved["itc"][1] == [float(progress), float(weight)]

    redrawn(page, lambda: page.select_option("[aria-label='Start from a schedule']", "turn"))
    assert page.inner_text(".spec") == "curve:cap=1@0/0@1,itc=0@0/1@1"
    page.click("text=Keep")
    assert page.locator("#curve").is_hidden()
    page.click("#draw-curve")
    page.locator(".handle >> nth=0").focus()
    redrawn(page, lambda: page.keyboard.press("ArrowUp"))
    assert page.locator("#schedules .chip", has_text="curve").count() == 2  # the kept one, and the next
    redrawn(page, lambda: page.locator("#schedules .remove").last.click())
    redrawn(page, lambda: page.locator("#schedules .remove").last.click())
    assert page.locator(".column h2").all_inner_texts() == ["unguided", "turn"]


def test_keep_compare_and_share(opened: Open) -> None:
    page = opened()
    page.wait_for_selector(DRAWN)
    redrawn(page, lambda: page.fill("#steps-number", "6"))

    def move_seed() -> None:
        page.locator("#seed").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")

    redrawn(page, move_seed)
    assert page.input_value("#seed-number") == "2"
    assert "seed 2" in page.locator(".try .caption >> nth=0").inner_text()
    assert page.locator(".try >> nth=0").locator("img").count() == len(page.locator(".column").all())
    for place in (0, 1):
        page.locator(".pin").nth(place).click()
    assert page.locator("#versus h3").count() == 2
    assert page.locator("#versus img:visible").count() == 2 * page.locator("#columns .column").count()
    page.locator("#versus input[type=range]").fill("0")
    assert "progress 0.00" in page.inner_text("#versus")
    check(page)
    page.locator(".try .open >> nth=1").click()
    assert page.input_value("#seed-number") == "0"
    assert page.inner_text("#where") == "finished"

    page.click("text=Show the command")
    page.wait_for_selector("#code-title:has-text('The command')")
    command = page.inner_text("#code-text")
    assert command.startswith("guidelens compare")
    assert "--seeds 0-0" in command
    assert "--steps 6" in command
    check(page)
    page.keyboard.press("Escape")
    page.click("text=Show the Python")
    page.wait_for_selector("#code-title:has-text('The Python')")
    assert "from guidelens import" in page.inner_text("#code-text")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.click("text=Save as study")
    (grid,) = load_study_file(download.value.path()).grids
    assert (grid.seeds, grid.sampling["steps"]) == ((0,), (6,))


def test_on_a_phone_in_the_dark(opened: Open) -> None:
    page = opened(**PHONE)
    page.wait_for_selector(DRAWN)
    check(page)
    page.locator("#settings-now").tap()
    redrawn(page, lambda: page.fill("#scale-number", "2"))
    redrawn(page, lambda: page.locator("#draw-curve").tap())
    check(page)
    small = page.evaluate(
        "[...document.querySelectorAll('main button:not(.remove, .pin), select')].filter("
        "(e) => e.offsetParent && e.getBoundingClientRect().height < 44).map((e) => e.outerHTML)"
    )
    assert small == []


def test_failures_are_said_and_another_slider_stops_at_once(opened: Open) -> None:
    page = opened()
    page.wait_for_selector(DRAWN)
    choose(page)  # none
    assert page.inner_text("#schedule-problem") == "Choose at least one schedule."
    page.locator("#schedules .chip", has_text="turn").click()
    page.wait_for_selector(DRAWN)
    page.click("#models summary")
    page.fill("#generator", "broken")
    page.locator("#generator").press("Tab")
    page.wait_for_selector("#error:has-text('its weights are gone')")
    check(page)
    page.fill("#generator", "tiny")
    page.click("#spelled summary")
    page.fill("#spec", "blend:itc=x")
    page.keyboard.press("Enter")
    page.wait_for_selector("#schedule-problem:has-text('expected float')")

    page.fill("#prompt", "an unscorable blorp")
    page.wait_for_selector(
        "#notes:has-text('The metric brightness failed'):has-text(\"does not know the word 'blorp'\")"
    )

    Gated.gate.clear()
    page.fill("#generator", "gated")
    page.locator("#generator").press("Tab")
    page.wait_for_selector("#status:has-text('Drawing')")
    assert page.locator("#stop").is_enabled()
    page.fill("#generator", "tiny")  # a change cancels what waits
    page.locator("#generator").press("Tab")
    page.wait_for_selector("#status:has-text('Waiting: 1 before this one.')")
    Gated.gate.set()
    page.wait_for_selector(DRAWN)
    assert page.locator("#error").is_hidden()
