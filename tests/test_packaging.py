"""The distribution: its version, entry points, package data and pins agree with the tree."""

from __future__ import annotations

import fnmatch
import re
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


@pytest.fixture(scope="module")
def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({pin.name for pin in parsed}) == len(parsed)
    return {canonicalize_name(pin.name): pin for pin in parsed}


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
        assert target == f"guidelens_{name.replace('-', '_')}.plugin"
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


def test_every_dependency_is_pinned_within_its_range(
    project: dict[str, Any], pins: dict[str, Requirement]
) -> None:
    stated = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        stated += extra
    for text in stated:
        wanted = Requirement(text)
        if wanted.name == "guidelens":
            continue
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} is not in constraints.txt"
        version = re.fullmatch(r"==(.+)", str(pin.specifier))
        assert version, pin
        assert wanted.specifier.contains(version[1]), f"{pin} lies outside {wanted}"


def test_torch_and_torchvision_are_pinned_as_a_pair(pins: dict[str, Requirement]) -> None:
    torch, torchvision = pins["torch"], pins["torchvision"]
    assert torch.marker is None
    assert torchvision.marker is None
    if str(torchvision.specifier) != f"=={metadata.version('torchvision').partition('+')[0]}":
        pytest.skip("another torchvision is installed, so what the pinned one needs is unknown")
    needs = [Requirement(text) for text in metadata.requires("torchvision") or ()]
    (built_for,) = [need for need in needs if need.name == "torch"]
    assert built_for.specifier.contains(str(torch.specifier).removeprefix("=="))


def test_lavis_is_asked_for_only_where_it_installs(project: dict[str, Any]) -> None:
    (lavis,) = map(Requirement, project["project"]["optional-dependencies"]["lavis"])
    assert lavis.name == "salesforce-lavis"
    assert not [text for text in project["project"]["dependencies"] if "lavis" in text]
    assert lavis.marker is not None
    assert lavis.marker.evaluate({"python_version": "3.11"})
    assert not lavis.marker.evaluate({"python_version": "3.12"})
