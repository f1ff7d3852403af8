"""The pytest plugin: light where it is only installed, and its fixtures work in an author's suite."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import torch
from guidelens import pytest_plugin
from guidelens.contracts import Generator, GuidanceModel
from guidelens.engine import Engine, Sample
from guidelens.testing import check_generator, check_guidance_model
from guidelens.testing.networks import pictures
from plugin_worlds import SCHEDULE, run_python, write_module

FIXTURES = (
    "guidelens_cli",
    "guidelens_engine",
    "guidelens_generator",
    "guidelens_guidance_model",
    "guidelens_images",
    "guidelens_plugins",
    "guidelens_prompts",
)


def run_pytest(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run an author's suite in a process of its own, warnings being errors."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GUIDELENS_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_is_announced_to_pytest() -> None:
    points = metadata.distribution("guidelens").entry_points.select(group="pytest11")
    assert {point.name: point.value for point in points} == {"guidelens": pytest_plugin.__name__}


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import guidelens.pytest_plugin, guidelens.testing as t; t.check_schedule; import sys"
    loaded = run_python(f"{code}; print(' '.join(sys.modules))").split()
    tops = {name.partition(".")[0] for name in loaded}
    assert tops.isdisjoint({"torch", "numpy", "click", "rich", "lavis"})
    assert not [name for name in tops if name.startswith("guidelens_")]
    assert {name for name in loaded if name.startswith("guidelens.")} == {
        "guidelens.lazy",
        "guidelens.threads",
        "guidelens.testing",
        "guidelens.testing.report",
        "guidelens.pytest_plugin",
    }


def test_a_suite_that_does_not_use_it_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "test_else.py").write_text(
        "import sys\n\n\ndef test_it():\n    assert 'torch' not in sys.modules\n    assert 'click' not in sys.modules\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout
    listed = run_pytest(tmp_path, "--fixtures").stdout
    for name in FIXTURES:
        assert f"{name} -- " in listed


def test_an_authors_suite(tmp_path: Path) -> None:
    """Every fixture, an assertion that fails with its numbers, and a fixture overridden."""
    write_module(tmp_path, "flat", SCHEDULE.format(name="flat"))
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from guidelens.testing import TinyGenerator, check_schedule


            def test_schedule(guidelens_plugins):
                check_schedule(guidelens_plugins("./flat.py").build("schedule"))


            def test_steering(guidelens_plugins, guidelens_engine):
                schedule = guidelens_plugins("./flat.py").build("schedule", "flat")
                free, steered = [guidelens_engine.generate("a cat", s)[0].image for s in (None, schedule)]
                assert (free - steered).abs().max() > 0.01


            def test_pictures(guidelens_images, guidelens_prompts, guidelens_guidance_model):
                text = guidelens_guidance_model.encode_text(guidelens_prompts)
                assert guidelens_guidance_model.losses(guidelens_images, text, ["itc"])["itc"].shape == (3,)


            def test_command(guidelens_cli, tmp_path):
                shown = guidelens_cli("plugins", "show", "flat", "-p", "./flat.py")
                assert (shown.exit_code, "schedule flat" in shown.stdout) == (0, True)
                picture = tmp_path / "x.png"
                drawn = guidelens_cli("generate", "a cat", "-p", "guidelens.testing.tiny", "-p", "./flat.py",
                                      "--schedule", "flat", "--steps", 2, "--out", picture)
                assert drawn.exit_code == 0, drawn.stderr
                assert picture.is_file()
                assert guidelens_cli("plugins", "show", "nothing-like-it").exit_code == 2


            class TestMyOwn:
                @pytest.fixture
                def guidelens_generator(self):
                    return TinyGenerator(size=4, prediction="v")

                def test_engine(self, guidelens_engine):
                    assert guidelens_engine.generate("a cat", None)[0].image.shape == (3, 4, 4)


            def test_broken():
                class Broken:
                    def weights(self, progress):
                        return {"itc": float("nan")}

                check_schedule(Broken())
            """
        )
    )
    done = run_pytest(tmp_path)
    assert "1 failed, 5 passed" in done.stdout, done.stdout
    assert "FAILED test_mine.py::test_broken" in done.stdout
    assert "weights: at progress 0 the weight of 'itc' is nan, a float" in done.stdout
    assert "warning" not in done.stdout.lower().replace("filterwarnings", "")


def test_fixtures_keep_their_contracts(
    guidelens_generator: Generator, guidelens_guidance_model: GuidanceModel
) -> None:
    check_generator(guidelens_generator)
    check_guidance_model(guidelens_guidance_model)


def test_pictures_are_the_same_in_every_run(guidelens_images: torch.Tensor) -> None:
    assert guidelens_images.shape == (3, 3, 32, 32)
    assert guidelens_images.abs().max() <= 1
    assert torch.equal(guidelens_images, pictures(3, (3, 32, 32)))


def test_the_engine_steers_towards_the_colour_of_the_prompt(guidelens_engine: Engine) -> None:
    from guidelens.testing.toys import colour_of

    class Only:
        def weights(self, progress):
            return {"cap": 1.0}

    free, steered = guidelens_engine.run([Sample("a red circle", None), Sample("a red circle", Only())])
    colour = colour_of("a red circle")[:, None, None]
    assert (steered.image - colour).square().mean() < 0.9 * (free.image - colour).square().mean()
