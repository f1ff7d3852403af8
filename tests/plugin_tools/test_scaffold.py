"""Packages that `guidelens plugins new` writes: they install, work, and pass their own tests unedited."""

from __future__ import annotations

import ast
import json
import os
import shlex
import sys
from pathlib import Path

import guidelens
import pytest
from click.testing import CliRunner
from environments import OFFLINE, Environment
from guidelens.cli.main import cli
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import KINDS as COMPONENT_KINDS
from guidelens.scaffold import KINDS, write_package
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_every_kind_of_component_can_be_written() -> None:
    assert set(KINDS) == {*COMPONENT_KINDS, "commands"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_sound(kind: str, tmp_path: Path) -> None:
    paths = write_package("my-own-thing", kind, tmp_path / "there")
    assert sorted(p for p in (tmp_path / "there").rglob("*") if p.is_file()) == sorted(paths)
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "$" not in text, path
        if path.suffix == ".py":
            assert max(map(len, text.splitlines())) <= 110, path
            assert ast.get_docstring(ast.parse(text)), path
    project = tomllib.loads((tmp_path / "there" / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "my-own-thing"
    assert project["project"]["entry-points"]["guidelens"] == {"my-own-thing": "my_own_thing.plugin"}
    assert (tmp_path / "there" / "src" / "my_own_thing" / "plugin.py").is_file()
    (needs,) = map(Requirement, project["project"]["dependencies"])
    assert needs.name == "guidelens"
    assert needs.specifier.contains(guidelens.__version__)
    extra = Requirement(project["project"]["optional-dependencies"]["test"][0])
    assert extra.extras <= set(_extras())


def _extras() -> list[str]:
    from importlib import metadata

    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata.version("guidelens")
    return list(project["project"]["optional-dependencies"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Objective", "lower-case letters, digits and single hyphens"),
        ("my_objective", "lower-case letters"),
        ("my--objective", "single hyphens"),
        ("1st", "a letter first"),
        ("thing-", "single hyphens"),
        ("../up", "lower-case letters"),
        ("", "lower-case letters"),
        ("class", "'class' is a word or a module of Python's own"),
        ("json", "'json' is a word or a module"),
        ("torch", "a module 'torch' is installed already"),
        ("guidelens", "a module 'guidelens' is installed already"),
    ],
)
def test_names_that_will_not_do(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        write_package(name, "schedule")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for there in ("empty", "file", "link"):
        with pytest.raises(UsageError, match=f"{there} exists already, and is left alone"):
            write_package("my-thing", "metric", tmp_path / there)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "link"]
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "empty").iterdir())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = Path.write_text, []

    def full(self: Path, *args: object, **kwargs: object) -> int:
        written.append(self)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(GuidelensError, match=r"cannot write .*thing: No space left on device"):
        write_package("my-thing", "metric", tmp_path / "thing")
    assert len(written) == 4
    assert not list(tmp_path.iterdir())


def test_others_may_read_it(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_package("my-thing", "metric", tmp_path / "thing")
    finally:
        os.umask(mask)
    assert (tmp_path / "thing").stat().st_mode & 0o777 == 0o755


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    done = runner.invoke(cli, ["plugins", "new", "my-thing", "--kind", "schedule"])
    assert done.exit_code == 0, done.output
    assert "my-thing/src/my_thing/plugin.py\n" in done.stdout
    assert "guidelens install -e my-thing\n" in done.stdout
    spaced = runner.invoke(cli, ["plugins", "new", "other-x", "--kind", "metric", "--out", "my dir/x"])
    commands = [shlex.split(line) for line in spaced.stdout.partition("Next:")[2].splitlines() if line]
    assert [words[-1] for words in commands] == ["my dir/x", "other-x", "other-x", "my dir/x"]
    again = runner.invoke(cli, ["plugins", "new", "my-thing", "--kind", "schedule"])
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "my-thing exists already" in again.stderr
    taken = runner.invoke(cli, ["plugins", "new", "schedules", "--kind", "schedule"])
    assert "there is a plugin 'schedules' already" in taken.stderr
    assert runner.invoke(cli, ["plugins", "new", "x-y"]).exit_code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my dir", "my-thing"]


@pytest.mark.slow
def test_they_install_and_pass_their_tests(environment: Environment, tmp_path: Path) -> None:
    names = {kind: f"acme-{kind}" for kind in KINDS}
    for kind, name in names.items():
        environment.guidelens("plugins", "new", name, "--kind", kind, cwd=tmp_path)
    try:
        installed = environment.guidelens(
            "install", *(f"./{name}" for name in names.values()), *OFFLINE, cwd=tmp_path
        )
        for kind, name in names.items():
            assert f"{name} 0.1.0: plugin {name}\n" in installed.stdout, kind
        listed = {p["name"]: p for p in json.loads(environment.guidelens("plugins", "list", "--json").stdout)}
        for kind, name in names.items():
            assert (listed[name]["status"], listed[name]["distribution"]) == ("ok", name)
            if kind == "commands":
                assert listed[name]["commands"] == [name]
            else:
                assert [(c["kind"], c["name"]) for c in listed[name]["components"]] == [(kind, name)]
                assert all(o["help"] for c in listed[name]["components"] for o in c["options"])
        folders = [f"{name}/tests" for name in names.values()]
        tested = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *folders, cwd=tmp_path)
        assert " passed" in tested.stdout.splitlines()[-1]
        assert "skipped" not in tested.stdout.splitlines()[-1]
        drawn = environment.guidelens(
            *("generate", "a red circle", "-p", "acme-guidance", "--generator", "acme-generator:size=8"),
            *("--schedule", "objective:name=acme-guidance", "--steps", "10", "--out", "x.png"),
            cwd=tmp_path,
        )
        assert "picture: x.png" in drawn.stdout
        assert (tmp_path / "x.png").is_file()
    finally:
        environment.guidelens("uninstall", "-y", *names.values(), check=False)
