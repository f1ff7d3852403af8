"""The page of a comparison in a browser: its details, addresses, tables and what assistive technology reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_rules import violations
from chromium import PHONE, browser
from guidelens.comparison import compare
from guidelens.sampling import Sampling
from tiny_world import Brightness, TinyGenerator, TinyGuidance, Weights

__all__ = ["browser"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = compare(
        ["a red circle", "a dot"],
        sampling=Sampling(steps=3),
        out=tmp_path_factory.mktemp("page") / "run",
        generator=TinyGenerator(),
        guidance=TinyGuidance(),
        schedules=[Weights("itc", {"itc": 1.0}), Weights("cap", {"cap": 1.0}), Weights("none", {})],
        metrics=[Brightness()],
        seeds=2,
        device="cpu",
    )
    return Path(run.page).as_uri()


def visit(browser: Any, address: str, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.goto(address)
    return page


def opened(page: Any) -> str:
    found = page.locator("[popover]:popover-open")
    return str(found.get_attribute("id")).removeprefix("d-") if found.count() == 1 else ""


def test_details_have_an_address_and_turn(browser: Any, address: str) -> None:
    page = visit(browser, address)
    keys = page.locator("button.picture").evaluate_all("all => all.map(each => each.dataset.key)")
    page.locator("button.picture").nth(1).click()
    assert page.url.endswith(f"#{keys[1]}")
    page.keyboard.press("ArrowRight")
    assert (opened(page), page.url.endswith(f"#{keys[2]}")) == (keys[2], True)
    page.locator("[popover]:popover-open [data-turn='-1']").click()
    assert opened(page) == keys[1]
    page.keyboard.press("Escape")
    assert (opened(page), "#" in page.url) == ("", False)
    again = visit(browser, f"{address}#{keys[3]}")
    assert opened(again) == keys[3]


def test_details_show_the_same_seed_under_the_other_schedules(browser: Any, address: str) -> None:
    page = visit(browser, address)
    page.locator("button.picture[data-schedule-name=cap]").nth(1).click()
    strip = page.locator("[popover]:popover-open .strip a")
    assert strip.all_inner_texts() == ["itc", "cap", "none"]
    strip.nth(0).click()
    assert page.locator("[popover]:popover-open").get_attribute("aria-label") == "itc, seed 1: a red circle"


def test_differences_are_against_a_chosen_schedule(browser: Any, address: str) -> None:
    page = visit(browser, address)
    shown = page.locator(".difference:visible")
    assert shown.get_attribute("aria-label") == "Differences to none"
    page.get_by_label("cap", exact=True).and_(page.locator("[type=radio]")).check()
    assert shown.get_attribute("aria-label") == "Differences to cap"


def test_definitions_appear_on_focus(browser: Any, address: str) -> None:
    page = visit(browser, address)
    tip = page.locator("#m0-0")
    assert not tip.is_visible()
    page.keyboard.press("Tab")
    page.locator(".term").first.focus()
    assert tip.is_visible()


@pytest.mark.parametrize("options", [{"viewport": {"width": 1280, "height": 900}}, PHONE])
def test_everything_can_be_read(browser: Any, address: str, options: dict[str, Any]) -> None:
    page = visit(browser, address, **options)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("button.picture").first.click()
    assert violations(page) == []
