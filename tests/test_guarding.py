"""Plugin code cannot take the program down: every call into it ends in its result, or in one line that names it."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guidelens import Engine, Sample
from guidelens.contracts import Column, Prompt, TextBatch
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import (
    ComponentError,
    captured_output,
    encode,
    losses_of,
    name_component,
    name_of,
    one_line,
    plugin_code,
    predict,
    weights_at,
)
from guidelens.networks import place
from guidelens.plugins import PluginManager
from guidelens.runs.scoring import NamedMetric, score
from guidelens.sampling import Sampling
from PIL import Image
from plugin_worlds import SCHEDULE, run_cli, write_distribution, write_module
from torch import Tensor


class Stop(BaseException):
    """Not an Exception, so that a plain ``except Exception`` lets it pass."""


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit("no text")


RAISED = {
    "ValueError": ValueError("two\nlines"),
    "SystemExit": SystemExit(3),
    "BaseException": Stop("stop"),
    "StopIteration": StopIteration(),
    "unprintable": Mute(),
    "AssertionError": AssertionError(),
}


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_is_raised_becomes_one_line(kind: str) -> None:
    who = "metric 'm' of plugin 'p'"
    with (
        pytest.raises(ComponentError, match=rf"^{who} failed in score\(\): ") as caught,
        plugin_code(who, "score()"),
    ):
        raise RAISED[kind]
    assert "\n" not in str(caught.value)
    assert type(RAISED[kind]).__name__ in str(caught.value)
    assert caught.value.__cause__ is RAISED[kind]
    assert caught.value.exit_code == 1
    assert "\n" not in one_line(RAISED[kind])


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError(), GuidelensError("ours"), GeneratorExit()]
)
def test_what_the_program_itself_answers_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, plugin_code("x", "y"):
        raise error
    assert caught.value is error


def test_lack_of_memory_passes() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError), plugin_code("x", "y"):
        raise torch.cuda.OutOfMemoryError("full")


def test_components_have_names_while_they_live() -> None:
    class Thing:
        pass

    class Slots:
        __slots__ = ()

    thing, slots = Thing(), Slots()
    assert name_of(thing, "metric").startswith("the metric test_guarding.")
    name_component(thing, "metric 'm' of plugin 'p'")
    name_component(slots, "x")
    assert name_of(thing) == "metric 'm' of plugin 'p'"
    assert "Slots" in name_of(slots)
    del thing
    gc.collect()
    assert all("metric 'm'" not in name_of(Thing()) for _ in range(50))


# -- wrong returns


IMAGES = torch.zeros(2, 3, 4, 4)
TEXT = TextBatch(("a", "b"), {"t": torch.zeros(2, 1)})


class Model:
    """A guidance model whose losses are whatever a test wants."""

    objectives = frozenset({"itc"})
    fingerprint = "model"

    def __init__(self, losses: Callable[[Tensor], Any], text: Any = TEXT) -> None:
        self._losses, self._text = losses, text

    def encode_text(self, prompts: Any) -> Any:
        return self._text(prompts) if callable(self._text) else self._text

    def losses(self, images: Tensor, text: TextBatch, objectives: Any) -> Any:
        return self._losses(images)


def mean(images: Tensor) -> Tensor:
    return images.mean(dim=(1, 2, 3))


def written(images: Tensor) -> dict[str, Tensor]:
    images.zero_()
    return {"itc": mean(images)}


LOSSES: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "None": (lambda x: None, "must return losses by objective, a mapping, not None"),
    "list": (lambda x: [mean(x)], "a mapping, not a list"),
    "tensor": (mean, "a mapping, not a Tensor"),
    "other": (lambda x: {"cap": mean(x)}, r"returned the losses \['cap'\]; it was asked for \['itc'\]"),
    "more": (lambda x: {"itc": mean(x), 3: mean(x)}, r"returned the losses \['3', 'itc'\]"),
    "numpy": (lambda x: {"itc": np.zeros(2)}, "'itc' returned a ndarray, not a tensor"),
    "float": (lambda x: {"itc": 0.5}, "'itc' returned a float, not a tensor"),
    "nothing": (lambda x: {"itc": None}, "'itc' returned None, not a tensor"),
    "scalar": (lambda x: {"itc": x.mean()}, r"'itc' returned \(\); a loss per sample is \(2,\)"),
    "shape": (lambda x: {"itc": mean(x)[:, None]}, r"'itc' returned \(2, 1\); a loss per sample"),
    "detached": (lambda x: {"itc": mean(x.detach())}, "'itc' is not differentiable in the images"),
    "complex": (lambda x: {"itc": mean(x).to(torch.complex64)}, "'itc' returned complex numbers"),
    "integers": (lambda x: {"itc": mean(x).long()}, r"'itc' returned torch.int64"),
    "in place": (written, r"writes into the images that it is given; it must work on a copy \(clone\(\)\)"),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_that_break_the_contract(kind: str) -> None:
    losses, message = LOSSES[kind]
    model = Model(losses)
    name_component(model, "guidance model 'odd' of plugin 'p'")
    images = IMAGES.clone().requires_grad_()
    with pytest.raises(ComponentError, match=message) as caught:
        losses_of(model, images, TEXT, ["itc"])
    assert str(caught.value).startswith("guidance model 'odd' of plugin 'p'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", RAISED)
def test_losses_that_raise(kind: str) -> None:
    with pytest.raises(ComponentError, match=r"the guidance model test_guarding\.Model failed in losses\(\)"):
        losses_of(Model(raises(RAISED[kind])), IMAGES, TEXT, ["itc"])


def test_data_of_the_images_is_the_models_own() -> None:
    def sneaky(images: Tensor) -> dict[str, Tensor]:
        images.data.zero_()
        return {"itc": mean(images)}

    images = torch.ones(2, 3, 4, 4, requires_grad=True)
    losses_of(Model(sneaky), images, TEXT, ["itc"])
    assert bool((images == 1).all())


def test_losses_that_write_into_the_text_are_refused() -> None:
    text = TextBatch(("a", "b"), {"t": torch.ones(2, 3)})

    def sneaky(images: Tensor) -> dict[str, Tensor]:
        text.tensors["t"].mul_(2)
        return {"itc": mean(images)}

    with pytest.raises(ComponentError, match="writes into the encoded text, which later steps read"):
        losses_of(Model(sneaky), torch.ones(2, 3, 4, 4, requires_grad=True), text, ["itc"])


TEXTS: dict[str, tuple[Any, str]] = {
    "None": (None, "must return a TextBatch, not None"),
    "list": (["a", "b"], "must return a TextBatch, not a list"),
    "fewer": (TextBatch(("a",)), "encoded 1 prompts, not the 2 it was given"),
    "others": (TextBatch(("b", "a")), "encoded 2 prompts, not the 2"),
    "entry": (TextBatch(("a", "b"), {"t": [1, 2]}), "the entry 't' of encode_text.* is a list, not a tensor"),
    "rows": (
        TextBatch(("a", "b"), {"t": torch.zeros(3, 2)}),
        r"'t' .*has the shape \(3, 2\); its first dimension",
    ),
    "scalar": (TextBatch(("a", "b"), {"t": torch.tensor(1)}), r"has the shape \(\); its first dimension"),
    "exit": (raises(SystemExit(0)), r"failed in encode_text\(\): SystemExit: 0"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_that_breaks_the_contract(kind: str) -> None:
    text, message = TEXTS[kind]
    with pytest.raises(ComponentError, match=message):
        encode(Model(mean, text), ["a", "b"])


OUTPUTS: dict[str, tuple[Callable[..., Any], str]] = {
    "None": (lambda x, t: None, "returned None, not a tensor"),
    "tuple": (lambda x, t: (x,), "returned a tuple, not a tensor"),
    "numpy": (lambda x, t: x.detach().numpy(), "returned a ndarray, not a tensor"),
    "shape": (
        lambda x, t: x[:1],
        r"returned the shape \(1, 3, 4, 4\); it must be \(2, 3, 4, 4\) or \(2, 6, 4, 4\)",
    ),
    "channels": (lambda x, t: x[:, :2], r"returned the shape \(2, 2, 4, 4\)"),
    "complex": (lambda x, t: x.to(torch.complex64), "returned complex numbers"),
    "detached": (lambda x, t: x.detach(), "a prediction without gradient"),
    "in place": (lambda x, t: x.mul_(2), "writes into x_t that it is given"),
    "exit": (raises(SystemExit("bye")), "failed in its forward pass: SystemExit: bye"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_predictions_that_break_the_contract(kind: str) -> None:
    function, message = OUTPUTS[kind]
    with pytest.raises(ComponentError, match=f"the generator .*{message}"):
        predict(function, IMAGES.clone().requires_grad_(), torch.zeros(2).long())


class Weights:
    def __init__(self, returned: Any) -> None:
        self._returned = returned

    def weights(self, progress: float) -> Any:
        return self._returned() if callable(self._returned) else self._returned


WEIGHTS: dict[str, tuple[Any, str]] = {
    "None": (None, r"weights\(0.5\) must return a mapping of objective to weight, not None"),
    "list": ([("itc", 1.0)], "not a list"),
    "name": ({3: 1.0}, "names an objective 3, which is not text"),
    "text": ({"itc": "1"}, "weight of 'itc' at progress 0.5 in .* must be a finite number, not '1'"),
    "none": ({"itc": None}, "weight of 'itc' .*, not None"),
    "complex": ({"itc": 1j}, "weight of 'itc' .*, not 1j"),
    "truth": ({"itc": True}, "weight of 'itc' .*, not True"),
    "raises": (raises(Stop()), r"failed in weights\(\): Stop"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_break_the_contract(kind: str) -> None:
    returned, message = WEIGHTS[kind]
    with pytest.raises(GuidelensError, match=message) as caught:
        weights_at(Weights(returned), 0.5)
    assert "the schedule test_guarding.Weights" in str(caught.value)


class Metric:
    columns = (Column("m", "mean pixel"),)

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        self._answer = answer

    def score(self, images: Tensor, prompts: Any) -> Any:
        return self._answer(images)


def brightness(images: Tensor) -> list[dict[str, float]]:
    return [{"m": float(value)} for value in mean(images)]


def darkened(images: Tensor) -> list[dict[str, float]]:
    images.data.zero_()
    return [{"m": 0.0} for _ in images]


SCORES: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "None": (lambda x: None, "must return a list with a dict per picture, not a NoneType"),
    "generator": (lambda x: ({"m": 0.0} for _ in x), "not a generator"),
    "rows": (lambda x: [{"m": 0.0}] * 7, "returned 7 results for 1 picture"),
    "numbers": (lambda x: [0.5] * len(x), "it holds a float"),
    "column": (lambda x: [{"n": 0.0}] * len(x), "'n' is not among its columns m"),
    "tensor of two": (lambda x: [{"m": torch.zeros(2)}] * len(x), "Error"),
    "text": (lambda x: [{"m": "high"}] * len(x), "m is a str, not a number"),
    "NaN": (lambda x: [{"m": float("nan")}] * len(x), "m is nan, not a finite number"),
    "in place": (lambda x: [{"m": float(v)} for v in mean(x.zero_())], "writes into the pictures"),
    "exit": (raises(SystemExit(1)), "SystemExit: 1"),
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_metric_that_breaks_the_contract_spoils_no_other(kind: str) -> None:
    picture = Image.new("RGB", (4, 4), (200, 100, 50))
    broken, message = SCORES[kind]
    fine = NamedMetric("fine", Metric(brightness))
    (expected,) = score([fine], [picture], [Prompt("a")])
    metrics = [NamedMetric("broken", Metric(broken)), NamedMetric("sneaky", Metric(darkened)), fine]
    (found,) = score(metrics, [picture], [Prompt("a")])
    assert found.values == expected.values
    assert message in found.errors["broken"]
    assert list(found.scorers) == ["sneaky", "fine"]


def test_an_object_with_the_documented_to_is_placed() -> None:
    class Movable:
        def to(self, device: torch.device, dtype: torch.dtype) -> Movable:
            moved = Movable()
            moved.at = (device, dtype)  # type: ignore[attr-defined]
            return moved

    class Immovable:
        def to(self, device: torch.device, dtype: torch.dtype) -> None:
            raise Stop("no")

    first = Movable()
    name_component(first, "generator 'g' of plugin 'p'")
    moved = place(first, torch.device("cpu"), torch.float32)
    assert moved.at == (torch.device("cpu"), torch.float32)
    assert name_of(moved) == "generator 'g' of plugin 'p'"
    with pytest.raises(ComponentError, match=r"Immovable failed in to\(device, dtype\): Stop: no"):
        place(Immovable(), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("shape", [(3, 0, 4), (3, 4), None, (3, 4.0, 4), (True, 4, 4), (3, 10**9, 4)])
def test_image_shapes_that_are_none(shape: Any) -> None:
    class Odd:
        image_shape = shape
        alphas_cumprod = torch.linspace(0.9, 0.1, 10, dtype=torch.float64)
        prediction, learned_variance, fingerprint = "epsilon", False, "odd"

        def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
            return x_t

    with pytest.raises(
        GuidelensError, match=r"Odd: image_shape must be \(C, H, W\), three positive integers"
    ):
        list(Engine(Odd(), None, Sampling(steps=2)).stream([Sample("", 0, None)]))


# -- the whole program


HEAD = "from guidelens import hookimpl\n"
HOSTILE = {
    "exits at import": "raise SystemExit(3)\n",
    "stops at import": "class Stop(BaseException): pass\nraise Stop('x')\n",
    "exits in a hook": HEAD + "@hookimpl\ndef register_schedules(register):\n    raise SystemExit(3)\n",
    "stops in a hook": HEAD
    + "class S(BaseException): pass\n@hookimpl\ndef register_metrics(register):\n    raise S\n",
    "exits in commands": HEAD + "@hookimpl\ndef register_commands(cli):\n    raise SystemExit(3)\n",
    "requires a number": HEAD
    + "@hookimpl\ndef register_metrics(register):\n    register('m', list, summary='', requires=[3])\n",
    "summary is none": HEAD
    + "@hookimpl\ndef register_metrics(register):\n    register('m', list, summary=None)\n",
    "unprintable error": HEAD
    + "class E(Exception):\n    def __str__(self): raise SystemExit\n"
    + "@hookimpl\ndef register_metrics(register):\n    raise E\n",
    "attributes raise": HEAD
    + "class P:\n    def __getattr__(self, name): raise SystemExit(4)\nplugin = P()\n",
    "module attributes raise": HEAD
    + "@hookimpl\ndef register_metrics(register): pass\n"
    + "def __getattr__(name): raise SystemExit(4)\n",
    "class cannot be made": HEAD + "class plugin:\n    def __init__(self): raise SystemExit(5)\n",
    "odd command": HEAD + "@hookimpl\ndef register_commands(cli):\n    cli.commands['x'] = 3\n",
    "odd help": HEAD
    + "import click\n@hookimpl\ndef register_commands(cli):\n    cli.command('x', help=3)(lambda: None)\n",
    "odd weights": HEAD + "@hookimpl\ndef register_weights(register):\n    register(3)\n",
}


OBJECTS = ("attributes raise", "class cannot be made")
"""Kinds whose entry point is an object of the module, called ``plugin``."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_plugin_takes_help_down(tmp_path: Path, kind: str) -> None:
    write_module(tmp_path, "hostile_plugin", HOSTILE[kind])
    point = f"hostile_plugin{':plugin' if kind in OBJECTS else ''}"
    write_distribution(tmp_path, "hostile", {"hostile": point})
    done = run_cli("--help", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout
    assert "Traceback" not in done.stderr
    listed = run_cli("weights" if "weights" in kind else "plugins", "list", path=tmp_path)
    assert listed.returncode == 0, listed.stderr
    told = listed.stderr + done.stderr
    if kind != "module attributes raise":
        assert "plugin 'hostile' (hostile 1.5)" in told
    assert "Traceback" not in listed.stderr


def test_what_a_plugin_prints_does_not_reach_stdout(tmp_path: Path) -> None:
    source = SCHEDULE.format(name="loud")
    source = "    print('gossip at import')\n" + source.replace(
        "register('loud'", "print('gossip in a hook')\n        register('loud'"
    )
    write_module(tmp_path, "loud_plugin", source)
    write_distribution(tmp_path, "loud", {"loud": "loud_plugin"})
    done = run_cli("plugins", "list", "--json", path=tmp_path)
    assert done.returncode == 0
    assert "gossip" not in done.stdout + done.stderr


def test_other_threads_print_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    with captured_output("plugin 'x'"):
        print("kept")
        thread = threading.Thread(target=print, args=("shown",))
        thread.start()
        thread.join()
        with captured_output("plugin 'y'"):
            print("kept, too")
        print("kept still")
    print("after")
    assert capsys.readouterr().out == "shown\nafter\n"


def test_what_a_plugin_prints_is_shown_when_asked(caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    with caplog.at_level(logging.INFO, "guidelens"), captured_output("plugin 'x'"):
        print("hello\nthere")
    assert caplog.messages == ["plugin 'x' printed: hello there"]
    assert capsys.readouterr().out == ""


FIXED = "{} = property(lambda self: {}, lambda self, value: None)"

ODD = {
    "alphas_cumprod": (
        "generator",
        FIXED.format("alphas_cumprod", None),
        "alphas_cumprod must be a tensor, not None",
    ),
    "list": (
        "generator",
        FIXED.format("alphas_cumprod", [0.9]),
        "alphas_cumprod must be a tensor, not a list",
    ),
    "prediction": ("generator", "prediction = 3", "prediction must be 'epsilon', 'x0' or 'v', not a int"),
    "fingerprint": ("generator", FIXED.format("fingerprint", 3), "fingerprint must be text, not a int"),
    "objectives": ("guidance", "objectives = None", "objectives must be a set of names, not None"),
    "numbers": ("guidance", "objectives = frozenset({1})", "objectives must be a set of names"),
    "text": ("guidance", "objectives = 'itc'", "objectives must be a set of names, not a str"),
    "columns": ("metric", "columns = None", "columns must be a sequence of Column, not None"),
    "exits": (
        "generator",
        "def __getattr__(self, name): raise SystemExit(3)",
        "failed in its factory: SystemExit",
    ),
    "exits too": (
        "guidance",
        "def __getattr__(self, name): raise SystemExit(3)",
        "failed in its factory: SystemExit",
    ),
    "lazily": (
        "guidance",
        "default_scales = property(lambda self: 1 / 0)",
        "failed in its factory: ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_attributes_are_noticed_when_a_component_is_built(tmp_path: Path, kind: str) -> None:
    role, line, message = ODD[kind]
    base = {"generator": "TinyGenerator", "guidance": "TinyGuidance", "metric": "Brightness"}[role]
    hook = {"generator": "generators", "guidance": "guidance_models", "metric": "metrics"}[role]
    path = write_module(
        tmp_path,
        "odd",
        f"""
        from guidelens.hookspecs import hookimpl
        from tiny_world import {base}

        class Odd({base}):
            {line}

        @hookimpl
        def register_{hook}(register):
            register("odd", Odd, summary="")
        """,
    )
    manager = PluginManager.load([str(path)], environment={})
    with pytest.raises(GuidelensError, match=message) as caught:
        manager.build(role, "odd")
    assert str(caught.value).startswith(f"{'guidance model' if role == 'guidance' else role} 'odd' of plugin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [10**400, torch.ones(3), 1j, "1", None, True])
def test_weights_that_are_no_numbers(weight: Any) -> None:
    with pytest.raises(UsageError, match="must be a finite number, not") as caught:
        weights_at(Weights({"itc": weight}), 0.5)
    assert "\n" not in str(caught.value)


def test_a_signature_that_cannot_be_read_hides_no_other_plugin(tmp_path: Path) -> None:
    path = write_module(
        tmp_path,
        "odd",
        """
        from guidelens.hookspecs import hookimpl

        class Factory:
            def __getattr__(self, name): raise SystemExit(5)
            def __call__(self): pass

        @hookimpl
        def register_metrics(register):
            register("odd", Factory(), summary="")
        """,
    )
    done = run_cli("-p", str(path), "plugins", "list", "--json")
    assert done.returncode == 0
    assert {"odd", "shapes"} <= {plugin["name"] for plugin in json.loads(done.stdout)}
    assert "failed in the signature of its factory" in done.stderr
