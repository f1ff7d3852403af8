"""The wheel in an empty environment, tried as a user would; and what pip makes of it under other Pythons.

Asks the package index, so it is no part of `make test`: `make release-check` runs it. Pythons that are not on
this machine are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import guidelens
import pytest
from PIL import Image
from source_tree import ROOT, copy_tree

pytestmark = pytest.mark.network
ONE_WORKER = pytest.mark.xdist_group("installed")  # installing takes a minute

EXAMPLE = ROOT / "docs" / "examples" / "guidelens-cosine-shift"
EXTRAS = "open-clip,diffusers,metrics,parquet,ray,survey,explore"
Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: str | Path, cwd: Path, timeout: int = 900) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of this environment in its own but where packages and certificates are."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("GUIDELENS_", "PYTHON", "COV", "PYTEST_"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=kept | {"GUIDELENS_CACHE": str(cwd / "cache"), "PIP_RESUME_RETRIES": "5"},
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist in environments of their own."""
    folder = tmp_path_factory.mktemp("dist")
    source = copy_tree(folder / "source")
    run(sys.executable, "-m", "build", "--outdir", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of commands of an environment that was empty before the wheel was installed."""
    home = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", home / "env", cwd=home)
    python = home / "env" / "bin" / "python"
    # Compiled at first use instead: most of what is installed is never imported here.
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel, cwd=home)
    yield python.parent
    shutil.rmtree(home)  # 6 GB


@pytest.fixture
def run_there(installed: Path, tmp_path: Path) -> Run:
    return lambda command, *args: run(installed / command, *args, cwd=tmp_path)


@ONE_WORKER
def test_it_has_what_it_needs(run_there: Run) -> None:
    run_there("python", "-m", "pip", "check")
    assert run_there("guidelens", "--version").stdout.startswith(
        f"guidelens {guidelens.__version__}\nPython "
    )
    for line in run_there("guidelens", "plugins", "list").stdout.splitlines():
        assert "broken" not in line
    run_there("guidelens", "doctor")


@ONE_WORKER
def test_it_draws_compares_and_steps(run_there: Run, tmp_path: Path) -> None:
    run_there(
        "guidelens", "generate", "a red circle", "--schedule", "shift", "--steps", "3", "--out", "x.png"
    )
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (32, 32)
    schedules = ("--schedule", "itc", "--schedule", "shift")
    run_there(
        "guidelens", "compare", "a red circle", *schedules, "--seeds", "1", "--steps", "3", "--out", "run"
    )
    assert (tmp_path / "run" / "index.html").is_file()
    assert len((tmp_path / "run" / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    code = (
        "from guidelens import Sampling, stream\n"
        "print(len(list(stream('a red circle', 'itc', sampling=Sampling(steps=3)))))"
    )
    assert run_there("python", "-c", code).stdout.strip() == "3"


@ONE_WORKER
def test_it_takes_plugins_of_others(run_there: Run, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "package", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    run_there("guidelens", "install", "./package")
    listed = {p["name"]: p for p in json.loads(run_there("guidelens", "plugins", "list", "--json").stdout)}
    assert listed["cosine-shift"]["status"] == "ok"
    words = ("--schedule", "cosine-shift", "--steps", "2", "--out", "x.png")
    run_there("guidelens", "generate", "a red circle", *words)
    run_there("guidelens", "uninstall", "--yes", "guidelens-cosine-shift")


@ONE_WORKER
def test_it_is_typed_and_leaves_tests_at_home(run_there: Run) -> None:
    code = "import importlib.metadata as m; print(*m.files('guidelens'), sep='\\n')"
    files = run_there("python", "-c", code).stdout.splitlines()
    tops = {name.partition("/")[0] for name in files} - {"..", f"guidelens-{guidelens.__version__}.dist-info"}
    assert all(top == "guidelens" or top.startswith("guidelens_") for top in tops)
    assert "guidelens/py.typed" in files
    assert any(name.endswith("licenses/LICENSE") for name in files)


@lru_cache
def interpreter(version: str) -> Path | None:
    """Return a Python of this version, if the machine has one that can make environments."""
    kept = os.environ.get("PYENV_ROOT")
    places = sorted(Path(kept).glob(f"versions/{version}.*/bin/python{version}")) if kept else []
    named = shutil.which(f"python{version}")
    for place in [*places, *([Path(named)] if named else [])]:
        tried = subprocess.run([place, "-c", "import ensurepip, venv"], capture_output=True, check=False)
        if tried.returncode == 0:
            return place
    return None


@pytest.mark.parametrize("extras", ["", EXTRAS, "docs"])
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_pip_finds_wheels_of_everything(version: str, extras: str, wheel: Path, tmp_path: Path) -> None:
    """By the Python itself: pip reads environment markers by the one that it runs in."""
    found = resolved(version, extras, wheel, tmp_path)
    assert {"torch", "torchvision", "open-clip-torch", "timm", "tokenizers"} <= set(found)
    assert found["numpy"].startswith("2.")
    assert "salesforce-lavis" not in found


@pytest.mark.parametrize("version", ["3.10", "3.11"])
def test_lavis_is_an_extra(version: str, wheel: Path, tmp_path: Path) -> None:
    found = resolved(version, "lavis", wheel, tmp_path)
    assert found["salesforce-lavis"] == "1.0.2"
    assert found["numpy"].startswith("1.")


def resolved(version: str, extras: str, wheel: Path, folder: Path) -> dict[str, str]:
    """Return the release that pip chooses for each package, under a Python that this machine may have."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    run(python, "-m", "venv", "env", cwd=folder)
    pip = (folder / "env" / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--upgrade", "pip", cwd=folder)  # older ones download what they only look at
    wanted = f"guidelens[{extras}] @ {wheel.as_uri()}" if extras else str(wheel)
    constraints = ("--constraint", ROOT / "constraints-lavis.txt") if extras == "lavis" else ()
    run(
        *pip,
        "install",
        "--dry-run",
        "--report",
        "report.json",
        "--prefer-binary",
        *constraints,
        wanted,
        cwd=folder,
    )
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"]
        for item in report["install"]
    }
