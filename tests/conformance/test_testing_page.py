"""docs/plugins/testing.md: its checks, fixtures and options are those of the code, and its example runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import guidelens.testing
import pytest
from guidelens import pytest_plugin
from guidelens.testing import generator, guidance, metric, prompts, schedule

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins" / "testing.md").read_text(encoding="utf-8")
SECTIONS = {
    "Guidance models": guidance,
    "Generators": generator,
    "Schedules": schedule,
    "Metrics": metric,
    "Prompt sets": prompts,
}


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in ``text``, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def section(title: str) -> str:
    return PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


@pytest.mark.parametrize("title", SECTIONS)
def test_every_check_is_listed_in_its_words(title: str) -> None:
    listed = {name.strip("`"): about for name, about in rows(section(title))}
    assert listed == SECTIONS[title].CHECKS.about


def test_every_fixture_is_listed() -> None:
    named = {name for row in rows(section("Fixtures")) for name in re.findall(r"`(guidelens_\w+)`", row[0])}
    assert named == {name for name in vars(pytest_plugin) if name.startswith("guidelens_")}


def test_every_option_is_listed() -> None:
    text = PAGE.partition("| function | options |")[2].partition("\n\n")[0]
    listed = {}
    for function, options in rows(text):
        name = function.strip("`").partition("(")[0]
        listed[name] = {part.partition(":")[0].strip(" `") for part in options.split(";")}
    functions = {name: f for name, f in vars(guidelens.testing).items() if name.startswith("check_")}
    assert listed == {
        name: set(list(inspect.signature(function).parameters)[1:]) for name, function in functions.items()
    }


def test_the_example_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    namespace: dict[str, object] = {}
    exec(compile(block, "testing.md", "exec"), namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()  # type: ignore[operator]


def test_public_names_exist() -> None:
    for name in guidelens.testing.__all__:
        assert getattr(guidelens.testing, name) is not None
