"""Tiny random pipelines of latents, made on the spot and saved with save_pretrained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_pipelines import TINY, ddim, tiny_unet
from torch import nn

T = 20
"""Training timesteps."""
GROUPS = {"norm_num_groups": 4}


def seeded(make: Callable[..., Any], seed: int = 0, **options: Any) -> Any:
    """A model whose weights are all random, biases and norms included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = make(**options)
        for parameter in model.parameters():
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def vae(**changes: Any) -> Any:
    """A decoder that doubles the size of latents of 4 channels."""
    from diffusers import AutoencoderKL

    options = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "layers_per_block": 1,
        "sample_size": 16,
        **GROUPS,
    }
    return seeded(AutoencoderKL, **{**options, **changes})


def vq() -> Any:
    from diffusers import VQModel

    return seeded(
        VQModel,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        num_vq_embeddings=16,
        **GROUPS,
    )


def tiny_vae(**changes: Any) -> Any:
    from diffusers import AutoencoderTiny

    options = {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
        "latent_channels": 4,
    }
    return seeded(AutoencoderTiny, seed=3, **{**options, **changes})


def latent_diffusion(decoder: Any) -> Any:
    """An unconditional pipeline of latents."""
    from diffusers import LDMPipeline

    channels = decoder.config.latent_channels
    unet = tiny_unet(in_channels=channels, out_channels=channels)
    return LDMPipeline(vqvae=decoder, unet=unet, scheduler=ddim(clip_sample=False))


def dit(classes: int = 5) -> Any:
    from diffusers import DiTPipeline, DiTTransformer2DModel

    transformer = seeded(
        DiTTransformer2DModel,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=classes,
        norm_num_groups=1,
    )
    return DiTPipeline(transformer=transformer, vae=vae(), scheduler=ddim(clip_sample=False))


def clip_text(folder: Path, width: int = 16, *, projected: bool = False) -> tuple[Any, Any]:
    """A text encoder and its tokenizer of a few characters."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    words = ["a", "b", "c", "a</w>", "b</w>", "c</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=10)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=10,
        projection_dim=width,
        bos_token_id=6,
        eos_token_id=7,
    )
    make = CLIPTextModelWithProjection if projected else CLIPTextModel
    return seeded(lambda: make(config)), tokenizer


def stable_diffusion(folder: Path, **scheduler: Any) -> Any:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    encoder, tokenizer = clip_text(folder)
    unet = seeded(
        UNet2DConditionModel,
        **{
            **TINY,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 16,
        },
    )
    pipeline = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=ddim(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.scheduler = ddim(clip_sample=False, **scheduler)  # without an offset it visits every timestep
    return pipeline


def stable_diffusion_3(folder: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    first, tokenizer = clip_text(folder, projected=True)
    second, tokenizer_2 = clip_text(folder, projected=True)
    transformer = seeded(
        SD3Transformer2DModel,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=T, shift=3.0),
        vae=vae(scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=first,
        tokenizer=tokenizer,
        text_encoder_2=second,
        tokenizer_2=tokenizer_2,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def flux(folder: Path, *, guidance_embeds: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    clip, tokenizer = clip_text(folder)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3}, unk_token="<unk>"))
    tokenizer_2 = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    t5 = T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformer = seeded(
        FluxTransformer2DModel,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=T, use_dynamic_shifting=True),
        vae=vae(scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip,
        tokenizer=tokenizer,
        text_encoder_2=seeded(lambda: T5EncoderModel(t5)),
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )
