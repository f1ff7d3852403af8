"""The sample packages: installed as a user installs them, they use public names only, and keep their contracts.

They are installed into a folder that is laid over the test environment, not into it: what `compare` does by
default depends on which plugins are there.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import guidelens
import guidelens.testing
import numpy as np
import pytest
from PIL import Image
from plugin_worlds import run_cli

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PACKAGES = sorted(path.parent for path in EXAMPLES.glob("*/pyproject.toml"))
TINY = ("-p", "guidelens.testing.tiny")


def module_of(package: Path) -> str:
    return package.name.replace("-", "_")


def plugin_of(package: Path) -> str:
    return package.name.removeprefix("guidelens-")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages, built and installed from copies, without the network."""
    folder = tmp_path_factory.mktemp("examples")
    copies = [folder / package.name for package in PACKAGES]
    for package, copy in zip(PACKAGES, copies, strict=True):
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
        *("--no-build-isolation", "--disable-pip-version-check", "--target", str(folder / "site")),
    ]
    done = subprocess.run(
        [*command, *map(str, copies)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(params=["entry point", "module", "file"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(package: Path, way: str, installed: Path) -> tuple[str, Path | None]:
    """Return what ``-p`` is given for a way of finding a plugin, and what is on the search path then."""
    if way == "entry point":
        return plugin_of(package), installed
    if way == "module":
        return module_of(package), package
    return str(package / f"{module_of(package)}.py"), None


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_there_are_two() -> None:
    assert [package.name for package in PACKAGES] == ["guidelens-cosine-shift", "guidelens-make-it-red"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_they_use_public_names_only(package: Path) -> None:
    public = {"guidelens": guidelens.__all__, "guidelens.testing": guidelens.testing.__all__}
    others = {*sys.stdlib_module_names, "torch", "pytest", module_of(package)}
    for path in package.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for module, name in imports(tree):
            if module.partition(".")[0] == "guidelens":
                assert name in public[module], f"{path.name} imports {name!r} of {module}"
            else:
                assert module.partition(".")[0] in others, module
        private = [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")
        ]
        assert not private, f"{path.name} reaches into {private}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_they_are_found(package: Path, way: str, installed: Path) -> None:
    request, path = ask(package, way, installed)
    done = run_cli("plugins", "list", "--json", "-p", request, path=path)
    assert (done.returncode, done.stderr) == (0, "")
    named = plugin_of(package) if way == "entry point" else module_of(package)
    (found,) = [plugin for plugin in json.loads(done.stdout) if plugin["name"] == named]
    assert found["status"] == "ok"
    assert found["distribution"] == (package.name if way == "entry point" else None)
    offered = [(c["kind"], c["name"]) for c in found["components"]]
    assert (
        offered
        == {
            "cosine-shift": [("schedule", "cosine-shift")],
            "make-it-red": [("guidance", "red"), ("guidance", "with-red")],
        }[plugin_of(package)]
    )


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_they_keep_their_contracts(package: Path, way: str, installed: Path) -> None:
    request, path = ask(package, way, installed)
    # The wrapper, around the networks of the shapes world, takes longer: see the next test.
    specs = (
        ["red"]
        if plugin_of(package) == "make-it-red"
        else ["cosine-shift", "cosine-shift:warmup=0,start=itm"]
    )
    done = run_cli("plugins", "check", request, *specs, "--json", path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = json.loads(done.stdout)["components"]
    assert [r["component"] for r in reports] == [
        specs[0],
        *(["cosine-shift:start=itm,warmup=0.0"] * (len(specs) > 1)),
    ]
    assert {check["status"] for report in reports for check in report["checks"]} == {"passed"}


@pytest.mark.slow
def test_the_wrapper_keeps_its_contract_around_a_real_model(installed: Path) -> None:
    done = run_cli("plugins", "check", "make-it-red", "with-red:model=shapes", "--json", path=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)["components"]
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert set(statuses.values()) == {"passed"}, statuses
    numbers = {check["name"]: check["numbers"] for check in report["checks"]}
    assert set(numbers["default-scales"]) == {"itc", "itm", "cap", "red"}


def test_the_schedule_draws(installed: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    args = ("--schedule", "cosine-shift:warmup=0.3", "--steps", "3", "--out", str(picture))
    done = run_cli("generate", "a red circle", *TINY, *args, path=installed)
    assert done.returncode == 0, done.stderr
    assert picture.is_file()


def test_the_objective_draws(installed: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    args = ("--guidance", "red", "--schedule", "objective:name=red", "--steps", "10", "--out", str(picture))
    done = run_cli("generate", "anything", *TINY, *args, path=installed)
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as drawn:
        red, green, blue = np.asarray(drawn.convert("RGB")).mean(axis=(0, 1))
    assert red > 1.2 * max(green, blue)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_their_own_tests_pass(package: Path, installed: Path, tmp_path: Path) -> None:
    for test in package.glob("test_*.py"):
        shutil.copy(test, tmp_path)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GUIDELENS_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_nothing_is_left_in_the_tree(installed: Path) -> None:
    assert installed.is_dir()
    for package in PACKAGES:
        assert not (package / "build").exists()
