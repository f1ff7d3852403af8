"""UNets that work on patches of pixels: against the reference network, saved and loaded, and their flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guidelens.errors import UsageError
from guidelens_guided_diffusion import EncoderUNet, UNet, UNetFlags, load_generator, save_generator
from guidelens_guided_diffusion.reference import ReferenceUNet
from small_unet import lively

FLAGS = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2),
    "patch_size": 2,
}


def network() -> UNet:
    return lively(UNet(**FLAGS))


def test_patches_are_those_of_the_reference() -> None:
    unet = network().eval().requires_grad_(False)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([3, 700])
    expected = ReferenceUNet(unet.flags, unet.state_dict())(x, timesteps)
    assert expected.shape == x.shape
    torch.testing.assert_close(unet(x, timesteps), expected, atol=1e-5, rtol=1e-5)


def test_the_first_level_has_the_resolution_of_the_patches() -> None:
    seen = []
    unet = network()
    unet.input_blocks[0].register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    unet(torch.zeros(1, 3, 16, 16), torch.tensor([5]))
    assert seen == [(1, 32, 8, 8)]
    assert unet.input_blocks[0][0].weight.shape[1] == 12


def test_a_file_records_the_size_of_the_patches(tmp_path: Path) -> None:
    unet, path = network(), tmp_path / "generator.safetensors"
    save_generator(path, unet, unet.flags.to_dict(), schedule="cosine", prediction="v")
    loaded = load_generator(path)
    x, timesteps = torch.ones(1, 3, 16, 16), torch.tensor([400])
    assert loaded.image_shape == (3, 16, 16)
    torch.testing.assert_close(loaded.unet(x, timesteps), unet(x, timesteps))


def test_published_networks_keep_their_fingerprints() -> None:
    assert "patch_size" not in UNetFlags(**{**FLAGS, "patch_size": 1}).identity()
    assert UNetFlags(**FLAGS).identity()["patch_size"] == 2


def test_sizes_that_patches_do_not_divide() -> None:
    with pytest.raises(UsageError, match="image_size must be a multiple of 8"):
        UNet(**{**FLAGS, "patch_size": 4, "image_size": 20})
    with pytest.raises(UsageError, match="patch_size must be a positive integer"):
        UNet(**{**FLAGS, "patch_size": 0})


def test_classifiers_have_no_patches() -> None:
    with pytest.raises(UsageError, match="patch_size must be 1 in a classifier"):
        EncoderUNet(**{**FLAGS, "out_channels": 10})
