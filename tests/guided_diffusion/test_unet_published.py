"""The published networks by name: their sizes, how files of them are recognised, and the flags of OpenAI's scripts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens_guided_diffusion import (
    CLASSIFIERS,
    PRESETS,
    EncoderUNet,
    SuperResUNet,
    UNet,
    UNetFlags,
    from_classifier_script,
    from_script,
)
from guidelens_guided_diffusion.checkpoint import build_encoder, build_unet
from guidelens_guided_diffusion.description import read_classifier_flags, read_flags
from guidelens_guided_diffusion.diagnosis import disagreements, published_as, visible_flags
from guidelens_guided_diffusion.plugin import guided_diffusion
from guidelens_guided_diffusion.presets import UPSAMPLERS
from guidelens_guided_diffusion.weights import WEIGHTS
from small_unet import SMALL, lively
from torch import Tensor

# Millions of parameters, from the tables of hyperparameters in Dhariwal & Nichol 2021; the README's networks.
MILLIONS = {
    "imagenet64": 296,
    "imagenet128": 422,
    "imagenet256": 554,
    "imagenet512": 559,
    "imagenet512-uncond": 558,
    **{f"lsun-{name}": 553 for name in ("bedroom", "cat", "horse", "horse-nodropout")},
    "imagenet256-uncond": 553,
    "64-256-upsampler": 312,
    "128-512-upsampler": 309,
    **{f"imagenet{size}-classifier": count for size, count in ((64, 65), (128, 43), (256, 54), (512, 54))},
}
PUBLISHED = {**PRESETS, **UPSAMPLERS, **CLASSIFIERS}


def on_meta(name: str) -> torch.nn.Module:
    network = EncoderUNet if name in CLASSIFIERS else SuperResUNet if name in UPSAMPLERS else UNet
    with torch.device("meta"):
        return network(**PUBLISHED[name].flags.to_dict())


def test_every_published_file_has_its_network() -> None:
    assert set(MILLIONS) == set(PUBLISHED)
    files = {preset.file_name for preset in (*PRESETS.values(), *CLASSIFIERS.values())}
    assert files == set(WEIGHTS)
    for name, preset in (*PRESETS.items(), *CLASSIFIERS.items()):
        assert WEIGHTS[preset.file_name].name == name


@pytest.mark.parametrize("name", MILLIONS)
def test_sizes_are_the_papers(name: str) -> None:
    parameters = sum(parameter.numel() for parameter in on_meta(name).parameters())
    assert round(parameters / 1e6) == MILLIONS[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_a_file_is_recognised_by_its_shapes(name: str) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in on_meta(name).state_dict().items()}
    found = published_as(visible_flags(shapes))
    alike = [other for other in MILLIONS if other.startswith("lsun") or other == "imagenet256-uncond"]
    assert sorted(found) == sorted(alike if name in alike else [name])


VARIANTS: dict[str, dict[str, Any]] = {
    "convolved": {"resblock_updown": False, "num_res_blocks": 3, "attention_resolutions": (1,)},
    "averaged": {"resblock_updown": False, "conv_resample": False, "channel_mult": (1, 2, 2)},
    "updown": {"channel_mult": (1, 2, 2, 3), "attention_resolutions": (4, 8), "num_classes": 3},
    "one level": {"channel_mult": (2,), "attention_resolutions": ()},
    "added": {"use_scale_shift_norm": False, "out_channels": 3, "in_channels": 4},
    "half": {"channel_mult": (0.5, 1), "model_channels": 64},
}


@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_visible_flags_are_the_constructors(name: str, classifier: bool) -> None:
    flags = {**SMALL, **VARIANTS[name]}
    if classifier:
        flags = {**flags, "pool": "attention"}
        flags.pop("num_classes", None)
    with torch.device("meta"):
        network = (EncoderUNet if classifier else UNet)(**flags)
    seen = visible_flags({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    own = network.flags.to_dict()
    assert {name: own[name] for name in seen} == seen
    assert not disagreements(network.flags, seen)
    assert {"model_channels", "num_res_blocks", "channel_mult", "attention_resolutions"} < set(seen)
    changed = {**own, "num_res_blocks": 5, "use_scale_shift_norm": not own["use_scale_shift_norm"]}
    told = disagreements(type(network.flags).from_mapping(changed), seen)
    assert [line.split()[0] for line in told] == ["num_res_blocks", "use_scale_shift_norm"]


@pytest.mark.parametrize("pool", ["adaptive", "attention", "spatial", "spatial_v2"])
def test_visible_pooling(pool: str) -> None:
    with torch.device("meta"):
        network = EncoderUNet(**{**SMALL, "out_channels": 7, "pool": pool})
    seen = visible_flags({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    assert (seen["pool"], seen["out_channels"]) == (pool, 7)


def test_other_networks_show_nothing() -> None:
    assert visible_flags({}) == {}
    assert visible_flags({"time_embed.0.weight": (4, 4), "input_blocks.0.0.weight": (4, 4, 3, 3)}) == {}
    assert visible_flags({"conv.weight": (1,), "time_embed.0.weight": ()}) == {}


def state_of(name: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in on_meta(name).state_dict().items()}  # noqa: C416  # a plain dict


@pytest.mark.parametrize(
    ("wanted", "held", "said"),
    [
        (
            "imagenet256-uncond",
            "imagenet256",
            "num_classes is None, the file has 1000; it has the shapes of preset=imagenet256",
        ),
        ("imagenet256-uncond", "imagenet64", "model_channels is 256, the file has 192"),
        ("imagenet256-uncond", "imagenet64", "it has the shapes of preset=imagenet64"),
        ("imagenet64", "lsun-cat", "preset=imagenet256-uncond or preset=lsun-bedroom or preset=lsun-cat"),
        (
            "imagenet256",
            "64-256-upsampler",
            "it is the 64-256-upsampler, which enlarges small pictures",
        ),
        ("imagenet256", "imagenet256-classifier", "it is a classifier, but a generator's UNet is needed"),
        ("imagenet256-classifier", "imagenet256", "it is a generator's UNet, but a classifier is needed"),
        ("imagenet128-classifier", "imagenet64-classifier", "preset=imagenet64-classifier"),
    ],
)
def test_a_wrong_file_is_named(wanted: str, held: str, said: str) -> None:
    build = build_encoder if wanted in CLASSIFIERS else build_unet
    with pytest.raises(GuidelensError, match=re.escape(said)) as caught:
        build(PUBLISHED[wanted].flags, state_of(held), source="a.pt")
    assert str(caught.value).startswith("a.pt does not hold this network: ")


def test_a_relative_of_a_published_network_is_named() -> None:
    with torch.device("meta"):
        relative = UNet(**{**PRESETS["imagenet128"].flags.to_dict(), "num_classes": 10})
    with pytest.raises(
        GuidelensError, match=r"nearest preset is imagenet128 \(num_classes is 1000, the file has 10\)"
    ):
        build_unet(PRESETS["imagenet256"].flags, relative.state_dict(), source="a.pt")


def test_something_else_entirely() -> None:
    with pytest.raises(GuidelensError, match="does not look like a network of guided-diffusion"):
        build_unet(PRESETS["imagenet128"].flags, {"a": torch.zeros(2)}, source="a.pt")


MODEL_FLAGS = """--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 --dropout 0.1 --image_size 64
--learn_sigma True --noise_schedule cosine --num_channels 192 --num_head_channels 64 --num_res_blocks 3
--resblock_updown True --use_new_attention_order True --use_fp16 True --use_scale_shift_norm True"""


def test_script_flags_as_they_are_published(tmp_path: Path) -> None:
    """The README's line for its 64-pixel model, as a file."""
    (tmp_path / "flags.txt").write_text(MODEL_FLAGS)
    described = read_flags(tmp_path / "flags.txt")
    expected = PRESETS["imagenet64"].description.with_flags(use_fp16=True)
    assert described == expected
    assert described.flags == UNetFlags(
        image_size=64,
        in_channels=3,
        model_channels=192,
        out_channels=6,
        num_res_blocks=3,
        attention_resolutions=(2, 4, 8),
        dropout=0.1,
        channel_mult=(1, 2, 3, 4),
        num_classes=1000,
        use_fp16=True,
        num_heads=4,
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
        use_new_attention_order=True,
    )
    assert (described.schedule, described.prediction, described.fixed_variance) == ("cosine", "epsilon", None)


