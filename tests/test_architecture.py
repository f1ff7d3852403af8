"""What may import what, and what stays unloaded: read from the sources, and from fresh processes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import guidelens
import pytest
from plugin_worlds import run_python

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core" / "guidelens"
PLUGINS = sorted(p for p in (ROOT / "plugins").iterdir() if (p / "__init__.py").is_file())
HEAVY = ("torch", "torchvision", "lavis", "transformers", "numpy", "scipy", "PIL", "rich")

MAX_MODULE_LINES = 600


def sources(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, function bodies included, but not what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from runtime_nodes(node)


def imported(tree: ast.Module, path: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import at run time, the name empty for ``import module``.

    :param path: of the module, relative to the repository; without it relative imports are left out.
    """
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (not node.level or path is not None):
            here = path.parts[1 : -node.level] if path is not None and node.level else ()
            module = ".".join([*here, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def layers() -> dict[str, int]:
    """Return the height of each top-level module of core as the drawing of docs/architecture.md has it."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text[text.index("\n core/guidelens/") + 1 : text.index("\n plugins/ ")].splitlines()[1:]
    lines = [re.findall(r"([a-z_]+)(?:\.py|/)", line.partition("#")[0]) for line in drawing]
    return {name: -depth for depth, names in enumerate(filter(None, lines)) for name in names}


MAX_FUNCTION_LINES = 60


def test_there_is_something_to_check() -> None:
    assert len(list(sources(CORE))) > 10
    assert {"guidelens_blip", "guidelens_schedules", "guidelens_worlds"} <= {p.name for p in PLUGINS}


def test_core_names_no_plugin_package() -> None:
    names = "|".join(plugin.name for plugin in PLUGINS)
    for path in sorted(CORE.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".html", ".css", ".js", ".txt", ".md", ".tmpl"):
            found = re.findall(rf"\b(?:{names})\b", path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found}"


def test_core_knows_no_plugin_by_name() -> None:
    """In no text that runs; docstrings may give examples. "schedules", "paper", "pixels" are ordinary words too."""
    points = metadata.entry_points(group="guidelens")
    ours = {point.name for point in points if point.dist is not None and point.dist.name == "guidelens"}
    names = "|".join(sorted(ours - {"schedules", "paper", "pixels"}))
    assert "blip" in names
    for path, tree in sources(CORE):
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        found = [
            node.value
            for node in texts
            if id(node) not in said and re.search(rf"(?<![\w./-])({names})(?![\w-])", node.value)
        ]
        assert not found, f"{path} names {found}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_plugins_use_only_the_face_of_other_plugins(plugin: Path) -> None:
    for path, tree in sources(plugin):
        for module, name in imported(tree):
            top = module.partition(".")[0]
            if top.startswith("guidelens_") and top != plugin.name:
                assert module == top, f"{path} reaches into {module}; import from {top}"
                assert not name.startswith("_"), f"{path} imports the private {module}.{name}"


def test_the_drawing_has_every_package_of_core() -> None:
    there = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert set(layers()) == there - {"__init__"}


def test_core_imports_downwards_only() -> None:
    """Also inside functions: a late import of what lies higher is a circle all the same."""
    height = layers()
    upward = set()
    for path, tree in sources(CORE):
        own = path.relative_to("core/guidelens").parts[0].removesuffix(".py")
        module = ".".join(path.relative_to("core").with_suffix("").parts)
        for source, name in imported(tree, path):
            package, _, below = source.partition(".")
            if package != "guidelens" or own == "__init__":
                continue
            target = below.partition(".")[0] or guidelens._HOME.get(name, name).partition(".")[0]
            if target.startswith("__") or target == own:
                continue
            if height[target] >= height[own]:
                upward.add((module, target))
    assert not upward


def test_modules_of_a_package_do_not_import_each_other() -> None:
    """No two modules anywhere in core import each other, directly or through others."""
    needs: dict[str, set[str]] = {}
    for path, tree in sources(CORE):
        module = ".".join(path.relative_to("core").with_suffix("").parts).removesuffix(".__init__")
        needs[module] = {
            f"{source}.{name}" if f"{source}.{name}" in modules_of_core() else source
            for source, name in imported(tree, path)
        }
    assert list(circles(needs)) == []


def modules_of_core() -> set[str]:
    return {".".join(p.relative_to(ROOT / "core").with_suffix("").parts) for p in CORE.rglob("*.py")}


def circles(needs: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield the circles that a depth-first walk finds, each as the modules along it."""
    done: set[str] = set()

    def walk(module: str, above: list[str]) -> Iterator[list[str]]:
        if module in above:
            yield above[above.index(module) :]
        elif module not in done:
            for other in sorted(needs.get(module, set())):
                yield from walk(other, [*above, module])
            done.add(module)

    for module in sorted(needs):
        yield from walk(module, [])


def test_circles_are_found() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == [["b", "c"]]
    assert list(circles({"a": {"b", "c"}, "b": {"c"}})) == []


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_built_in_plugins_use_only_public_modules(plugin: Path) -> None:
    """What docs/plugins/contracts.md lets third parties import."""
    page = (ROOT / "docs" / "plugins" / "contracts.md").read_text(encoding="utf-8")
    section = page[page.index("## What a plugin may import") :]
    public = set(re.findall(r"`(guidelens[a-z_.]*)`", "".join(re.findall(r"^\| `.*?\|", section, re.M))))
    for path, tree in sources(plugin):
        for module, name in imported(tree):
            if module.partition(".")[0] == "guidelens":
                used = f"{module}.{name}" if f"{module}.{name}" in public else module
                assert used in public, f"{path} imports {module}, which is not public"
                assert not name.startswith("_") or name == "__version__", f"{path} imports {module}.{name}"


@pytest.mark.parametrize("folder", [CORE, *PLUGINS], ids=lambda p: p.name)
def test_functions_stay_short(folder: Path) -> None:
    for path, tree in sources(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                name = f"{path.as_posix()}: {node.name}"
                assert lines <= MAX_FUNCTION_LINES, f"{name} has {lines} lines"


@pytest.mark.parametrize("folder", [CORE, *PLUGINS], ids=lambda p: p.name)
def test_modules_say_what_they_are_for_and_stay_short(folder: Path) -> None:
    for path, tree in sources(folder):
        assert ast.get_docstring(tree), f"{path} has no docstring"
        lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
        assert lines <= MAX_MODULE_LINES, f"{path} has {lines} lines"


def test_the_library_does_not_print() -> None:
    for path, tree in sources(CORE):
        if path.parts[2] == "cli":
            continue
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        assert not [c.lineno for c in calls if c.func.id == "print"], f"{path} prints"  # type: ignore[attr-defined]


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules in a fresh process after ``code``."""
    shown = run_python(f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))").splitlines()[-1]
    return {name.partition(".")[0] for name in shown.split()}


def test_import_is_light() -> None:
    loaded = loaded_after("import guidelens; guidelens.UsageError; guidelens.hookimpl; guidelens.Prompt")
    assert loaded.isdisjoint(HEAVY)
    assert not [name for name in loaded if name.startswith("guidelens_")]


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["plugins", "list"],
        ["weights", "list"],
        ["plugins", "show", "schedules"],
        ["plugins", "show", "shift"],
        ["plugins", "new", "--help"],
        ["install", "--help"],
        ["compare", "--help"],
        ["generate", "-h"],
        ["bench", "--help"],
    ],
)
def test_help_and_listings_load_nothing_heavy(args: list[str]) -> None:
    loaded = loaded_after(
        f"from guidelens.cli.main import cli\ntry:\n    cli({args!r})\nexcept SystemExit: pass"
    )
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))
    assert "guidelens_schedules" in loaded


def test_help_imports_no_command() -> None:
    code = "from guidelens.cli.main import cli\ntry:\n    cli(['--help'])\nexcept SystemExit: pass\n"
    names = run_python(f"{code}import sys; print('\\n' + ' '.join(n for n in sys.modules if '.cmd_' in n))")
    assert names.splitlines()[-1].strip() == ""


def test_public_names_exist() -> None:
    for name in guidelens.__all__:
        assert getattr(guidelens, name) is not None
    assert set(guidelens.__all__) <= set(dir(guidelens))
    assert set(guidelens._HOME) == set(guidelens.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = guidelens.nothing


def test_no_test_asserts_on_seconds() -> None:
    """A busy machine is no bug: timings are printed or benchmarked, not asserted."""
    clocks = {"time", "perf_counter", "monotonic", "process_time", "perf_counter_ns", "monotonic_ns"}
    for path, tree in sources(ROOT / "tests"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                of = getattr(getattr(node.func, "value", None), "id", "time")
                assert not (called in clocks and of == "time"), f"{path}:{node.lineno} reads a clock"
