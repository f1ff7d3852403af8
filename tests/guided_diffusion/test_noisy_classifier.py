"""The classifier of noisy pictures: its network against formulas written out, its guidance against the paper's."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from guidelens.contracts import GuidanceModel
from guidelens.diffusion import DiffusionProcess, ReplayedNoise, alphas_cumprod_of, beta_schedule
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from guidelens_guided_diffusion import EncoderUNet, GuidedDiffusionGenerator, NoisyClassifierGuidance, UNet
from guidelens_guided_diffusion.encoder import AttentionPool2d
from guidelens_guided_diffusion.imagenet import class_index, class_names
from guidelens_guided_diffusion.plugin import noisy_classifier
from safetensors.torch import save_file
from small_unet import SMALL, lively
from torch import Tensor

POOLS = ("adaptive", "attention", "spatial", "spatial_v2")
FLAGS: dict[str, Any] = {**SMALL, "out_channels": 7}


def classifier(pool: str = "attention", **changes: Any) -> EncoderUNet:
    network: EncoderUNet = lively(EncoderUNet(**{**FLAGS, "pool": pool, **changes}))  # type: ignore[assignment, arg-type]  # redraws any module
    return network


def test_names_are_the_originals() -> None:
    """Those of the output; the rest is the UNet's."""
    expected = {
        "adaptive": {"0.weight": (64,), "0.bias": (64,), "3.weight": (7, 64, 1, 1), "3.bias": (7,)},
        "attention": {
            "0.weight": (64,),
            "0.bias": (64,),
            "2.positional_embedding": (64, 17),
            "2.qkv_proj.weight": (192, 64, 1),
            "2.qkv_proj.bias": (192,),
            "2.c_proj.weight": (7, 64, 1),
            "2.c_proj.bias": (7,),
        },
        # Averages of: first convolution, block, downsampling, block; and of the middle.
        "spatial": {
            "0.weight": (2048, 32 + 32 + 32 + 64 + 64),
            "0.bias": (2048,),
            "2.weight": (7, 2048),
            "2.bias": (7,),
        },
        "spatial_v2": {
            "0.weight": (2048, 32 + 32 + 32 + 64 + 64),
            "0.bias": (2048,),
            "1.weight": (2048,),
            "1.bias": (2048,),
            "3.weight": (7, 2048),
            "3.bias": (7,),
        },
    }
    unet = UNet(**SMALL).state_dict()
    for pool, wanted in expected.items():
        state = EncoderUNet(**{**FLAGS, "pool": pool}).state_dict()
        out = {name[4:]: tuple(v.shape) for name, v in state.items() if name.startswith("out.")}
        assert out == wanted
        shared = {name: v.shape for name, v in state.items() if not name.startswith("out.")}
        encoder = [n for n in unet if not n.startswith(("output_blocks.", "out."))]
        assert shared == {name: unet[name].shape for name in encoder}


def features(network: EncoderUNet, x: Tensor, t: Tensor) -> list[Tensor]:
    """What every stage gives, the middle last."""
    found: list[Tensor] = []
    for stage in (*network.input_blocks, network.middle_block):
        stage.register_forward_hook(lambda *args: found.append(args[-1]))
    network(x, t)
    return found


def naive_attention_pool(pool: AttentionPool2d, h: Tensor) -> Tensor:
    """Head by head, for the first token alone."""
    tokens = torch.cat([h.mean((2, 3))[:, :, None], h.flatten(2)], 2) + pool.positional_embedding
    qkv = torch.einsum("oc,bct->bot", pool.qkv_proj.weight[:, :, 0], tokens) + pool.qkv_proj.bias[:, None]
    q, k, v = qkv.chunk(3, dim=1)
    width = q.shape[1] // pool.num_heads
    heads = []
    for head in range(pool.num_heads):
        rows = slice(head * width, (head + 1) * width)
        scores = torch.einsum("bc,bct->bt", q[:, rows, 0], k[:, rows]) / math.sqrt(width)
        heads.append(torch.einsum("bt,bct->bc", scores.softmax(1), v[:, rows]))
    return torch.cat(heads, 1) @ pool.c_proj.weight[:, :, 0].T + pool.c_proj.bias


