"""The site builds strictly, and what it says of the program is so: pages, components, messages, notebooks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest
from axe_rules import violations
from chromium import PHONE, browser
from guidelens.plugins import PluginManager
from guidelens_paper.claims import CLAIMS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["browser"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCES = [path for root in ("core", "plugins") for path in sorted((ROOT / root).rglob("*.py"))]
JOINED = re.compile(r'"\s*\n\s*f?"')
"""Where one string literal ends and the next one goes on."""


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    sys.path.insert(0, str(DOCS / "site"))
    try:
        import reference
    finally:
        sys.path.remove(str(DOCS / "site"))
    return reference


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: dead links, dead anchors, unknown names and pages out of reach are errors."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    library = (site / "reference" / "api" / "library.html").read_text(encoding="utf-8")
    assert "images/gallery/forming.webp" in home
    assert '<code class="objective c3">shift</code>' in home
    assert 'id="guidelens.engine.Engine.stream"' in library
    assert ":class:" not in library


@pytest.mark.slow
def test_search_works_from_disk_and_asks_the_net_for_nothing(browser: Any, site: Path) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.locator(".md-search__input").click()
    page.keyboard.type("forest plot")
    found = page.locator(".md-search-result__link")
    found.first.wait_for()
    assert any("figures.html" in link for link in found.evaluate_all("all => all.map(each => each.href)"))
    assert asked
    assert all(address.startswith("file:") for address in asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"viewport": {"width": 1280, "height": 900}}, PHONE], ids=["desk", "phone"]
)
@pytest.mark.parametrize("name", ["index", "tutorial", "findings"])
def test_pages_can_be_read(browser: Any, site: Path, name: str, options: dict[str, Any]) -> None:
    page = browser.new_context(**options).new_page()
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_timeout(300)  # a frame, after which the page has tended what scrolls
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_the_front_page_leads_with_its_picture(browser: Any, site: Path) -> None:
    page = browser.new_context(**PHONE).new_page()
    page.goto((site / "index.html").as_uri())
    box = page.locator("article img").first.bounding_box()
    assert box["y"] + box["height"] < PHONE["viewport"]["height"]


def test_readme_lists_the_built_in_components(reference: ModuleType) -> None:
    found = reference.TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    assert found[2] == reference.components_table(PluginManager.load()), "run python docs/site/reference.py"


def test_the_command_reference_has_every_command(reference: ModuleType) -> None:
    page = reference.cli_page(PluginManager.load())
    for command in ("guidelens", "guidelens compare", "guidelens study run", "guidelens shapes train-blip"):
        assert re.search(rf"^#+ {command}$", page, re.MULTILINE), command
    assert "--objective-scale NAME=VALUE" in page
    assert page.count("Usage: ") == len(re.findall(r"^#+ guidelens", page, re.MULTILINE))


def test_the_component_reference_has_every_option(reference: ModuleType) -> None:
    plugins = PluginManager.load()
    page = reference.components_page(plugins)
    for plugin in plugins.plugins:
        for info in plugin.components:
            heading = f"### `{info.name}` {{ #{info.kind}-{info.name} }}"
            section = page.partition(heading)[2].partition("\n###")[0]
            assert section, heading
            assert all(f"| `{o.name}` |" in section for o in info.options if o.name != "*")


def _messages() -> list[str]:
    text = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("faq.md", "reproducibility.md"))
    blocks = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("error: ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("message", _messages())
def test_quoted_messages_are_in_the_source(message: str) -> None:
    """Each piece between the parts that vary, in the order of the message, within one string of the source."""
    pieces = [piece.strip(" ;:,") for piece in message.split("…")]
    pieces = [re.escape(piece) for piece in pieces if len(piece) > 2]
    assert pieces
    pattern = re.compile(r"(?:(?!\n\s*\n).){0,120}?".join(pieces), re.DOTALL)
    assert any(pattern.search(JOINED.sub("", path.read_text(encoding="utf-8"))) for path in SOURCES)


def test_the_architecture_page_names_files_that_are_there() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w/]+\.py)\b", text) if "NAME" not in name}
    folders = set(re.findall(r"(?<![\w/])([a-z]+)/(?= )", text.partition("```text")[2].partition("```")[0]))
    core = ROOT / "core" / "guidelens"
    assert len(named) > 15
    assert len(folders) > 8
    assert not [name for name in named if not ((core / name).is_file() or (ROOT / name).is_file())]
    assert not [name for name in folders if not ((core / name).is_dir() or (ROOT / name).is_dir())]


def test_the_page_on_the_paper_names_what_is_there() -> None:
    text = (DOCS / "paper.md").read_text(encoding="utf-8")
    named = re.findall(r"`(guidelens[\w.]*\.\w+)`", text)
    assert len(named) >= 4
    for name in named:
        assert resolve_name(name) is not None
    (study,) = [s for s in PluginManager.load().studies() if s.name == "findings"]
    grids = {grid["name"] for grid in tomllib.loads(study.path.read_text(encoding="utf-8"))["grid"]}
    rows = re.findall(r"^\| (F\d) \|[^|]*\| ([^|]*) \|", text, re.MULTILINE)
    assert [claim for claim, _ in rows] == [claim.id for claim in CLAIMS]
    assert {name for _, cell in rows for name in re.findall(r"`([\w-]+)`", cell)} <= grids


NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    assert path.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code cells, in order, in one namespace, as a kernel would; with fewer steps than a reader takes."""
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    space: dict[str, object] = {"__name__": path.stem}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace("steps=50", "steps=6").replace("steps = 25", "steps = 4")
            exec(compile(source.replace("limit=6", "limit=2"), path.name, "exec"), space)
    if path.stem == "explore":
        assert len(space["history"]) == 6  # type: ignore[arg-type]
        assert space["side_by_side"].size == (576, 192)  # type: ignore[attr-defined]
    else:
        assert len(space["difference"]) == 4  # type: ignore[arg-type]
        assert space["low"] <= space["high"]  # type: ignore[operator]
