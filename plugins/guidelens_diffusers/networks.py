"""The networks of diffusers that can be generators, with a common call f(x, times) and fixed conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from guidelens.errors import GuidelensError, UsageError
from torch import Tensor, nn

UNET, TEXT_UNET = "UNet2DModel", "UNet2DConditionModel"
DIT, SD3, FLUX = "DiTTransformer2DModel", "SD3Transformer2DModel", "FluxTransformer2DModel"

NETWORKS: Mapping[str, str] = {
    UNET: "a UNet, unconditional or of classes",
    DIT: "a diffusion transformer of classes",
    TEXT_UNET: "a UNet conditioned on text",
    SD3: "a flow transformer conditioned on text",
    FLUX: "a flow transformer conditioned on text",
}
TEXT_NETWORKS = (TEXT_UNET, SD3, FLUX)
"""Networks trained with captions. They get the empty prompt."""
FLOW_NETWORKS = (SD3, FLUX)
"""Networks that predict the velocity of flow matching."""

FLUX_GUIDANCE = 1.0
"""The guidance input of guidance-distilled networks that means no guidance by a prompt."""
_FLUX_SAMPLE_SIZE = 128  # of latents; its config does not state one
_DEFAULTS = {"sample_size": None, "in_channels": 3, "out_channels": 3}


def kind_of(config: Mapping[str, Any]) -> str:
    """Return the class of network that a configuration describes."""
    kind = str(config.get("_class_name", UNET))
    if kind == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero":
        return DIT  # the name that DiT's checkpoints were saved under
    return kind


def with_defaults(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a network's configuration with the values that it leaves out."""
    if kind == FLUX:
        channels = config.get("in_channels", 64)
        out = config.get("out_channels") or channels
        # Latents are packed: 2x2 latents are one token.
        own = {"in_channels": channels // 4, "out_channels": out // 4, "patch_size": 2}
        return {**config, **own, "sample_size": config.get("sample_size") or _FLUX_SAMPLE_SIZE}
    complete = {**_DEFAULTS, **config}
    if complete["out_channels"] is None:
        complete["out_channels"] = complete["in_channels"]
    return complete


def check_network(config: Mapping[str, Any], kind: str) -> None:
    """:raises GuidelensError: the network has inputs that a generator does not provide."""
    if kind not in NETWORKS:
        raise GuidelensError(f"a {kind} is not supported; guidelens reads {', '.join(NETWORKS)}")
    if config.get("time_embedding_type", "positional") == "fourier":
        raise GuidelensError(
            "this network takes the logarithm of a noise level as its time (time_embedding_type=fourier); "
            "guidelens reads networks of timesteps, EDM and flow matching"
        )
    for name in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        if config.get(name) is not None:
            raise GuidelensError(
                f"this network is conditioned on a {config[name]} vector ({name}): guidelens has none to give"
            )


def divisor_of(config: Mapping[str, Any], kind: str) -> int:
    """Return the number of which the sides of a network's input must be multiples."""
    if kind in (UNET, TEXT_UNET):
        return int(2 ** (len(config.get("block_out_channels", (0,))) - 1))
    return int(config.get("patch_size", 2))


def largest_side(config: Mapping[str, Any], kind: str) -> int | None:
    """Return the largest side of a network's input; None: no limit."""
    if kind != SD3:
        return None
    return int(config.get("pos_embed_max_size", 96)) * int(config.get("patch_size", 2))


def checked_label(config: Mapping[str, Any], kind: str, label: int | None) -> int | None:
    """Return the class that a network draws: the given one, or the null class of a DiT.

    :raises UsageError: the class is unknown, or missing although the network needs one.
    """
    classes = config.get("num_embeds_ada_norm", 1000) if kind == DIT else config.get("num_class_embeds")
    if classes is None:
        if label is not None:
            raise UsageError(f"this network knows no classes: leave out class_label={label}")
        return None
    if label is None and kind == DIT:
        return int(classes)  # the null class, with which it was trained to draw any class
    if label is None:
        raise UsageError(
            f"this network is class-conditional: choose what it draws, diffusers:class_label=0 to {classes - 1}"
        )
    if not 0 <= label < classes:
        raise UsageError(f"there is no class {label}: this network has 0 to {classes - 1}")
    return label


Conditions = Mapping[str, Tensor]
"""Embeddings of the empty prompt: ``prompt`` (1, L, D), and ``pooled`` (1, P) if the network takes it."""


def evaluate(
    network: nn.Module, kind: str, x: Tensor, times: Tensor, label: int | None, conditions: Conditions
) -> Tensor:
    """Return the network's output for x (B, C, H, W) and times (B,).

    :param label: the class; None for networks without classes.
    """
    return _CALLS[kind](network, x, times, label, conditions)


def _unet(network: nn.Module, x: Tensor, times: Tensor, label: int | None, _: Conditions) -> Tensor:
    output: Tensor = network(x, times, class_labels=_labels(x, label), return_dict=False)[0]
    return output


def _dit(network: nn.Module, x: Tensor, times: Tensor, label: int | None, _: Conditions) -> Tensor:
    output: Tensor = network(x, timestep=times, class_labels=_labels(x, label), return_dict=False)[0]
    return output


def _labels(x: Tensor, label: int | None) -> Tensor | None:
    return None if label is None else torch.full((len(x),), label, dtype=torch.int64, device=x.device)


def _text_unet(network: nn.Module, x: Tensor, times: Tensor, _: int | None, conditions: Conditions) -> Tensor:
    prompt = conditions["prompt"].expand(len(x), -1, -1)
    output: Tensor = network(x, times, encoder_hidden_states=prompt, return_dict=False)[0]
    return output


def _sd3(network: nn.Module, x: Tensor, times: Tensor, _: int | None, conditions: Conditions) -> Tensor:
    output: Tensor = network(
        hidden_states=x,
        timestep=times,
        encoder_hidden_states=conditions["prompt"].expand(len(x), -1, -1),
        pooled_projections=conditions["pooled"].expand(len(x), -1),
        return_dict=False,
    )[0]
    return output


def _flux(network: Any, x: Tensor, times: Tensor, _: int | None, conditions: Conditions) -> Tensor:
    batch, channels, height, width = x.shape
    rows, columns = height // 2, width // 2
    tokens = (
        x.reshape(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    )
    places = torch.zeros(rows, columns, 3, device=x.device, dtype=x.dtype)
    places[..., 1] += torch.arange(rows, device=x.device)[:, None]
    places[..., 2] += torch.arange(columns, device=x.device)
    prompt = conditions["prompt"].expand(batch, -1, -1)
    output: Tensor = network(
        hidden_states=tokens,
        timestep=times / 1000,
        guidance=x.new_full((batch,), FLUX_GUIDANCE) if network.config.guidance_embeds else None,
        pooled_projections=conditions["pooled"].expand(batch, -1),
        encoder_hidden_states=prompt,
        txt_ids=places.new_zeros(prompt.shape[1], 3),
        img_ids=places.flatten(0, 1),
        return_dict=False,
    )[0]
    parts = output.reshape(batch, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(batch, channels, height, width)


_Call = Callable[[Any, Tensor, Tensor, int | None, Conditions], Tensor]
_CALLS: Mapping[str, _Call] = {UNET: _unet, DIT: _dit, TEXT_UNET: _text_unet, SD3: _sd3, FLUX: _flux}
