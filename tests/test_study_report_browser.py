"""The page of a study in Chromium: on a desktop with keys, on a phone in the dark, with its steps and addresses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tiny world

import tiny_world
from chromium import PHONE, browser
from guidelens import compare, load_study
from guidelens.plugins import PluginManager
from guidelens.report.study import write_study_report
from guidelens.sampling import Sampling
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study

pytest.importorskip("playwright")
pytestmark = pytest.mark.slow

__all__ = ["browser"]  # the fixture, for pytest to find

DESKTOP = {"viewport": {"width": 1280, "height": 900}}

STUDY = """
name = "seen"
schedules = ["only-itc", "turn"]
prompts = ["a red circle", "three", "a </script> sign", "a dot above a line", "five", "six", "seven and", "eight is",
  "ten", "eleven", "twelve of them", "thirteen"]
metrics = ["brightness", "judge:guidance=tiny-vl,device=cpu"]
seeds = 2
steps = 6
device = "cpu"
snapshots = 4

[[grid]]
name = "objects"
perturbations = ["typo:edits=1"]

[[grid]]
name = "steps"
steps = [3, 6]
seeds = 1
options = { dose = ["plain", "matched"], dose_steps = 6 }
"""

CONTRAST = """() => {
  const parse = (c) => { const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const v = c.slice(0, 3).map((x) => { x /= 255;
    return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > 0) return c; } return [255, 255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll("body *:not(script, style, option)")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e instanceof SVGElement || !e.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(e.outerHTML.slice(0, 150));
  }
  return found;
}"""
"""Texts whose contrast is below 4.5 (WCAG 2.1, 1.4.3)."""

NAMES = """() => [...document.querySelectorAll(
  "input, select, button, a, img, dialog, [role=region], [role=table], [role=img]")]
  .filter((e) => e.checkVisibility() && !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")
    || e.getAttribute("aria-labelledby") || e.alt || e.querySelector("img")?.alt))
  .map((e) => e.outerHTML.slice(0, 150))"""
"""Elements without a name."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("seen") / "run"
    plugins = PluginManager.load((tiny_world.__file__,), environment={})
    assert run_study(parse_study(STUDY, label="s.toml"), out=out, plugins=plugins).complete
    write_study_report(load_study(out))
    return out