@pytest.mark.parametrize("pool", POOLS)
def test_pooling_is_its_formula(pool: str, x: Tensor, t: Tensor) -> None:
    network = classifier(pool).double()
    found = features(network, x.double(), t)
    logits = network(x.double(), t)
    silu = lambda h: h * torch.sigmoid(h)  # noqa: E731  # one formula
    if pool.startswith("spatial"):
        h = network.out[0](torch.cat([feature.mean((2, 3)) for feature in found[:5]], 1))
        if pool == "spatial":
            expected = network.out[2](h.clamp(min=0))
        else:
            groups = h.view(2, 32, 64)
            unit = (groups - groups.mean(2, keepdim=True)) / (
                groups.var(2, unbiased=False, keepdim=True) + 1e-5
            ).sqrt()
            expected = network.out[3](silu(unit.view(2, -1) * network.out[1].weight + network.out[1].bias))
    else:
        h = silu(F.group_norm(found[4], 32, network.out[0].weight, network.out[0].bias))
        if pool == "adaptive":
            conv = network.out[3]
            expected = h.mean((2, 3)) @ conv.weight[:, :, 0, 0].T + conv.bias
        else:
            expected = naive_attention_pool(network.out[2], h)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(logits, expected)


def test_stages_are_the_unets(x: Tensor, t: Tensor) -> None:
    """The first half is the UNet's own, weights and all."""
    network = classifier()
    unet = lively(UNet(**SMALL))
    unet.load_state_dict(
        {n: v for n, v in network.state_dict().items() if not n.startswith("out.")}, strict=False
    )
    found: list[Tensor] = []
    unet.middle_block.register_forward_hook(lambda *args: found.append(args[-1]))
    unet(x, t)
    torch.testing.assert_close(found[0], features(network, x, t)[-1])


def test_a_new_adaptive_classifier_is_undecided(x: Tensor, t: Tensor) -> None:
    """Its last convolution starts at zero, as in the original."""
    assert not EncoderUNet(**{**FLAGS, "pool": "adaptive"})(x, t).any()


