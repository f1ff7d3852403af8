"""The distribution: its version, entry points, package data and pins agree with the tree."""

from __future__ import annotations

import fnmatch
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import guidelens
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


Pins = dict[str, list[Requirement]]


def read_pins(file: str) -> Pins:
    """Return the pins of each package: one, or several for different Python versions."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins: Pins = {}
    for line in lines:
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


@pytest.fixture(scope="module")
def pins() -> Pins:
    return read_pins("constraints.txt")


def packages() -> list[Path]:
    roots = [ROOT / "core", ROOT / "plugins"]
    return sorted(path.parent for root in roots for path in root.rglob("__init__.py"))


def test_the_version_has_one_source(project: dict[str, Any]) -> None:
    assert metadata.version("guidelens") == guidelens.__version__
    assert "version" not in project["project"]


def test_every_plugin_folder_is_an_entry_point(project: dict[str, Any]) -> None:
    targets = project["project"]["entry-points"]["guidelens"]
    folders = {path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file()}
    assert {target.partition(".")[0] for target in targets.values()} == folders
    for name, target in targets.items():
        module = name.replace("-", "_")
        assert target in (f"guidelens_{module}.plugin", f"guidelens_worlds.{module}.plugin")
        assert (ROOT / "plugins" / target.replace(".", "/")).with_suffix(".py").is_file(), target


def test_packages_are_typed_and_no_folder_is_forgotten() -> None:
    top = [path for path in packages() if path.parent.name in ("core", "plugins")]
    assert len(top) >= 5
    for path in top:
        assert (path / "py.typed").is_file(), path
    for root in ("core", "plugins"):
        for module in (ROOT / root).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), f"{module} lies outside any package"


def test_every_data_file_is_in_the_distribution(project: dict[str, Any]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    known = packages()
    for path in [*(ROOT / "core").rglob("*"), *(ROOT / "plugins").rglob("*")]:
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)  # caches of tools
        if not path.is_file() or path.suffix in (".py", ".pyc") or hidden:
            continue
        owner = next(parent for parent in path.parents if parent in known)
        inside = path.relative_to(owner)
        # As globs go, a star stays within a folder.
        fits = [
            p
            for p in patterns
            if p.count("/") == len(inside.parts) - 1 and fnmatch.fnmatch(inside.as_posix(), p)
        ]
        assert fits, f"{path.relative_to(ROOT)} would be left out; see package-data in pyproject.toml"


def pinned(pins: Pins, name: str, python: str) -> str:
    """Return the release that ``pins`` give a package under a Python version; empty: none."""
    environment = {"python_version": python, "python_full_version": f"{python}.9"}
    fitting = [
        str(pin.specifier).removeprefix("==")
        for pin in pins.get(canonicalize_name(name), [])
        if pin.marker is None or pin.marker.evaluate(environment)
    ]
    assert len(fitting) <= 1, f"{name} has several pins under Python {python}"
    return fitting[0] if fitting else ""


def stated(project: dict[str, Any], *extras: str) -> list[Requirement]:
    """Return what the project requires, with these extras."""
    optional = project["project"]["optional-dependencies"]
    texts = [*project["project"]["dependencies"], *(text for extra in extras for text in optional[extra])]
    return [wanted for wanted in map(Requirement, texts) if wanted.name != "guidelens"]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_dependency_is_pinned_within_its_range(
    project: dict[str, Any], pins: Pins, python: str
) -> None:
    extras = set(project["project"]["optional-dependencies"]) - {"lavis"}
    for wanted in stated(project, *extras):
        if wanted.marker is None or wanted.marker.evaluate({"python_version": python, "extra": ""}):
            version = pinned(pins, wanted.name, python)
            assert version, f"{wanted.name} is not in constraints.txt for Python {python}"
            assert wanted.specifier.contains(version), f"{version} does not fit {wanted}"


@pytest.mark.parametrize("python", ["3.10", "3.11"])
def test_the_pins_for_lavis_hold_what_lavis_needs(project: dict[str, Any], python: str) -> None:
    pins = read_pins("constraints-lavis.txt")
    for wanted in stated(project, "lavis"):
        version = pinned(pins, wanted.name, python)
        if version or python == "3.11":  # 3.10 takes older releases of some
            assert wanted.specifier.contains(version), f"{version or 'nothing'} does not fit {wanted}"
    assert pinned(pins, "numpy", python).startswith("1.")


def test_torch_and_torchvision_are_pinned_as_a_pair(pins: Pins) -> None:
    (torch,), (torchvision,) = pins["torch"], pins["torchvision"]
    assert torch.marker is None
    assert torchvision.marker is None
    assert str(torchvision.specifier) == f"=={metadata.version('torchvision').partition('+')[0]}"
    needs = [Requirement(text) for text in metadata.requires("torchvision") or ()]
    (built_for,) = [need for need in needs if need.name == "torch"]
    assert built_for.specifier.contains(str(torch.specifier).removeprefix("=="))


def test_lavis_is_an_extra_for_the_pythons_that_it_runs_on(project: dict[str, Any]) -> None:
    assert not [wanted for wanted in stated(project) if "lavis" in wanted.name]
    assert not [
        wanted for wanted in stated(project) if wanted.name == "numpy" and "<" in str(wanted.specifier)
    ]
    (lavis,) = [wanted for wanted in stated(project, "lavis") if "lavis" in wanted.name]
    assert lavis.marker is not None
    assert lavis.marker.evaluate({"python_version": "3.11"})
    assert not lavis.marker.evaluate({"python_version": "3.12"})
