"""On an accelerator no step mixes devices or waits, and no copy is left to memory that is gone by then.

There is no accelerator here: see :mod:`faked_device`.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from faked_device import fake_steps
from guidelens.device_copies import to_device
from guidelens.engine import Sample
from guidelens.sampling import Sampling
from guidelens_blip import BlipGuidance, BlipOptions
from guidelens_open_clip import OpenClipGuidance
from guidelens_worlds.shapes.files import FILES
from toys import EVERYTHING, Constant, Shift, TinyNet, TinyVision, make_engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it imports warns of its own age
    import open_clip

ROOT = Path(__file__).parents[1]


def expect_clean(step, copies):
    for tensor in (step.sample, step.pred_x0, step.nonfinite, *step.losses.values(), *step.cosines.values()):
        assert tensor.device.type == "cuda"
    assert step.sample.dtype == torch.float32
    assert copies
    assert all(copies)  # none that waits


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize(
    "options",
    [Sampling(), EVERYTHING, Sampling(through="x0", into="x0")],
    ids=["plain", "all", "x0"],
)
def test_the_engine_itself(monkeypatch, options, sampler):
    net, vision = TinyNet(), TinyVision()
    samples = [
        Sample("a red circle", Constant(dot=1.0), 0),
        Sample("two squares", Shift("dot", "square"), 1),
        Sample("a cross", None, 3),
    ]
    engine = make_engine(net, vision, replace(options, steps=10), sampler=sampler, device="cpu")
    expect_clean(*fake_steps(monkeypatch, engine, samples, [net, vision]))


def test_the_shapes_world(monkeypatch):
    """A guided-diffusion UNet and BLIP's three objectives."""
    net, blip = FILES.load_generator(), FILES.load_blip()
    samples = [
        Sample("a red circle above a blue square", Constant(itc=1.0, itm=1.0, cap=1.0), 0),
        Sample("a red circle", Constant(cap=1.0), 1),
        Sample("a green cross", None, 2),
    ]
    engine = make_engine(net, blip, Sampling(steps=10), device="cpu")
    expect_clean(*fake_steps(monkeypatch, engine, samples, [net, blip.model]))


def test_a_learned_temperature_and_negatives(monkeypatch):
    net, blip = FILES.load_generator(), FILES.load_blip()
    options = BlipOptions(
        itc_mode="infonce", temperature="learned", negatives=("a red circle", "a blue square")
    )
    model = BlipGuidance(blip.model, blip.config, options)
    engine = make_engine(net, model, Sampling(steps=10), device="cpu")
    samples = [Sample("a red circle", Constant(itc=1.0), 0), Sample("a cross", Constant(itc=0.5), 1)]
    expect_clean(*fake_steps(monkeypatch, engine, samples, [net, model.model]))


def test_open_clip(monkeypatch):
    """A CoCa, which has both of its objectives."""
    text = {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1}
    coca = open_clip.CoCa(
        embed_dim=24,
        vision_cfg={
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 6,
            "output_tokens": True,
        },
        text_cfg={**text, "embed_cls": True, "output_tokens": True},
        multimodal_cfg={**text, "attn_pooler_heads": 2},
    )
    model = OpenClipGuidance(coca, open_clip.SimpleTokenizer(context_length=12))
    net = FILES.load_generator()
    engine = make_engine(net, model, Sampling(steps=10), device="cpu")
    samples = [Sample("a red circle", Constant(itc=1.0, cap=1.0), 0), Sample("a cross", Constant(cap=0.5), 1)]
    expect_clean(*fake_steps(monkeypatch, engine, samples, [net, coca]))


@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu"])
def test_only_cuda_copies_without_waiting(kind):
    """Of ordinary memory CUDA has taken what it needs when the call returns; an Apple GPU reads it later."""

    class Told:
        def to(self, device, *, non_blocking=False):
            return device.type, non_blocking

    assert to_device(Told(), torch.device(kind)) == (kind, kind == "cuda")


def test_nothing_else_copies_without_waiting():
    sources = [path for root in ("core", "plugins") for path in (ROOT / root).rglob("*.py")]
    assert len(sources) > 100
    found = {path.name for path in sources if "non_blocking" in path.read_text(encoding="utf-8")}
    assert found == {"device_copies.py"}
