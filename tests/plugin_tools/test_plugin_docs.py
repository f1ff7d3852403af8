"""The plugin pages are held to the code: signatures, examples, and the tutorial from its first line to its last."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environments import OFFLINE, Environment
from guidelens import contracts, hookspecs
from guidelens.plugins import KINDS, PluginManager

DOCS = Path(__file__).parents[2] / "docs" / "plugins"
HOOKS = [name for name in vars(hookspecs) if name.startswith("register_")]
CALLBACKS = [
    hookspecs.Register,
    hookspecs.RegisterWeights,
    hookspecs.RegisterStudies,
    hookspecs.RegisterClaims,
    hookspecs.RegisterReportSections,
]
CONTRACTS = [contracts.Generator, contracts.GuidanceModel, contracts.Schedule, contracts.Metric]
DATA = [contracts.TextBatch, contracts.Prompt, contracts.Fact, contracts.Column]


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next heading of its level or a higher one."""
    match = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z|^### )", text, re.MULTILINE | re.DOTALL
    )
    assert match, f"no section {title!r}"
    return match[2]


def signature(function: Any, name: str, *, bound: bool = False) -> str:
    """Write a signature as the pages do: annotations as they are in the source, defaults as values."""
    found = inspect.signature(function)
    if bound:
        found = found.replace(parameters=list(found.parameters.values())[1:])
    text = f"{name}{found}".replace("<factory>", "{}")
    return re.sub(r"(?<=: |> )'([^']*)'", r"\1", text).replace("''", '""')


def members(protocol: type) -> Iterator[str]:
    for name, value in vars(protocol).items():
        if isinstance(value, property):
            yield f"{name}: {value.fget.__annotations__['return']}"  # type: ignore[union-attr]
        elif inspect.isfunction(value) and (name == "__call__" or not name.startswith("_")):
            yield signature(value, name)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_its_section_with_its_signature(hook: str) -> None:
    first = blocks(section(read("hooks.md"), hook), "text")[0]
    assert first.strip() == signature(getattr(hookspecs, hook), hook)


def test_there_are_no_sections_of_other_hooks() -> None:
    assert re.findall(r"^## (register_\w+)$", read("hooks.md"), re.MULTILINE) == HOOKS


def test_the_callbacks() -> None:
    page = read("hooks.md")
    told = [block.strip() for block in blocks(page, "text") if block.startswith("register(")]
    wanted = [signature(protocol.__call__, "register", bound=True) for protocol in CALLBACKS]  # type: ignore[operator]
    assert [line.replace(", /", "") for line in wanted] == told
    parameters = list(inspect.signature(hookspecs.Register.__call__).parameters)[1:]
    assert re.findall(r"^\| `(\w+)` \|", section(page, "register"), re.MULTILINE) == parameters


@pytest.mark.parametrize("protocol", CONTRACTS, ids=lambda protocol: protocol.__name__)
def test_every_contract_has_its_members(protocol: type) -> None:
    first = blocks(section(read("contracts.md"), protocol.__name__), "text")[0]
    assert first.splitlines() == list(members(protocol))


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
def test_the_data_that_contracts_speak_of(data: type) -> None:
    (first,) = blocks(section(read("contracts.md"), data.__name__), "text")
    assert first.strip() == signature(data, data.__name__).removesuffix(" -> None")


def test_the_roles_are_listed() -> None:
    """With what each means, word for word."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section(read("contracts.md"), "Column"), re.MULTILINE)
    assert dict(rows[-len(contracts.ROLES) :]) == dict(contracts.ROLES)


def test_the_version_is_told() -> None:
    assert f"This is version {contracts.CONTRACT_VERSION}:" in read("contracts.md")
    assert f"`guidelens_contract = {contracts.CONTRACT_VERSION}`" in read("hooks.md")


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_every_hook_is_a_plugin(hook: str, tmp_path: Path) -> None:
    (example,) = blocks(section(read("hooks.md"), hook), "python")
    path = tmp_path / f"example_{hook}.py"
    path.write_text(example, encoding="utf-8")
    manager = PluginManager.load([str(path)], environment={})
    plugin = manager.plugin(path.stem)
    assert plugin.hooks == (hook,)
    if hook == "register_commands":
        from click.testing import CliRunner

        ((_, name, command),) = [found for found in manager.commands() if found[0] is plugin]
        done = CliRunner().invoke(command, ["shift"], obj=manager)
        assert (name, done.output) == ("middle", "{'cap': 0.5, 'itc': 0.5}\n")
        return
    kinds = [kind.name for kind in KINDS.values() if kind.hook == hook]
    assert [component.kind for component in plugin.components] == kinds
    if hook in ("register_schedules", "register_metrics", "register_prompt_sets"):
        assert plugin.components[0].configure({}).build() is not None


def test_the_index_is_complete() -> None:
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in read("index.md"), page.name


# -- the tutorial

STEP = re.compile(
    r"^`(?P<path>[\w./-]+)`\n\n```python\n(?P<text>.*?)^```|^```\n(?P<commands>.*?)^```|^```text\n(?P<told>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.slow
def test_the_tutorial_works(environment: Environment, tmp_path: Path) -> None:
    shown, written = "", []
    (tmp_path / "conftest.py").write_text("")  # pytest looks no further up for its root
    try:
        for step in STEP.finditer(read("tutorial.md")):
            if step["path"]:
                path = tmp_path / step["path"]
                assert "/" not in step["path"] or path.is_file(), f"{step['path']} is none that `new` writes"
                path.write_text(step["text"], encoding="utf-8")
                written.append(step["path"])
            elif step["commands"]:
                for line in step["commands"].splitlines():
                    shown += run(environment, line, tmp_path)
            else:
                lines = shown.splitlines()
                for line in step["told"].splitlines():  # a line that was shown, or a file with a remark
                    assert line in lines or line.split()[0] in lines, line
    finally:
        environment.guidelens("uninstall", "-y", "mirror-lens", check=False)
    assert len(written) == 4
    assert asymmetry(tmp_path / "mirror.png") < 0.02 < 0.05 < asymmetry(tmp_path / "plain.png")
    assert (tmp_path / "runs" / "mirror" / "index.html").is_file()


def run(environment: Environment, line: str, folder: Path) -> str:
    """Run a command of the tutorial, offline; return what it printed."""
    program, *arguments = shlex.split(line)
    if program == "pytest":
        done = environment.run("-m", "pytest", "-p", "no:cacheprovider", *arguments, cwd=folder)
        assert re.search(r"\d+ passed in ", done.stdout.splitlines()[-1]), done.stdout
        return done.stdout
    assert program == "guidelens", line
    extra = OFFLINE if arguments[0] == "install" else ()
    return environment.guidelens(*arguments, *extra, cwd=folder).stdout


def asymmetry(path: Path) -> float:
    """Mean squared difference of a picture, in [-1, 1], to its mirror image."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) / 127.5 - 1
    return float(((pixels - pixels[:, ::-1]) ** 2).mean())


if sys.platform == "win32":  # pragma: no cover - paths in the tutorial are written with slashes
    pytestmark = pytest.mark.skip(reason="the pages write paths as POSIX does")