@pytest.mark.parametrize("pool", POOLS)
def test_gradients_and_precisions(pool: str, x: Tensor, t: Tensor) -> None:
    network = classifier(pool)
    results = {}
    for dtype in (torch.float32, torch.bfloat16):
        point = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = network(point, t)
        assert logits.dtype == torch.float32
        results[dtype] = torch.autograd.grad(logits.square().sum(), point)[0]
    exact, rounded = results.values()
    assert bool((exact != 0).all())
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.1
    recomputing = EncoderUNet(**{**FLAGS, "pool": pool, "use_checkpoint": True}).eval().requires_grad_(False)
    recomputing.load_state_dict(network.state_dict())
    point = x.clone().requires_grad_()
    (again,) = torch.autograd.grad(recomputing(point, t).square().sum(), point)
    torch.testing.assert_close(again, exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "max"}, "pool must be one of adaptive, attention, spatial, spatial_v2, not 'max'"),
        ({"pool": "attention", "num_head_channels": -1}, "num_head_channels must be given"),
        ({"num_classes": 5}, "num_classes must be left out"),
    ],
)
def test_flags_that_fit_no_classifier(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EncoderUNet(**{**FLAGS, **changes})


class Always:
    """The class objective, at every step."""

    def weights(self, progress: float) -> dict[str, float]:
        return {"class": 1.0}


@pytest.fixture
def guidance() -> NoisyClassifierGuidance:
    return NoisyClassifierGuidance(classifier())


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_guidance_is_the_published_formula(sampler: str, guidance: NoisyClassifierGuidance) -> None:
    """Algorithms 1 and 2 of Dhariwal & Nichol 2021, each step from the engine's own x_t, as their code has it.

    DDPM: mean + Sigma s grad log p(y | x_t). DDIM: eps - sqrt(1 - abar) s grad log p(y | x_t).
    """
    unet = lively(UNet(**SMALL))
    generator = GuidedDiffusionGenerator(unet)
    scale, classes = 3.0, torch.tensor([2, 6])
    noise = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    engine = Engine(generator, guidance, Sampling(steps=5, sampler=sampler), device="cpu")
    samples = [Sample(str(int(y)), Always(), seed, scale=scale) for seed, y in enumerate(classes)]
    process = DiffusionProcess(generator.alphas_cumprod, 5)
    for step in engine.stream(samples, noise=ReplayedNoise(noise)):
        i = 4 - step.index
        t = torch.full((2,), int(process.timesteps[i]))
        point = step.x_t.clone().requires_grad_()
        chosen = guidance.classifier(point, t).log_softmax(1)[range(2), classes]
        (grad,) = torch.autograd.grad(chosen.sum(), point)
        torch.testing.assert_close(step.losses["class"], -chosen.detach())
        index = torch.tensor([i, i])
        posterior = process.p_mean_variance(
            unet(step.x_t, t),
            step.x_t,
            index,
            prediction="epsilon",
            learned_variance=True,
            clip_denoised=True,
        )
        if sampler == "ddpm":
            expected = posterior.mean + posterior.variance * scale * grad
            if i > 0:
                expected = expected + (0.5 * posterior.log_variance).exp() * noise[step.index + 1]
        else:
            abar, before = process.alphas_cumprod[i], process.alphas_cumprod_prev[i]
            eps = (step.x_t - abar.sqrt() * posterior.pred_x0) / (1 - abar).sqrt()
            eps = eps - (1 - abar).sqrt() * scale * grad
            x0 = (step.x_t - (1 - abar).sqrt() * eps) / abar.sqrt()
            expected = before.sqrt() * x0 + (1 - before).sqrt() * eps
        torch.testing.assert_close(step.sample, expected.float(), rtol=1e-4, atol=1e-4)


def test_guidance_costs_the_generator_no_gradient(guidance: NoisyClassifierGuidance) -> None:
    unet = lively(UNet(**SMALL))
    modes = []
    unet.middle_block.register_forward_hook(lambda *args: modes.append(args[-1].requires_grad))
    engine = Engine(GuidedDiffusionGenerator(unet), guidance, Sampling(steps=3), device="cpu")
    list(engine.stream([Sample("1", Always())]))
    assert modes == [False] * 3


class Noise:
    """The exact generator of standard normal pictures."""

    image_shape = (3, 8, 8)
    alphas_cumprod = alphas_cumprod_of(beta_schedule("linear"))
    prediction = "epsilon"
    learned_variance = False
    fingerprint = "noise"

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        return (1 - self.alphas_cumprod[timesteps]).sqrt().float()[:, None, None, None] * x_t


def test_it_raises_the_probability_of_its_class(guidance: NoisyClassifierGuidance) -> None:
    samples = [Sample("4", Always(), seed) for seed in range(4)]
    text = guidance.encode_text(["4"] * 4)

    def loss_at_the_end(scale: float) -> float:
        options = Sampling(scale=scale, clip_denoised=False)
        engine = Engine(Noise(), guidance, replace(options, steps=20), device="cpu")
        images = torch.stack([result.image for result in engine.run(samples)])
        return float(guidance.losses(images, text, ["class"])["class"].mean())

    losses = [loss_at_the_end(scale) for scale in (-100.0, 0.0, 100.0)]
    assert losses[0] > losses[1] + 0.1
    assert losses[1] > losses[2] + 0.1


def test_it_is_a_guidance_model(guidance: NoisyClassifierGuidance, x: Tensor, t: Tensor) -> None:
    assert isinstance(guidance, GuidanceModel)
    assert guidance.reads == "x_t"
    text = guidance.encode_text(["3", "0"])
    together = guidance.losses(x, text, ["class"], timesteps=t)["class"]
    for i in range(2):
        alone = guidance.losses(x[i : i + 1], text.select([i]), ["class"], timesteps=t[i : i + 1])["class"]
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)
    clean = guidance.losses(x, text, ["class"])["class"]
    torch.testing.assert_close(clean, guidance.losses(x, text, ["class"], timesteps=t * 0)["class"])


