"""Guidance of latents: an orthogonal decoder against guidance of pixels, a convolutional one against autograd."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from guidelens import UsageError, compare
from guidelens.bench.run import bench
from guidelens.diffusion import ReplayedNoise
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError
from guidelens.guidance import GuidedDenoiser, plan_guidance, resolve
from guidelens.guidance.denoiser import Guided
from guidelens.runs.single import draw
from guidelens.sampling import Sampling
from guidelens.testing import TinyGuidanceModel, check_generator, examine
from latent_world import LATENTS, ConvLatents, Rotated, mapped
from PIL import Image
from toys import SHAPE, Constant, GaussianGenerator, Quadratic, Shift, TinyNet

SAMPLES = [
    Sample("0.7", Shift("near", "steep"), seed=1),
    Sample("-0.4", Constant(near=1.0), seed=2, scale=0.3),
    Sample("", None, seed=3),
]
WAYS = [
    {},
    {"sampler": "ddim", "eta": 0.4},
    {"through": "x0"},
    {"see": "blend"},
    {"into": "x0"},
    {"into": "sample", "normalize": "unit", "clip_norm": 0.5},
    {"normalize": "noise"},
]


def both_ways(options):
    """The steps of guided latents, and of the same pictures guided as pixels with the same noise."""
    pixels = TinyNet().double().eval()
    latents = Rotated(pixels)
    sampling = Sampling(steps=6, scale=0.5, clip_denoised=False, dtype="float64", **options)
    random = torch.Generator().manual_seed(4)
    draws = [torch.randn(3, *LATENTS, generator=random, dtype=torch.float64) for _ in range(7)]
    turned = [mapped(latents.matrix, noise, SHAPE) for noise in draws]
    engines = (Engine(latents, Quadratic(), sampling), Engine(pixels, Quadratic(), sampling))
    return latents, *(
        list(engine.stream(SAMPLES, noise=ReplayedNoise(noise)))
        for engine, noise in zip(engines, (draws, turned), strict=True)
    )


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_an_orthogonal_decoder_gives_the_guidance_of_pixels(options):
    latents, ours, theirs = both_ways(options)
    for mine, other in zip(ours, theirs, strict=True):
        close = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}
        torch.testing.assert_close(mine.picture, other.sample, **close)
        torch.testing.assert_close(mine.preview, other.pred_x0, **close)
        torch.testing.assert_close(latents.encode(other.x_t), mine.x_t, **close)
        torch.testing.assert_close(mine.gradients, other.gradients, **close)
        torch.testing.assert_close(mine.gradient_norms, other.gradient_norms, **close)
        torch.testing.assert_close(mine.losses, other.losses, **close)
        torch.testing.assert_close(mine.cosines, other.cosines, **close)
        assert mine.gradient_norms["near"][1] > 0


def test_a_gaussian_in_latents_ends_at_its_closed_form():
    """Latents of N(m, s^2) pixels under DDIM and no guidance: x_0 = m + s x_T, up to the discretisation."""
    latents = Rotated(GaussianGenerator(0.2, 0.5))
    engine = Engine(latents, None, Sampling(steps=1000, sampler="ddim", dtype="float64"))
    (*_, last) = engine.stream([Sample("", None, 0)])
    (first, *_) = engine.stream([Sample("", None, 0)])
    expected = 0.2 + 0.5 * mapped(latents.matrix, first.x_t, SHAPE)
    torch.testing.assert_close(last.picture, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("see", ["x0", "blend"])
@pytest.mark.parametrize("through", ["unet", "x0"])
@pytest.mark.parametrize(("prediction", "learned"), [("epsilon", True), ("x0", False), ("v", False)])
def test_a_convolutional_decoder_against_autograd(prediction, learned, through, see):
    net = ConvLatents(prediction=prediction, learned_variance=learned).double().eval()
    model = Quadratic()
    scales = {"near": 0.7, "steep": -1.3}
    plan = plan_guidance(
        [Constant(near=0.5, steep=2.0), Constant(near=1.0)], [1.5, -0.5], [True], model.objectives
    )
    settings = resolve(Sampling(steps=9, objective_scales=scales, through=through, see=see), net, model)
    text = model.encode_text(["0.3", "-0.8"])
    x_t = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    index = torch.tensor([6, 2])
    with torch.no_grad():
        guided = GuidedDenoiser(net, model, settings, plan, text)(x_t, index, 0)

    abar = settings.process.alphas_cumprod[index].reshape(-1, 1, 1, 1)
    point = x_t.clone().requires_grad_()
    output = net(point, settings.process.timesteps[index])[:, :4]
    x0 = {
        "epsilon": (point - (1 - abar).sqrt() * output) / abar.sqrt(),
        "x0": output,
        "v": abar.sqrt() * point - (1 - abar).sqrt() * output,
    }[prediction]
    if through == "x0":  # dx0/dx_t = sqrt(abar)
        x0 = x0.detach() + abar.sqrt() * (point - x_t)
    share = (1 - abar).sqrt() if see == "blend" else 1
    picture = net.decoder(share * x0 + (1 - share) * point)
    losses = model.losses(picture, text, ["near", "steep"])
    total = (
        1.5 * (0.5 * 0.7 * losses["near"][0] + 2.0 * -1.3 * losses["steep"][0])
        - 0.5 * 0.7 * losses["near"][1]
    )
    (expected,) = torch.autograd.grad(-total, point, retain_graph=True)
    torch.testing.assert_close(guided.gradient, expected, rtol=1e-10, atol=1e-12)
    (at_picture,) = torch.autograd.grad(losses["near"].sum(), picture)
    torch.testing.assert_close(guided.gradients["near"], at_picture, rtol=1e-10, atol=1e-12)
    if see == "x0":
        torch.testing.assert_close(guided.preview, picture.detach())
    else:
        assert guided.preview is None


def test_a_guided_step_decodes_once_and_an_unguided_one_not_at_all():
    latents = Rotated(GaussianGenerator())
    engine = Engine(latents, Quadratic(), Sampling(steps=4, stop=0.5))
    steps = []
    for step in engine.stream(SAMPLES):
        _ = step.preview if step.index < 2 else None
        steps.append(len(latents.decoded))
    assert steps == [1, 2, 2, 2]
    assert step.preview.shape == step.picture.shape == (3, *SHAPE)
    assert len(latents.decoded) == 4
    assert step.picture is step.picture  # decoded when first read, and kept


def test_gradients_of_inactive_objectives_have_the_shape_of_pictures():
    engine = Engine(ConvLatents(), TinyGuidanceModel(), Sampling(steps=4))
    for step in engine.stream([Sample("a", Shift("itc", "cap"), 0), Sample("b", Constant(itm=1.0), 0)]):
        assert {tuple(g.shape) for g in step.gradients.values()} == {(2, 3, 8, 8)}
        assert step.gradients["itm"][0].isnan().all()
        assert step.sample.shape == (2, 4, 4, 4)


def test_a_batch_in_parts_is_the_same(monkeypatch):
    samples = [Sample(str(n / 4), Constant(near=1.0), n) for n in range(3)]
    whole = Engine(ConvLatents().double(), Quadratic(), Sampling(steps=3, dtype="float64"))
    parts = Engine(ConvLatents().double(), Quadratic(), Sampling(steps=3, dtype="float64"))
    parts._micro.limit = 2
    for mine, other in zip(parts.stream(samples), whole.stream(samples), strict=True):
        torch.testing.assert_close(mine.preview, other.preview)
        torch.testing.assert_close(mine.picture, other.picture)


def test_joined_parts_have_a_preview_only_if_all_have_one():
    part = Guided(
        torch.zeros(1, 4, 4, 4), None, torch.zeros(0, 1), {}, torch.zeros(0, 1), {}, torch.zeros(1) > 0
    )
    decoded = replace(part, preview=torch.ones(1, 3, 8, 8))
    assert Guided.join([part, decoded]).preview is None
    joined = Guided.join([decoded, decoded]).preview
    assert joined is not None
    assert joined.shape == (2, 3, 8, 8)


def test_an_objective_that_is_not_finite_leaves_its_sample_unguided():
    class Broken(Quadratic):
        def losses(self, images, text, objectives):
            sick = torch.tensor([math.nan, 1.0][: len(images)]).to(images)
            return {name: loss * sick for name, loss in super().losses(images, text, objectives).items()}

    engine = Engine(ConvLatents(), Broken(), Sampling(steps=3), max_nonfinite=3)
    samples = [Sample("0.5", Constant(near=1.0), seed) for seed in (0, 1)]
    for step in engine.stream(samples):
        assert step.nonfinite.tolist() == [True, False]
        assert step.sample.isfinite().all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_reduced_precision_decodes_and_differentiates(dtype):
    """Networks and decoder under autocast; states, pictures and gradients are float32, and near those of float32."""
    pictures = {}
    for name in ("float32", dtype):
        engine = Engine(ConvLatents(), Quadratic(), Sampling(steps=4, dtype=name, scale=0.1), device="cpu")
        *_, step = engine.stream([Sample("0.5", Constant(near=1.0), 0)])
        assert {step.picture.dtype, step.preview.dtype, step.gradients["near"].dtype} == {torch.float32}
        assert not step.nonfinite.any()
        pictures[name] = step.picture
    assert not torch.equal(pictures["float32"], pictures[dtype])
    torch.testing.assert_close(pictures[dtype], pictures["float32"], rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"clip_denoised": True}, "clip_denoised"),
        ({"range_scale": 2.0}, "range_scale"),
        ({"see": "clamped"}, "see"),
        ({"sampler": "ddim", "clip_after_guidance": True}, "clip_after_guidance"),
    ],
)
def test_what_supposes_pixels_is_refused_with_the_reason(options, setting):
    with pytest.raises(
        UsageError, match="this generator diffuses latents, which have no such range"
    ) as caught:
        resolve(Sampling(**options), ConvLatents(), TinyGuidanceModel())
    assert caught.value.setting == setting
    resolve(Sampling(**options), TinyNet(), TinyGuidanceModel())


def test_clip_denoised_is_off_for_latents_and_on_for_pixels():
    assert resolve(Sampling(), ConvLatents(), None).sampling.clip_denoised is False
    assert resolve(Sampling(), TinyNet(), None).sampling.clip_denoised is True
    assert resolve(Sampling(clip_denoised=False), TinyNet(), None).sampling.clip_denoised is False


def test_a_model_that_reads_x_t_is_refused():
    model = TinyGuidanceModel()
    model.reads = "x_t"
    with pytest.raises(UsageError, match="reads noisy pictures"):
        resolve(Sampling(), ConvLatents(), model)


def test_pages_and_metrics_show_decoded_pictures(tmp_path):
    class Size:
        columns = ()

        def __init__(self):
            self.seen = []

        def score(self, images, prompts):
            self.seen.append(tuple(images.shape))
            return [{} for _ in prompts]

    metric, generator = Size(), ConvLatents()
    generator.notes = ("what readers should know",)
    parts = {
        "generator": generator,
        "guidance": TinyGuidanceModel(),
        "metrics": [metric],
        "device": "cpu",
    }
    schedule = {"itc": Constant(itc=1.0)}
    done = compare("a circle", schedules=schedule, seeds=1, sampling=Sampling(steps=3), out=tmp_path, **parts)
    (row,) = done.rows
    with Image.open(tmp_path / row["image"]) as picture:
        assert picture.size == (8, 8)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["settings"]["image_shape"] == [3, 8, 8]
    assert config["settings"]["clip_denoised"] is False
    assert metric.seen[0][1:] == (3, 8, 8)
    assert {"prompt": "", "note": "what readers should know"} in config["notes"]
    assert '<p class="warning">what readers should know</p>' in (tmp_path / "index.html").read_text()
    drawing = draw(
        "a circle",
        Constant(itc=1.0),
        sampling=Sampling(steps=3),
        keep_frames=True,
        keep_saliency=True,
        **parts,
    )
    assert {frame.size for frame in drawing.frames} == {(8, 8)}
    assert drawing.telemetry is not None
    assert drawing.telemetry.snapshots.shape[1:] == (8, 8, 3)
    assert drawing.telemetry.saliency["itc"].shape[1:] == (8, 8)


def test_a_faithful_decoder_passes_the_conformance_checks():
    generator = Rotated(GaussianGenerator())
    clean = generator.encode(0.2 + 0.5 * torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0)))
    report = check_generator(generator, images=clean)
    assert [check.name for check in report.skipped] == ["checkpointing"]
    assert report["decode"].numbers["relative error of the gradient"] < 1e-6
    assert report["denoises"].numbers["worst error"] <= 1.0
    check_generator(ConvLatents(), skip=("denoises",))


def _mixing(latents):
    return (
        latents.mean(dim=0, keepdim=True)
        .expand_as(latents)[:, :3]
        .repeat_interleave(2, 2)
        .repeat_interleave(2, 3)
    )


@pytest.mark.parametrize(
    ("decode", "complaint"),
    [
        (lambda z: z, "decode() returned the shape (3, 4, 4, 4); it must be (3, 3, 8, 8)"),
        (lambda z: z[:, :3].repeat(1, 1, 2, 2).detach(), "without gradient"),
        (lambda z: z.mul_(2)[:, :3].repeat(1, 1, 2, 2), "writes into the latents"),
        (lambda z: z[:, :3].repeat(1, 1, 2, 2) / 0, "not finite"),
        (_mixing, "a sample alone and in a batch"),
        (lambda z: None, "not a tensor"),
    ],
)
def test_a_faulty_decoder_fails_them(decode, complaint):
    net = ConvLatents()
    net.decode = decode
    report = examine("generator", net, skip=("denoises",))
    failed = {check.name: check.detail for check in report.failures}
    assert complaint in failed["decode"]


def test_decoders_need_a_picture_shape():
    net = ConvLatents()
    net.picture_shape = None
    with pytest.raises(UsageError, match=r"picture_shape must be \(C, H, W\)"):
        resolve(Sampling(), net, TinyGuidanceModel())
    net.picture_shape = (4, 8, 8)
    with pytest.raises(UsageError, match="images of 4 channels"):
        resolve(Sampling(), net, TinyGuidanceModel())


def test_an_error_in_the_decoder_names_it():
    net = ConvLatents()

    def decode(latents):
        raise RuntimeError("no such layer")

    net.decode = decode
    engine = Engine(net, TinyGuidanceModel(), Sampling(steps=2))
    with pytest.raises(GuidelensError, match=r"failed in decode\(\): RuntimeError: no such layer"):
        next(engine.stream([Sample("a", Constant(itc=1.0), 0)]))


def test_the_benchmark_measures_latents():
    report = bench(ConvLatents(), TinyGuidanceModel(), repeats=1, device="cpu")
    assert report.generator["image_shape"] == [4, 4, 4]
    assert report.batches[0].guided
