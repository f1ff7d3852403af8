"""Pipelines of latents and flows: unguided pictures are those of diffusers's own pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens import compare
from guidelens.diffusion import ReplayedNoise
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.guidance import resolve
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from guidelens.testing import check_generator
from guidelens_diffusers import (
    DiffusersGenerator,
    LatentDecoder,
    empty_prompt,
    load_generator,
    training_process,
)
from guidelens_diffusers.process import TrainingProcess
from guidelens_diffusers.text import SEEN_TEXT
from latent_pipelines import (
    T,
    dit,
    flux,
    latent_diffusion,
    stable_diffusion,
    stable_diffusion_3,
    tiny_vae,
    vae,
    vq,
)
from tiny_pipelines import Always, Pull, tiny_unet
from torch import Tensor

# PyTorch, of norms without weights under bfloat16 autocast on a CPU.
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")

try:
    from diffusers import StableDiffusionPipeline  # noqa: F401

    TEXT = True
except (ImportError, RuntimeError):  # with the transformers that LAVIS needs
    TEXT = False
reads_text = pytest.mark.skipif(not TEXT, reason="diffusers needs a newer transformers for pipelines of text")

UNTRAINED = ("denoises",)
"""What a random network cannot do."""


def noise_for(generator: Any, seed: int = 0) -> Tensor:
    return torch.randn(2, *generator.image_shape, generator=torch.Generator().manual_seed(seed))


def drawn(generator: Any, noise: Tensor) -> Tensor:
    """Our pictures under DDIM, of every training timestep, in [0, 1]."""
    engine = Engine(generator, None, Sampling(steps=T, sampler="ddim"), device="cpu")
    *_, last = engine.stream([Sample("", None, k) for k in range(len(noise))], noise=ReplayedNoise([noise]))
    return (last.picture / 2 + 0.5).clamp(0, 1)


def sigmas_of(generator: Any) -> list[float]:
    """The levels of a flow, noisiest first, before the shift."""
    return [1 - 1 / (2 * T), *((i + 1) / T for i in reversed(range(T - 1)))]


@pytest.mark.parametrize("decoder", [vae, vq], ids=["kl", "vq"])
def test_unconditional_latent_diffusion(
    decoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = latent_diffusion(decoder())
    pipeline.save_pretrained(tmp_path)
    generator = load_generator(tmp_path)
    channels = generator.image_shape[0]
    assert generator.image_shape == (channels, 8, 8)
    assert generator.picture_shape == (3, 16, 16)
    noise = noise_for(generator)
    module = "diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond"
    import importlib

    monkeypatch.setattr(importlib.import_module(module), "randn_tensor", lambda *a, **k: noise)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(batch_size=2, num_inference_steps=T, output_type="np", return_dict=False)[0]
    torch.testing.assert_close(
        drawn(generator, noise), torch.from_numpy(theirs).permute(0, 3, 1, 2), rtol=0, atol=2e-4
    )
    # A codebook's gradient is straight through, not that of its steps.
    check_generator(generator, skip=UNTRAINED if decoder is vae else (*UNTRAINED, "decode"))


def test_dit_draws_its_null_class(tmp_path: Path) -> None:
    pipeline = dit()
    pipeline.save_pretrained(tmp_path)
    generator = load_generator(tmp_path)
    assert generator.class_label == 5
    assert generator.learned_variance
    x, t = noise_for(generator), torch.tensor([3, 17])
    theirs = pipeline.transformer(x, timestep=t, class_labels=torch.tensor([5, 5])).sample
    torch.testing.assert_close(generator(x, t), theirs)
    theirs = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    torch.testing.assert_close(generator.decode(x), theirs)
    assert load_generator(tmp_path, class_label=2).fingerprint != generator.fingerprint
    with pytest.raises(UsageError, match="no class 5: this network has 0 to 4"):
        load_generator(tmp_path, class_label=5)
    check_generator(generator, skip=UNTRAINED)


def test_dit_under_its_older_name(tmp_path: Path) -> None:
    dit().save_pretrained(tmp_path)
    config = tmp_path / "transformer" / "config.json"
    values = {**json.loads(config.read_text()), "_class_name": "Transformer2DModel"}
    config.write_text(json.dumps(values))
    assert load_generator(tmp_path).class_label == 5


@reads_text
@pytest.mark.parametrize(
    "scheduler",
    [{}, {"prediction_type": "v_prediction"}, {"beta_schedule": "scaled_linear"}],
    ids=str,
)
def test_stable_diffusion_with_the_empty_prompt(tmp_path: Path, scheduler: dict[str, Any]) -> None:
    pipeline = stable_diffusion(tmp_path / "words", **scheduler)
    pipeline.save_pretrained(tmp_path / "sd")
    generator = load_generator(tmp_path / "sd")
    noise = noise_for(generator)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        ["", ""],
        guidance_scale=1.0,
        num_inference_steps=T,
        latents=noise,
        output_type="pt",
        height=16,
        width=16,
    ).images
    torch.testing.assert_close(drawn(generator, noise), theirs, rtol=0, atol=2e-4)
    assert generator.notes == (SEEN_TEXT,)


@reads_text
def test_stable_diffusion_keeps_the_contract(tmp_path: Path) -> None:
    stable_diffusion(tmp_path / "words").save_pretrained(tmp_path / "sd")
    check_generator(load_generator(tmp_path / "sd"), skip=UNTRAINED)


@reads_text
def test_zero_terminal_snr(tmp_path: Path) -> None:
    options = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    stable_diffusion(tmp_path / "words", **options).save_pretrained(tmp_path / "sd")
    generator = load_generator(tmp_path / "sd")
    assert generator.alphas_cumprod[-1] < 1e-3
    assert drawn(generator, noise_for(generator)).isfinite().all()


@reads_text
def test_stable_diffusion_3(tmp_path: Path) -> None:
    pipeline = stable_diffusion_3(tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "sd3")
    generator = load_generator(tmp_path / "sd3")
    noise = noise_for(generator)
    sigmas = sigmas_of(generator)
    first = 3 * sigmas[0] / (1 + 2 * sigmas[0])
    # Our first state is the noise over sqrt(a^2 + s^2).
    start = noise * ((1 - first) ** 2 + first**2) ** 0.5
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        ["", ""], guidance_scale=1.0, sigmas=sigmas, latents=start, output_type="pt", height=16, width=16
    ).images
    torch.testing.assert_close(drawn(generator, noise), theirs, rtol=0, atol=5e-4)
    check_generator(generator, skip=UNTRAINED)


@reads_text
@pytest.mark.parametrize("guidance_embeds", [False, True])
def test_flux(tmp_path: Path, guidance_embeds: bool) -> None:
    pipeline = flux(tmp_path / "words", guidance_embeds=guidance_embeds)
    pipeline.save_pretrained(tmp_path / "flux")
    assert load_generator(tmp_path / "flux").picture_shape == (3, 256, 256)  # 128 latents
    generator = load_generator(tmp_path / "flux", image_size=16)
    assert generator.image_shape == (4, 8, 8)
    noise = noise_for(generator)
    sigmas = sigmas_of(generator)
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (16 - 256)
    shift = torch.tensor(mu).exp().item()
    first = shift * sigmas[0] / (1 + (shift - 1) * sigmas[0])
    start = noise * ((1 - first) ** 2 + first**2) ** 0.5
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        ["", ""],
        guidance_scale=1.0,
        sigmas=sigmas,
        latents=pipeline._pack_latents(start, 2, 4, 8, 8),
        output_type="pt",
        height=16,
        width=16,
    ).images
    torch.testing.assert_close(drawn(generator, noise), theirs, rtol=0, atol=5e-4)
    check_generator(generator, skip=UNTRAINED)


def test_a_smaller_decoder(tmp_path: Path) -> None:
    dit().save_pretrained(tmp_path / "dit")
    small = tiny_vae()
    small.save_pretrained(tmp_path / "taesd")
    component = PluginManager.load().resolve(
        "generator", f"diffusers:path={tmp_path / 'dit'},decoder={tmp_path / 'taesd'}"
    )
    generator = component.build()
    latents = noise_for(generator)
    torch.testing.assert_close(generator.decode(latents), small.decode(latents).sample)
    assert generator.picture_shape == (3, 16, 16)
    assert generator.fingerprint != load_generator(tmp_path / "dit").fingerprint
    check_generator(generator, skip=UNTRAINED)
    tiny_vae(latent_channels=16).save_pretrained(tmp_path / "wide")
    with pytest.raises(GuidelensError, match="diffuses 4 channels, and its decoder takes latents of 16"):
        load_generator(tmp_path / "dit", decoder=tmp_path / "wide")


def test_checkpointing_reaches_the_decoder(tmp_path: Path) -> None:
    dit().save_pretrained(tmp_path)
    generator = load_generator(tmp_path)
    generator.checkpointing(True)
    assert generator.network.is_gradient_checkpointing
    assert generator.decode.vae.is_gradient_checkpointing
    generator.checkpointing(False)
    assert not generator.decode.vae.is_gradient_checkpointing


def test_guided_steps_go_through_the_decoder(tmp_path: Path) -> None:
    dit().save_pretrained(tmp_path)
    generator = load_generator(tmp_path)
    engine = Engine(generator, Pull(), Sampling(steps=T, scale=3.0, through="x0"), device="cpu")
    guided, free = engine.run([Sample("0.9", Always(), 0), Sample("", None, 0)])
    assert (guided.image - 0.9).abs().mean() < (free.image - 0.9).abs().mean()


@reads_text
def test_results_say_that_the_prior_has_seen_text(tmp_path: Path) -> None:
    stable_diffusion(tmp_path / "words").save_pretrained(tmp_path / "sd")
    generator = load_generator(tmp_path / "sd")
    assert SEEN_TEXT in resolve(Sampling(steps=2), generator, None).notes
    heard: list[str] = []
    compare(
        "0.5",
        schedules={"always": Always()},
        seeds=1,
        sampling=Sampling(steps=2),
        generator=generator,
        guidance=Pull(),
        metrics=(),
        out=tmp_path / "run",
        on_note=lambda note: heard.append(note.text),
        device="cpu",
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"prompt": "", "note": SEEN_TEXT} in config["notes"]
    assert SEEN_TEXT in (tmp_path / "run" / "index.html").read_text()
    assert SEEN_TEXT in heard


@reads_text
def test_pipelines_in_memory(tmp_path: Path) -> None:
    pipeline = stable_diffusion(tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "sd")
    config = {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
    generator = DiffusersGenerator(
        pipeline.unet,
        training_process(config),
        decoder=LatentDecoder(pipeline.vae),
        prompt=empty_prompt(pipeline),
    )
    loaded = load_generator(tmp_path / "sd")
    noise = noise_for(generator)
    torch.testing.assert_close(drawn(generator, noise), drawn(loaded, noise))
    with pytest.raises(UsageError, match="give the empty prompt"):
        DiffusersGenerator(pipeline.unet, training_process(config), decoder=LatentDecoder(pipeline.vae))


@reads_text
def test_a_flow_transformer_needs_a_flow(tmp_path: Path) -> None:
    stable_diffusion_3(tmp_path / "words").save_pretrained(tmp_path / "sd3")
    scheduler = tmp_path / "sd3" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({"_class_name": "DDPMScheduler"}))
    with pytest.raises(GuidelensError, match="predicts the velocity of flow matching"):
        load_generator(tmp_path / "sd3")


@reads_text
def test_sizes(tmp_path: Path) -> None:
    stable_diffusion_3(tmp_path / "words").save_pretrained(tmp_path / "sd3")
    assert load_generator(tmp_path / "sd3", image_size=24).image_shape == (4, 12, 12)
    for size, message in ((15, "one latent is 2 pixels wide"), (18, "18x18"), (40, "at most 32 pixels")):
        with pytest.raises(UsageError, match=message):
            load_generator(tmp_path / "sd3", image_size=size)


@reads_text
def test_text_encoders_that_are_missing_or_damaged(tmp_path: Path) -> None:
    stable_diffusion(tmp_path / "words").save_pretrained(tmp_path / "sd")
    (file,) = (tmp_path / "sd" / "text_encoder").glob("*.safetensors")
    file.write_bytes(b"no weights")
    with pytest.raises(GuidelensError, match="cannot encode the empty prompt") as caught:
        load_generator(tmp_path / "sd")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "EDMEulerScheduler"},
        {
            "_class_name": "EDMEulerScheduler",
            "prediction_type": "v_prediction",
            "sigma_schedule": "exponential",
        },
        {
            "_class_name": "EulerDiscreteScheduler",
            "timestep_type": "continuous",
            "prediction_type": "v_prediction",
            "use_karras_sigmas": True,
            "sigma_min": 0.01,
            "sigma_max": 40.0,
        },
        {
            "_class_name": "EulerDiscreteScheduler",
            "timestep_type": "continuous",
            "use_karras_sigmas": True,
            "sigma_min": 0.01,
            "sigma_max": 40.0,
        },
    ],
    ids=["edm", "edm-v", "karras-v", "karras"],
)
def test_pixel_networks_of_noise_levels(config: dict[str, Any]) -> None:
    """The x0 of a step, against the schedulers's own formulas."""
    import diffusers

    network = tiny_unet()
    process: TrainingProcess = training_process({"num_train_timesteps": T, **config})
    generator = DiffusersGenerator(network, process)
    assert generator.prediction == "x0"
    assert process.path is not None
    z, index = noise_for(generator), 12
    sigma = process.path.noise[index]
    x = z * process.path.scale[index]
    name = config["_class_name"]
    scheduler = getattr(diffusers, name)(**{k: v for k, v in config.items() if k != "_class_name"})
    scheduler.sigmas = torch.stack([sigma.float(), torch.tensor(0.0)])
    scheduler.timesteps = 0.25 * scheduler.sigmas[:1].log()
    scheduler.num_inference_steps = 1
    time = scheduler.timesteps[0]
    shown = scheduler.scale_model_input(x, time)
    theirs = scheduler.step(network(shown, time).sample, time, x).pred_original_sample
    ours = generator(z, torch.tensor([index, index]))
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=2e-4, atol=2e-4)
    check_generator(generator, skip=UNTRAINED)
