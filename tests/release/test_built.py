"""Wheel and sdist, built without the network: what is in them, and that each makes the other."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import guidelens
import pytest
from source_tree import ROOT, copy_tree, tree


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel made from it, and in ``direct`` the wheel made from the tree."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("release")
    source = copy_tree(folder / "source")
    # The wheel comes first: it must not find the file list that building an sdist leaves in the tree.
    for what in (["--wheel", "--outdir", str(folder / "direct")], ["--outdir", str(folder)]):
        command = [sys.executable, "-m", "build", "--no-isolation", *what, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stdout + done.stderr, done.stdout + done.stderr
        for left in ("build", "guidelens.egg-info"):
            shutil.rmtree(source / left, ignore_errors=True)
    return folder


@pytest.fixture
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture
def sdist(built: Path) -> Path:
    return next(built.glob("*.tar.gz"))


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    inside = contents(wheel)
    packaged = {"/".join(p.parts[1:]): p for p in tree() if p.parts[0] in ("core", "plugins")}
    info = f"guidelens-{guidelens.__version__}.dist-info"
    assert "guidelens/runs/compare.py" in packaged
    modules = {name for name in inside if not name.startswith(f"{info}/")}
    assert modules == set(packaged)
    assert all(inside[name] == (ROOT / path).read_bytes() for name, path in packaged.items())
    about = {name.removeprefix(f"{info}/") for name in inside} - modules
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}
    assert inside[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert {"guidelens/py.typed", "guidelens_worlds/shapes/weights/generator.safetensors"} <= modules


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    assert wheel.name == f"guidelens-{guidelens.__version__}-py3-none-any.whl"
    about = email.message_from_bytes(contents(wheel)[f"guidelens-{guidelens.__version__}.dist-info/METADATA"])
    assert about["Version"] == guidelens.__version__
    assert about["License-Expression"] == "MIT"
    assert about["Requires-Python"] == ">=3.10"
    assert "# guidelens" in about.get_payload()


def test_the_sdist_makes_the_same_wheel(built: Path, wheel: Path) -> None:
    (direct,) = (built / "direct").glob("*.whl")
    assert contents(direct) == contents(wheel)


def test_the_sdist_holds_the_whole_tree_tests_and_documentation_included(sdist: Path) -> None:
    with tarfile.open(sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames() if not opened.getmember(name).isdir()}
    made = {name for name in names if name.startswith("guidelens.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert names - made == {path.as_posix() for path in tree()}


def test_they_stay_small(wheel: Path, sdist: Path) -> None:
    """The embedded weights are nearly all of a wheel; an sdist has the reference numbers of the tests as well."""
    weights, golden = (
        sum(path.stat().st_size for path in (ROOT / folder).rglob("*.safetensors"))
        for folder in ("plugins", "tests/golden")
    )
    assert wheel.stat().st_size < weights + 2e6
    assert sdist.stat().st_size < weights + golden + 2e6
