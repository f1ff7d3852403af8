"""``guidelens plugins check``: every component of a plugin, what could not be built, and the built-in plugins."""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.plugins import PluginManager
from guidelens.testing import examine
from guidelens.testing.plugin import check_plugin
from guidelens_worlds.shapes.files import FILES
from guidelens_worlds.shapes.language import describe, wording
from guidelens_worlds.shapes.world import random_scene, render_batch

MIXED = """
    import torch
    from guidelens import Column, GuidelensError, Prompt, UsageError, hookimpl
    from guidelens.testing import TinyGenerator, TinyGuidanceModel

    class Good:
        def __init__(self, name: str = "itc"):
            self.name = name
        def weights(self, progress):
            return {self.name: 1.0}

    class Bad(Good):
        def weights(self, progress):
            return {"itc": float("inf")}

    class Needs(Good):
        def __init__(self, name: str):
            super().__init__(name)

    def without_weights():
        raise UsageError("give weights:checkpoint=FILE")

    def broken():
        raise KeyError("oops")

    class Sees(TinyGuidanceModel):
        def losses(self, images, text, objectives):
            assert images.shape[2:] != (32, 32), "the generator of this plugin draws 8x8"
            assert set(text.prompts) <= {"a", "b", "c"}, text.prompts
            return super().losses(images, text, objectives)

    class Metric:
        columns = (Column("mean", "mean pixel"),)
        def score(self, images, prompts):
            assert images.shape[1:] == (3, 8, 8)
            assert {p.text for p in prompts} <= {"a", "b", "c"}
            return [{"mean": float(image.mean())} for image in images]

    @hookimpl
    def register_schedules(register):
        register("good", Good, summary="passes")
        register("bad", Bad, summary="fails")
        register("needs", Needs, summary="needs a name")
        register("broken", broken, summary="cannot be built")
        register("unfit", dict, summary="no schedule")
        register("absent", Good, summary="needs a module", requires=["no_such_module_anywhere"])

    @hookimpl
    def register_guidance_models(register):
        register("weights", without_weights, summary="has none")
        register("good", Sees, summary="passes")

    @hookimpl
    def register_generators(register):
        register("good", TinyGenerator, summary="passes")

    @hookimpl
    def register_metrics(register):
        register("good", Metric, summary="passes")

    @hookimpl
    def register_prompt_sets(register):
        register("good", lambda: [Prompt("a"), Prompt("b"), Prompt("c")], summary="passes")
"""

Run = Callable[..., Any]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.py"
    path.write_text(textwrap.dedent(MIXED), encoding="utf-8")
    return path


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in report["checks"]}


def test_every_component_is_checked_and_named(mixed: Path, guidelens_cli: Run) -> None:
    done = guidelens_cli("plugins", "check", mixed, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["plugin"], found["ok"]) == ("mixed", False)
    reports = {(r["kind"], r["component"]): r for r in found["components"]}
    assert len(reports) == 11
    failed = {key: sorted(n for n, s in statuses(r).items() if s == "failed") for key, r in reports.items()}
    assert {key: names for key, names in failed.items() if names} == {
        ("schedule", "bad"): ["weights"],
        ("schedule", "broken"): ["build"],
        ("schedule", "unfit"): ["build"],
    }
    details = {key: r["checks"][0]["detail"] for key, r in reports.items() if len(r["checks"]) == 1}
    assert details["schedule", "broken"] == "KeyError: 'oops'"
    assert "a dict, which lacks weights" in details["schedule", "unfit"]
    assert details["schedule", "needs"] == "not checked: schedule 'needs' cannot do without name=(text)"
    assert details["guidance", "weights"] == "not checked: give weights:checkpoint=FILE"
    assert "not checked: schedule 'absent'" in details["schedule", "absent"]
    assert "pip install no-such-module-anywhere" in details["schedule", "absent"]
    assert set(statuses(reports["schedule", "good"]).values()) == {"passed"}
    assert reports["guidance", "good"]["ok"]
    assert reports["metric", "good"]["ok"]


def test_the_text_says_what_failed(mixed: Path, guidelens_cli: Run) -> None:
    done = guidelens_cli("plugins", "check", mixed, "good", "bad", "--kind", "schedule")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "schedule good: 4 passed"
    assert lines[1].split() == ["passed", "build"]
    assert lines[2].split() == ["passed", "weights", "points", "201"]
    assert (
        "  failed   weights  at progress 0 the weight of 'itc' is inf, a float, not a finite" in done.stdout
    )
    assert "  skipped  pure     not checked: it needs weights" in done.stdout
    assert lines[-1] == "mixed: 5 passed, 1 failed, 2 not checked; failed: bad (weights)"
    quiet = guidelens_cli("plugins", "check", mixed, "good", "bad", "--kind", "schedule", "-q")
    assert [line.split()[0] for line in quiet.stdout.splitlines()] == [
        "schedule",
        "schedule",
        "failed",
        "mixed:",
    ]


def test_options_are_given_by_spelling(mixed: Path, guidelens_cli: Run) -> None:
    done = guidelens_cli("plugins", "check", mixed, "needs:name=cap", "good:size=4", "--kind", "schedule")
    assert done.exit_code == 2
    done = guidelens_cli("plugins", "check", mixed, "needs:name=cap", "-q")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["schedule needs:name=cap: 4 passed", "mixed: 4 passed"]
    done = guidelens_cli("plugins", "check", mixed, "good:size=4", "--kind", "generator", "-q")
    assert done.stdout.startswith("generator good:size=4: 12 passed, 2 not checked\n")


def test_what_was_asked_for_and_cannot_be_built_has_failed(mixed: Path, guidelens_cli: Run) -> None:
    done = guidelens_cli("plugins", "check", mixed, "weights")
    assert done.exit_code == 1
    assert "  failed   build  give weights:checkpoint=FILE\n" in done.stdout