def test_script_defaults_and_process() -> None:
    plain = from_script({})
    assert (plain.flags.model_channels, plain.flags.num_heads, plain.flags.out_channels) == (128, 4, 3)
    assert (plain.flags.attention_resolutions, plain.flags.channel_mult) == ((4, 8), (1, 2, 3, 4))
    assert (plain.fixed_variance, plain.rescale_timesteps) == ("large", False)
    other = from_script(
        {
            "channel_mult": "1,2,2",
            "image_size": 32,
            "attention_resolutions": "16",
            "predict_xstart": "True",
            "rescale_timesteps": True,
            "sigma_small": "yes",
            "diffusion_steps": "4000",
            "use_kl": True,
            "timestep_respacing": "",
        }
    )
    assert (other.flags.channel_mult, other.flags.attention_resolutions) == ((1, 2, 2), (2,))
    assert (other.prediction, other.num_timesteps) == ("x0", 4000)
    assert (other.rescale_timesteps, other.fixed_variance) == (True, "small")


# The commands of improved-diffusion's README, flags of training left out.
IMPROVED = {
    "cifar10": "--image_size 32 --num_channels 128 --num_res_blocks 3 --learn_sigma True --dropout 0.3 "
    "--diffusion_steps 4000 --noise_schedule cosine",
    "imagenet64": "--image_size 64 --num_channels 128 --num_res_blocks 3 --learn_sigma True "
    "--diffusion_steps 4000 --noise_schedule cosine",
}