def test_what_it_cannot_read(guidance: NoisyClassifierGuidance, x: Tensor) -> None:
    text = guidance.encode_text(["3", "0"])
    with pytest.raises(UsageError, match="reads pictures of 8x8, and the generator draws 16x16"):
        guidance.losses(x.repeat(1, 1, 2, 2), text, ["class"])
    with pytest.raises(UsageError, match="unknown objective 'itc'"):
        guidance.losses(x, text, ["itc"])
    with pytest.raises(UsageError, match="'7' is not a class"):
        guidance.encode_text(["3", "7"])


def test_fingerprints_tell_classifiers_apart(guidance: NoisyClassifierGuidance) -> None:
    assert guidance.fingerprint == NoisyClassifierGuidance(classifier()).fingerprint
    others = {NoisyClassifierGuidance(classifier("spatial")).fingerprint, guidance.fingerprint}
    with torch.no_grad():
        guidance.classifier.time_embed[0].bias[0] += 1
    assert NoisyClassifierGuidance(guidance.classifier).fingerprint not in others
    assert len(others) == 2


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("207", 207),
        ("golden retriever", 207),
        ("A Golden  Retriever", 207),
        ("tench", 0),
        ("toilet tissue", 999),
    ],
)
def test_classes_of_imagenet(text: str, number: int) -> None:
    assert class_index(text) == number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("golden retriver", "did you mean golden retriever"),
        ("cardigan", "is the name of the classes 264 and 474: give the number"),
        ("1000", "give 0 to 999"),
        ("-3", "give 0 to 999"),
        ("", "not a class of ImageNet"),
        ("a red circle", "not a class of ImageNet: give 0 to 999, or a name like 'golden retriever'"),
    ],
)
def test_what_names_no_class(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_index(text)


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    class_names.cache_clear()
    try:
        with pytest.raises(GuidelensError, match="torchvision, which is not installed: give numbers"):
            class_index("tench")
        assert class_index("0") == 0
    finally:
        class_names.cache_clear()


@pytest.fixture
def flags_file(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({**FLAGS, "pool": "attention"}))
    return path


def test_the_component(flags_file: Path, tmp_path: Path, guidance: NoisyClassifierGuidance) -> None:
    checkpoint = tmp_path / "classifier.safetensors"
    save_file(dict(guidance.classifier.state_dict()), checkpoint)
    manager = PluginManager.load(environment={})
    built = manager.build("guidance", f"noisy-classifier:checkpoint={checkpoint},flags={flags_file}")
    assert isinstance(built, NoisyClassifierGuidance)
    assert built.fingerprint == guidance.fingerprint
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_the_component_untrained(flags_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, again, other = (noisy_classifier(flags=flags_file, untrained=True, seed=s) for s in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert "noisy-classifier has random weights (untrained=true); its output is meaningless" in caplog.text


def test_options_that_contradict(flags_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint or untrained, not both"):
        noisy_classifier(checkpoint=tmp_path / "a.pt", untrained=True)
    with pytest.raises(UsageError, match="preset or flags, not both"):
        noisy_classifier(preset="imagenet64-classifier", flags=flags_file, untrained=True)
    with pytest.raises(UsageError, match="give its checkpoint=FILE"):
        noisy_classifier(flags=flags_file)


def test_without_its_weights_it_says_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path))
    with pytest.raises(GuidelensError, match="guidelens weights fetch imagenet64-classifier"):
        noisy_classifier(preset="imagenet64-classifier")


def test_a_generators_checkpoint_is_told_from_a_classifiers(flags_file: Path, tmp_path: Path) -> None:
    torch.save(UNet(**SMALL).state_dict(), tmp_path / "unet.pt")
    with pytest.raises(GuidelensError, match="a generator's UNet, but a classifier is needed"):
        noisy_classifier(checkpoint=tmp_path / "unet.pt", flags=flags_file)