class Visit:
    """A page that was opened, with what it asked for and what went wrong."""

    def __init__(self, browser: Any, run: Path, hash_: str = "", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.wrong.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.goto(f"file://{run / 'report.html'}{hash_}")

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert not self.wrong
        assert all(url.startswith(("file:", "data:")) for url in self.asked)


def key_of(run: Path, **values: Any) -> str:
    return next(c["key"] for c in load_study(run).cells if all(c[k] == v for k, v in values.items()))


def hash_of(page: Any) -> str:
    return str(page.evaluate("location.hash"))


def open_dialog(page: Any) -> bool:
    return bool(page.evaluate("document.getElementById('detail').open"))


def until(page: Any, expression: str, value: Any) -> None:
    """Wait for a value, looking from outside: the page's policy forbids what wait_for_function does."""
    for _ in range(200):
        if page.evaluate(expression) == value:
            return
        page.wait_for_timeout(50)
    assert page.evaluate(expression) == value


def settle(page: Any, closed: bool) -> None:
    until(page, "document.getElementById('detail').open", not closed)


def test_an_address_opens_and_the_back_button_closes(browser: Any, done: Path) -> None:
    with Visit(browser, done, **DESKTOP) as page:
        first = page.locator("#list a.picture").first
        key = first.get_attribute("data-key")
        first.focus()
        page.keyboard.press("Enter")
        settle(page, closed=False)
        assert hash_of(page) == f"#{key}"
        page.keyboard.press("ArrowRight")
        turned = hash_of(page)
        assert turned not in ("", f"#{key}")
        page.go_back()
        settle(page, closed=True)
        assert hash_of(page) == ""
        page.go_forward()
        settle(page, closed=False)
        assert hash_of(page) == turned
        page.keyboard.press("Escape")
        settle(page, closed=True)
        until(page, "location.hash", "")


def test_an_address_from_elsewhere_leads_to_its_grid(browser: Any, done: Path) -> None:
    """Far down in a grid that is not shown at first: it opens, closes on the page, and one can turn from it."""
    key = key_of(done, grid="steps", steps=3, clean="thirteen", schedule="turn")
    with Visit(browser, done, f"#{key}", **DESKTOP) as page:
        assert open_dialog(page)
        assert "thirteen" in page.locator("#detail-title").inner_text()
        assert page.locator("#grid").input_value() == "steps"
        assert page.locator("code").last.inner_text().endswith(f"{key}.png")
        page.locator("#previous").click()
        assert hash_of(page) not in ("", f"#{key}")
        page.locator("#close").click()
        settle(page, closed=True)
        until(page, "location.hash", "")
        assert page.locator("#list article").count() == 12


def test_a_wrong_address_opens_nothing(browser: Any, done: Path) -> None:
    for hash_ in ("#0123", "#toString", "#charts"):
        with Visit(browser, done, hash_, **DESKTOP) as page:
            assert not open_dialog(page)


def shown(page: Any) -> str:
    """What the large picture shows: the frame's place in its sheet, or the picture itself."""
    return str(
        page.evaluate(
            """() => { const f = document.querySelector(".stage .frame");
            return f.hidden ? "picture" : f.style.backgroundImage + " " + f.style.backgroundPosition; }"""
        )
    )


def test_steps_of_a_picture_by_keys(browser: Any, done: Path) -> None:
    key = key_of(done, grid="objects", schedule="turn", perturbation="none")
    with Visit(browser, done, f"#{key}", **DESKTOP) as page:
        slider = page.locator("#frame")
        assert shown(page) == "picture"
        slider.focus()
        page.keyboard.press("Home")
        assert shown(page) == f'url("trajectories/{key}.png") 0% 0px'
        assert slider.get_attribute("aria-valuetext") == "step 1 of 6"
        page.keyboard.press("ArrowRight")
        assert shown(page).endswith("33.3333% 0px")
        assert hash_of(page) == f"#{key}"  # arrows on the slider turn no page
        page.locator("#what").select_option("itc")
        assert shown(page) == f'url("trajectories/{key}-saliency.png") 33.3333% 100%'  # second of cap, itc
        page.keyboard.press("Tab")
        slider.focus()
        page.keyboard.press("End")
        assert shown(page) == "picture"


def test_play_goes_through_all_steps_and_stops(browser: Any, done: Path) -> None:
    key = key_of(done, grid="objects", schedule="turn")
    with Visit(browser, done, f"#{key}", **DESKTOP) as page:
        page.evaluate(
            """() => { window.seen = []; new MutationObserver(() => {
            seen.push(document.querySelector(".player output").textContent); }).observe(
            document.querySelector(".player output"), { childList: true }); }"""
        )
        assert page.locator("#play").inner_text() == "Play"
        page.locator("#play").click()
        assert page.locator("#play").inner_text() == "Pause"
        until(page, "seen.at(-1)", "the picture")
        assert page.evaluate("seen") == [*(f"step {n} of 6" for n in (1, 3, 4, 6)), "the picture"]
        assert page.locator("#play").inner_text() == "Play"
        page.wait_for_timeout(1500)
        assert page.evaluate("seen.length") == 5  # once, not for ever
        page.locator("#play").click()
        page.locator("#play").click()
        assert page.locator("#play").inner_text() == "Play"
        before = shown(page)
        page.wait_for_timeout(1500)
        assert shown(page) == before


def test_nothing_moves_for_who_asks_for_less_motion(browser: Any, done: Path) -> None:
    key = key_of(done, grid="objects", schedule="turn")
    with Visit(browser, done, f"#{key}", reduced_motion="reduce", **DESKTOP) as page:
        assert page.locator("#play").inner_text() == "Next"
        page.locator("#play").click()
        assert page.locator(".player output").inner_text() == "step 1 of 6"
        page.wait_for_timeout(1500)
        assert page.locator(".player output").inner_text() == "step 1 of 6"
        page.locator("#play").click()
        assert page.locator(".player output").inner_text() == "step 3 of 6"


def test_maps_stand_under_their_frames(browser: Any, done: Path) -> None:
    key = key_of(done, grid="objects", schedule="turn")
    for options in (DESKTOP, PHONE):
        with Visit(browser, done, f"#{key}", **options) as page:
            rows = page.locator("table.strips tbody tr")
            assert rows.locator("th").all_inner_texts() == ["x0", "cap", "itc"]
            places = [
                [round(box["x"]) for frame in row.locator(".frame").all() if (box := frame.bounding_box())]
                for row in rows.all()
            ]
            assert len(places[0]) == 4
            assert places == [places[0]] * 3
            assert rows.nth(1).locator("td span").last.inner_text() == "inactive"  # cap ends at weight 0
            assert rows.nth(2).locator("td span").first.inner_text() == "inactive"
            assert "|∂L/∂x0|" in page.locator("#telemetry").inner_text()


def test_a_comparison_without_steps_kept(browser: Any, tmp_path: Path) -> None:
    """There is nothing to play then, and nothing is said of it."""
    plugins = PluginManager.load((tiny_world.__file__,), environment={})
    compare(
        sampling=Sampling(steps=3),
        prompts=["a red circle"],
        schedules=["only-itc", "turn"],
        seeds=2,
        out=tmp_path / "c",
        plugins=plugins,
    )
    write_study_report(load_study(tmp_path / "c"))
    with Visit(browser, tmp_path / "c", **PHONE) as page:
        assert columns_of(page) == ["only-itc", "turn"]
        page.locator("#list a.picture").first.click()
        settle(page, closed=False)
        assert page.locator("#play, table.strips").count() == 0
        assert page.locator("#telemetry svg").count() > 0
        assert page.locator("#telemetry svg text").last.text_content() == "3"


HEADINGS = """(cells) => cells.map((cell) => [...cell.childNodes]
  .filter((n) => n.nodeName !== "SMALL" && n.nodeName !== "Q").map((n) => n.textContent).join(""))"""


def columns_of(page: Any) -> list[str]:
    return list(page.locator("#list article:first-child thead th").evaluate_all(HEADINGS))


def rows_of(page: Any) -> list[str]:
    return list(page.locator("#list article:first-child tbody th").evaluate_all(HEADINGS))


def test_grids_are_laid_out_like_the_papers_figures(browser: Any, done: Path) -> None:
    with Visit(browser, done, **DESKTOP) as page:
        assert columns_of(page) == ["clean", "typo:edits=1"]  # figure 5
        assert rows_of(page) == ["only-itc", "turn"]
        typo = page.locator("#list article").first.locator("thead th q").text_content()
        assert typo in {c["prompt"] for c in load_study(done).cells if c["edits"] == 1}
        assert (
            page.locator("#list article").first.locator("tbody td").first.locator("a").count() == 2
        )  # seeds
        page.locator("#across").select_option("schedule")  # figures 1, 4 and 7
        assert columns_of(page) == ["only-itc", "turn"]
        assert rows_of(page) == ["clean", "typo:edits=1"]
        page.locator("#grid").select_option("steps")  # figures 2 and 6
        assert columns_of(page) == ["3 steps", "6 steps"]
        assert rows_of(page) == [f"{s}, dose {d}" for d in ("plain", "matched") for s in ("only-itc", "turn")]
        assert "figures 2 and 6" in page.locator("#count").inner_text()
        # Every picture stands where its steps and schedule say.
        study = load_study(done)
        for row, schedule in ((0, "only-itc"), (1, "turn")):
            for column, steps in ((0, 3), (1, 6)):
                field = (
                    page.locator("#list article").first.locator("tbody tr").nth(row).locator("td").nth(column)
                )
                key = field.locator("a").get_attribute("data-key")
                cell = study.keys[key]
                assert (cell["schedule"], cell["steps"], cell["options"].get("dose", "plain")) == (
                    schedule,
                    steps,
                    "plain",
                )
        page.locator("#schedules input").first.uncheck()
        assert rows_of(page) == ["turn, dose plain", "turn, dose matched"]
        page.locator("#text").fill("dot")
        assert page.locator("#list article").count() == 1


@pytest.mark.parametrize("options", [DESKTOP, PHONE, {**DESKTOP, "color_scheme": "dark"}])
def test_everything_can_be_read(browser: Any, done: Path, options: dict[str, Any]) -> None:
    """No sideways scrolling of the page, no faint text, nothing without a name; with a picture open as well."""
    with Visit(browser, done, **options) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        for _ in range(2):
            width = options["viewport"]["width"]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate(NAMES) == []
            if not open_dialog(page):
                page.locator("#list a.picture").first.click()
                settle(page, closed=False)
                assert (
                    page.evaluate(
                        "(d) => d.scrollWidth - d.clientWidth", page.locator("#detail").element_handle()
                    )
                    <= 0
                )