def test_checks_can_be_left_out(mixed: Path, guidelens_cli: Run) -> None:
    args = ("plugins", "check", mixed, "bad", "--skip", "weights", "--skip", "text-alone", "--json")
    done = guidelens_cli(*args)
    assert done.exit_code == 0
    (report,) = json.loads(done.stdout)["components"]
    assert statuses(report)["weights"] == "skipped"


def test_prompts_and_size_can_be_given(tmp_path: Path, guidelens_cli: Run) -> None:
    path = tmp_path / "picky.py"
    source = """
        from guidelens import hookimpl
        from guidelens.testing import TinyGuidanceModel

        class Picky(TinyGuidanceModel):
            reads = "x_t"

            def encode_text(self, prompts):
                assert set(prompts) <= {"goldfish", "hen", "newt"}
                return super().encode_text(prompts)

            def losses(self, images, text, objectives, timesteps):
                assert images.shape[1:] == (3, 20, 20)
                return super().losses(images, text, objectives)

        @hookimpl
        def register_guidance_models(register):
            register("picky", Picky, summary="knows three words")
    """
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    prompts = ("--prompt", "goldfish", "--prompt", "hen", "--prompt", "newt")
    done = guidelens_cli("plugins", "check", path, *prompts, "--image-size", 20)
    assert done.exit_code == 0, done.stdout
    assert guidelens_cli("plugins", "check", path, *prompts).exit_code == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nothing-like-it"], "no plugin 'nothing-like-it'"),
        (["{mixed}", "godo"], "offers no component 'godo' (did you mean 'good'?)"),
        (["{mixed}", "good", "--kind", "nothing"], "'nothing' is not one of"),
        (["{mixed}", "good:name=x"], "may mean several components"),
        (["{mixed}", "needs"], "cannot do without name=(text)"),
        (["schedules", "--skip", "purr"], "no check 'purr' to skip (did you mean 'pure'?)"),
        (["schedules", "--prompt", "a", "--prompt", "b"], "give at least 3 different prompts, not 2"),
        (["schedules", "--device", "cdua"], "unknown device 'cdua'"),
        (
            ["schedules", "-p", "no:schedules"],
            "plugin 'schedules' (guidelens 0.1.0) is blocked by no:schedules",
        ),
    ],
)
def test_mistakes_are_told(args: list[str], says: str, mixed: Path, guidelens_cli: Run) -> None:
    done = guidelens_cli("plugins", "check", *(arg.format(mixed=mixed) for arg in args))
    assert done.exit_code == 2, done.stdout
    assert says in done.stderr
    assert done.stdout == ""


def test_a_plugin_that_does_not_load(tmp_path: Path, guidelens_cli: Run) -> None:
    path = tmp_path / "fails.py"
    path.write_text("1 / 0\n", encoding="utf-8")
    done = guidelens_cli("plugins", "check", path)
    assert done.exit_code == 1
    assert "failed to load: ZeroDivisionError" in done.stderr


def test_a_plugin_of_commands_only(tmp_path: Path, guidelens_cli: Run) -> None:
    path = tmp_path / "talks.py"
    path.write_text(
        "from guidelens import hookimpl\n@hookimpl\ndef register_commands(cli): pass\n", encoding="utf-8"
    )
    done = guidelens_cli("plugins", "check", path)
    assert (done.exit_code, done.stdout) == (0, "plugin 'talks' offers no components to check\n")


def test_specs_are_checked_at_once() -> None:
    plugin = PluginManager.load(environment={}).plugin("schedules")
    with pytest.raises(UsageError, match=r"has no option 'strat' .did you mean 'start'"):
        check_plugin(plugin, ["shift:strat=itc"])


# --- the built-in plugins -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "specs", "skipped"),
    [
        (
            "schedules",
            ["itc", "itm", "cap", "objective:name=x", "shift:start=itm", "blend", "blend:a=-1,b=2"],
            set(),
        ),
        pytest.param("shapes", [], {"bad-is-low"}, marks=pytest.mark.slow),
        pytest.param(
            "guided-diffusion",
            [f"guided-diffusion:checkpoint={FILES.generator}"],
            set(),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "blip",
            [
                f"blip:checkpoint={FILES.blip},vocab={FILES.vocab},itc=infonce,temperature=learned,"
                "negatives=a blue square|a green cross,itm=margin,label_smoothing=0.1"
            ],
            set(),
            marks=pytest.mark.slow,
        ),
        ("guidelens.testing.tiny", [], {"checkpointing"}),
    ],
)
def test_built_in_plugins_pass(plugin: str, specs: list[str], skipped: set[str]) -> None:
    manager = PluginManager.load([plugin], environment={})
    reports = list(check_plugin(manager.plugin(plugin), specs))
    assert reports
    for report in reports:
        report.raise_for_failures()
        # "decode": these generators diffuse pixels.
        allowed = skipped | {"decode"}
        assert {check.name for check in report.skipped} <= allowed, [c.detail for c in report.skipped]


def test_the_metric_of_the_shapes_world_tells_good_from_bad() -> None:
    scenes = [random_scene(random.Random(seed)) for seed in range(4)]
    rng = random.Random(0)
    prompts = [Prompt(wording(describe(scene, rng, full=True), rng)) for scene in scenes]
    images = torch.from_numpy(render_batch(scenes))
    metric = PluginManager.load(environment={}).build("metric", "shapes")
    examples = list(zip(images, prompts, strict=True))
    report = examine("metric", metric, examples=examples, prompts=prompts)
    report.raise_for_failures()
    assert report["bad-is-low"].status == "passed"