@pytest.mark.parametrize("name", IMPROVED)
def test_flags_of_improved_diffusion_are_told_apart(name: str, tmp_path: Path) -> None:
    path = tmp_path / "flags"
    path.write_text(IMPROVED[name])
    described = read_flags(path)
    assert described.rescale_timesteps
    assert described.num_timesteps == 4000
    assert described.flags.channel_mult == ((1, 2, 2, 2) if name == "cifar10" else (1, 2, 3, 4))
    assert any("rescale_timesteps=false" in guess for guess in described.guesses)
    assert any("1,2,2,2" in guess for guess in described.guesses) == (name == "cifar10")


@pytest.mark.parametrize(
    ("values", "rescaled", "guesses"),
    [
        ({"diffusion_steps": 4000}, True, 1),
        ({"diffusion_steps": 4000, "rescale_timesteps": False}, False, 0),
        ({"diffusion_steps": 4000, "rescale_timesteps": True}, True, 0),
        ({"diffusion_steps": 4000, "num_head_channels": 32}, False, 0),  # guided-diffusion's
        ({"diffusion_steps": 1000}, False, 0),  # the same numbers either way
        ({"image_size": 32, "rescale_timesteps": True}, True, 1),
    ],
    ids=str,
)
def test_what_is_guessed_is_said(values: dict[str, Any], rescaled: bool, guesses: int) -> None:
    described = from_script(values)
    assert (described.rescale_timesteps, len(described.guesses)) == (rescaled, guesses)


def test_32_pixels_of_guided_diffusion_need_their_multipliers() -> None:
    with pytest.raises(UsageError, match="image_size of 32 needs its channel_mult"):
        from_script({"image_size": 32, "resblock_updown": True})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 3}, "unknown script flag width; there are image_size"),
        ({"image_size": 96}, "needs its channel_mult; there are defaults for 64, 128, 256, 512"),
        ({"image_size": "big"}, "image_size cannot be 'big'"),
        ({"class_cond": "maybe"}, "class_cond cannot be 'maybe'"),
        ({"attention_resolutions": "16;8"}, "lists numbers"),
        ({"attention_resolutions": "0"}, "sizes in pixels"),
        ({"noise_schedule": "sine"}, "linear or cosine, not 'sine'"),
    ],
)
def test_script_flags_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        from_script(values)


