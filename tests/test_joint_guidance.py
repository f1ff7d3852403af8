"""Several guidance models as one: objectives by model, one gradient, one spelling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from guidelens import JointGuidance, compare
from guidelens.contracts import TextBatch
from guidelens.engine import Engine, Sample
from guidelens.errors import UsageError
from guidelens.guarding import ComponentError
from guidelens.plugins import PluginManager
from guidelens.plugins.spelling import split_components
from guidelens.sampling import Sampling
from guidelens.testing import TinyGenerator, TinyGuidanceModel, check_guidance_model
from toys import Constant, GaussianGenerator, Quadratic, Shift, TinyVision

PLUGINS = """
from guidelens.hookspecs import hookimpl
from guidelens.testing import TinyGuidanceModel
from pathlib import Path

class Named(TinyGuidanceModel):
    def __init__(self, flavour="plain", file: Path | None = None):
        self.fingerprint = f"named-{flavour}"

class Other(TinyGuidanceModel):
    objectives = frozenset({"cap"})
    fingerprint = "other"

@hookimpl
def register_guidance_models(register):
    register("named", Named, summary="n")
    register("other", Other, summary="o")
"""


@pytest.fixture
def manager(tmp_path: Path) -> PluginManager:
    path = tmp_path / "models.py"
    path.write_text(PLUGINS)
    return PluginManager.load([str(path), "guidelens.testing.tiny"])


class Shifted(Quadratic):
    """The same objectives around another number, with notes and scales of its own."""

    fingerprint = "shifted"

    @property
    def default_scales(self):
        return {"near": 2.0}

    def encode_text(self, prompts):
        text = super().encode_text(prompts)
        return TextBatch(text.prompts, {"y": text.tensors["y"] + 3}, tuple(("moved",) for _ in prompts))


def both() -> JointGuidance:
    return JointGuidance({"a": Quadratic(), "b": Shifted()})


def test_objectives_are_named_by_model():
    model = both()
    assert model.objectives == {f"{m}/{o}" for m in "ab" for o in ("near", "away", "steep")}
    assert model.default_scales == {"b/near": 2.0}
    assert model.fingerprint == "a=quadratic + b=shifted"
    text = model.encode_text(["0.5", "1"])
    assert text.notes == (("b: moved",), ("b: moved",))
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    losses = model.losses(images, text.select([1, 0]), ["b/near", "a/steep"])
    own = Quadratic()
    expected = own.losses(images, own.encode_text(["1", "0.5"]), ["steep"])["steep"]
    torch.testing.assert_close(losses["a/steep"], expected)
    torch.testing.assert_close(losses["b/near"][0], (images[0] - 4).square().sum() / 2)


def test_a_shift_from_one_model_to_another_is_the_sum_of_their_gradients():
    """Guided by the joint model, each step has the gradient that both models give alone, by weight and scale."""
    schedule = Shift("a/near", "b/near")
    options = {"steps": 6, "clip_denoised": False, "dtype": "float64", "scale": 0.2, "sampler": "ddim"}
    engine = Engine(GaussianGenerator(), both(), Sampling(**options), device="cpu")
    steps = list(engine.stream([Sample("0.5", schedule, 0)]))
    for step in steps:
        p = step.progress
        assert set(step.losses) == {"a/near", "b/near"}
        if 0 < p < 1:
            torch.testing.assert_close(step.gradients["a/near"], step.pred_x0 - 0.5)
            torch.testing.assert_close(step.gradients["b/near"], step.pred_x0 - 3.5)
            assert ("a/near", "b/near") in step.cosines
    unguided = Engine(GaussianGenerator(), None, Sampling(**options), device="cpu")
    *_, free = unguided.stream([Sample("", None, 0)])
    assert (steps[-1].sample - free.sample).mean() > 0.05  # towards the targets above the mean


def test_only_models_with_active_objectives_are_evaluated():
    first, second = Quadratic(), Shifted()
    engine = Engine(
        GaussianGenerator(), JointGuidance({"a": first, "b": second}), Sampling(steps=4), device="cpu"
    )
    list(engine.stream([Sample("0.5", Constant(**{"a/near": 1.0}), 0)]))
    assert len(first.asked) == 4
    assert not second.asked


def test_it_keeps_the_contract():
    check_guidance_model(JointGuidance({"one": TinyGuidanceModel(), "two": TinyGuidanceModel()}))


def test_modules_are_moved_and_frozen():
    vision = TinyVision().train()
    model = JointGuidance({"vision": vision, "plain": Quadratic()})
    assert not vision.training
    assert not any(parameter.requires_grad for parameter in vision.parameters())
    moved = model.to(torch.device("cpu"), torch.float64)
    assert next(moved.models["vision"].parameters()).dtype == torch.float64


def test_a_model_that_fails_is_named():
    class Broken(Quadratic):
        def losses(self, images, text, objectives):
            raise RuntimeError("no")

    engine = Engine(GaussianGenerator(), JointGuidance({"a": Quadratic(), "b": Broken()}), Sampling(steps=2))
    with pytest.raises(ComponentError, match=r"Broken failed in losses\(\): RuntimeError: no"):
        next(engine.stream([Sample("0.5", Constant(**{"b/near": 1.0}), 0)]))


@pytest.mark.parametrize(
    ("models", "message"),
    [({}, "at least one"), ({"a/b": Quadratic()}, "without '/'")],
)
def test_what_cannot_be_joined(models, message):
    with pytest.raises(UsageError, match=message):
        JointGuidance(models)


def test_a_model_that_reads_x_t_cannot_be_joined():
    model = Quadratic()
    model.reads = "x_t"
    with pytest.raises(UsageError, match="'a' reads noisy pictures"):
        JointGuidance({"a": model})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a:x=1,y=2,b,c:z=3,w=4", ["a:x=1,y=2", "b", "c:z=3,w=4"]),
        ("a:x='p, q',b:y=c:d,e=f", ["a:x='p, q'", "b:y=c:d,e=f"]),
        ("p/a, q/b:path=/x/y.pt", ["p/a", "q/b:path=/x/y.pt"]),
        (
            "a:negatives=\"a ''cat'', a dog\",temperature=2",
            ["a:negatives=\"a ''cat'', a dog\",temperature=2"],
        ),
    ],
)
def test_spellings_of_several_components(text, parts):
    assert split_components(text) == parts


def test_a_component_of_several(manager: PluginManager):
    component = manager.resolve("guidance", "named:flavour=sweet,other,named")
    assert component.spec == "named:flavour=sweet,other,named"
    model = component.build()
    assert list(model.models) == ["named", "other", "named2"]
    assert "other/cap" in model.objectives
    assert "named2/itc" in model.objectives
    assert model.fingerprint == "named=named-sweet + other=other + named2=named-plain"
    assert len(manager.version_of("guidance", "named,tiny")) == 2
    assert manager.resolve("guidance", component.spec).spec == component.spec


def test_a_comma_that_was_meant_for_a_value(manager: PluginManager):
    with pytest.raises(
        UsageError, match=r"unknown guidance model 'a dog'.*put a value that holds one in quotes"
    ):
        manager.resolve("guidance", "named:flavour=a cat, a dog")


def test_a_comparison_of_two_models_with_one_spelling(manager: PluginManager, tmp_path: Path):
    done = compare(
        "a red circle",
        schedules=["shift:start=other/cap,end=named/itc", "blend:named/itc=0.5,other/cap=0.5"],
        seeds=1,
        sampling=Sampling(steps=3, objective_scales={"named/itc": 2.0}),
        generator=TinyGenerator(),
        guidance="named,other",
        metrics=(),
        plugins=manager,
        out=tmp_path / "run",
        device="cpu",
    )
    assert len(done.rows) == 2
    assert set(done.rows[0]["losses"]) == {"other/cap", "named/itc"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["guidance"]["name"] == "named,other"
    assert config["settings"]["objective_scales"]["named/itc"] == 2.0
    assert "other/cap" in (tmp_path / "run" / "index.html").read_text()


def test_a_study_of_two_models(manager: PluginManager, tmp_path: Path):
    from guidelens import run_study

    (tmp_path / "weights.pt").write_bytes(b"")
    study = tmp_path / "study.toml"
    study.write_text(
        'prompts = ["a dot"]\nschedules = ["shift:start=other/cap,end=named/itc"]\nsteps = 2\nseeds = 1\n'
        'generator = "tiny"\nguidance = "named:file=weights.pt,other"\nsnapshots = 2\n'
    )
    done = run_study(study, out=tmp_path / "run", plugins=manager, device="cpu")
    assert (done.computed, done.failed) == (1, 0)
    assert done.reasons == []
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert row["guidance"] == f"named:file={tmp_path / 'weights.pt'},other"


def test_the_flag_is_repeatable(manager: PluginManager, tmp_path: Path):
    from click.testing import CliRunner
    from guidelens.cli.main import cli

    out = tmp_path / "x.png"
    plugins = ["-p", str(tmp_path / "models.py"), "-p", "guidelens.testing.tiny"]
    models = ["--generator", "tiny", "--guidance", "named:flavour=x", "--guidance", "other"]
    words = [*plugins, "generate", "a dot", *models, "--schedule", "shift:start=other/cap,end=named/itc"]
    words += ["--steps", "2", "--out", str(out)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert out.is_file()