def test_classifier_flags(tmp_path: Path) -> None:
    expected = from_classifier_script({"image_size": 128, "classifier_pool": "spatial"})
    assert (expected.pool, expected.channel_mult, expected.num_res_blocks) == ("spatial", (1, 1, 2, 3, 4), 2)
    path = tmp_path / "flags"
    path.write_text("--image_size 128 --classifier_pool spatial")
    assert read_classifier_flags(path) == expected
    path.write_text(json.dumps(expected.to_dict()))
    assert read_classifier_flags(path) == expected


@pytest.mark.parametrize("text", ["--image_size", "--image_size 64 num_channels 3", "{", "[]"])
def test_flag_files_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "flags").write_text(text)
    with pytest.raises(GuidelensError, match="flags"):
        read_flags(tmp_path / "flags")


def test_the_process_of_a_flags_file_is_the_generators(tmp_path: Path) -> None:
    """Timesteps reach the network rescaled, and the variance is the one that it was meant for."""
    flags = tmp_path / "flags.txt"
    flags.write_text(
        "--image_size 16 --num_channels 32 --channel_mult 1,2 --num_res_blocks 1 --attention_resolutions 8"
        " --diffusion_steps 500 --rescale_timesteps True --noise_schedule cosine"
    )
    generator = guided_diffusion(flags=flags, untrained=True)
    assert (generator.fixed_variance, generator.learned_variance) == ("large", False)
    assert len(generator.alphas_cumprod) == 500
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 333])
    torch.testing.assert_close(generator(x, t), generator.unet(x, t * 2.0))
    plain = guided_diffusion(flags=flags, untrained=True, rescale_timesteps=False, fixed_variance="small")
    torch.testing.assert_close(plain(x, t), generator.unet(x, t))
    assert plain.fixed_variance == "small"
    assert plain.fingerprint != generator.fingerprint
    assert guided_diffusion(flags=flags, untrained=True, seed=1).fingerprint != generator.fingerprint


def test_constructor_flags_in_the_originals_order() -> None:
    """By position, with every value another than its default."""
    flags = UNetFlags(
        16, 3, 32, 6, 1, {2, 1}, 0.1, (1, 2), False, 2, 5, True, True, 2, 8, 4, True, True, True
    )  # type: ignore[arg-type]  # a set, as in the original
    assert flags.to_dict() == {
        "image_size": 16,
        "in_channels": 3,
        "model_channels": 32,
        "out_channels": 6,
        "num_res_blocks": 1,
        "attention_resolutions": [1, 2],
        "dropout": 0.1,
        "channel_mult": [1, 2],
        "conv_resample": False,
        "dims": 2,
        "num_classes": 5,
        "use_checkpoint": True,
        "use_fp16": True,
        "num_heads": 2,
        "num_head_channels": 8,
        "num_heads_upsample": 4,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "use_new_attention_order": True,
        "patch_size": 1,
    }
    with pytest.raises(UsageError, match="dims must be 2"):
        UNetFlags(**{**flags.to_dict(), "dims": 3})


def test_float16_inside(x: Tensor, t: Tensor) -> None:
    """With use_fp16 the torso rounds to float16, and input, output and weights stay float32."""
    exact = lively(UNet(**SMALL))
    half = UNet(**{**SMALL, "use_fp16": True}).eval().requires_grad_(False)
    half.load_state_dict(exact.state_dict())
    dtypes = set()
    half.middle_block.register_forward_hook(lambda *args: dtypes.add(args[-1].dtype))
    out, expected = half(x, t), exact(x, t)
    assert dtypes == {torch.float16}
    assert out.dtype == torch.float32
    assert 1e-5 < float((out - expected).norm() / expected.norm()) < 1e-2
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}


def test_upsamplers_see_the_small_picture(t: Tensor) -> None:
    upsampler = lively(SuperResUNet(**SMALL))
    x, small = (torch.randn(2, 3, n, n, generator=torch.Generator().manual_seed(n)) for n in (8, 4))
    plain = UNet(**{**SMALL, "in_channels": 6}).eval()
    plain.load_state_dict(upsampler.state_dict())
    enlarged = torch.nn.functional.interpolate(small, (8, 8), mode="bilinear")
    torch.testing.assert_close(upsampler(x, t, small), plain(torch.cat([x, enlarged], 1), t))
