"""Load a generator from a pipeline's files. Unusable configurations are refused before weights are read."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from guidelens.errors import GuidelensError
from guidelens.weights import check_finite, read_state
from safetensors.torch import save_file
from torch import nn

from .decoder import LatentDecoder
from .files import CONFIG, ModelFiles, read_pipeline
from .generator import DiffusersGenerator, describe
from .hub import WEIGHTS
from .networks import TEXT_NETWORKS
from .process import training_process
from .text import read_empty_prompt


def load_generator(
    directory: Path,
    *,
    unet: str | None = None,
    variant: str | None = None,
    scheduler: Path | None = None,
    decoder: Path | None = None,
    class_label: int | None = None,
    image_size: int | None = None,
    key: str | None = None,
) -> DiffusersGenerator:
    """Load a pipeline that diffusers saved, or a network alone if ``scheduler`` is given. The weights are
    safetensors, or a ``.bin`` read with ``weights_only``: no code in a file is run. Checkpoints of training programs
    are accepted too (:func:`guidelens.weights.read_state`).

    :param directory: with ``model_index.json``, a network and ``scheduler``, all in one place, or nested.
    :param unet: the network's directory in it; None: ``unet`` or ``transformer``.
    :param variant: variant of the weights' file, such as ``fp16``. Computation is always in float32.
    :param scheduler: its configuration, or the directory of that, instead of the pipeline's.
    :param decoder: the directory of an autoencoder, instead of the pipeline's.
    :param key: the entry of the network's file to read, if it holds several networks.
    :raises UsageError, GuidelensError: as :class:`DiffusersGenerator`; or files are missing or unreadable.
    """
    files = read_pipeline(directory, unet=unet, variant=variant, scheduler=scheduler, decoder=decoder)
    source = f"the scheduler of {directory}"
    # Refuse unusable options before weights are read.
    config = {**files.network.config, "_class_name": files.network.kind}
    described = describe(
        config,
        None if files.decoder is None else {**files.decoder.config, "_class_name": files.decoder.kind},
        image_size=image_size,
        class_label=class_label,
    )
    process = training_process(files.scheduler, source=source, patches=described.patches)
    described.check(process)
    prompt = None
    if described.kind in TEXT_NETWORKS:
        prompt = read_empty_prompt(files.directory, described.kind, described.config)
    return DiffusersGenerator(
        _load(files.network, "the network", key),
        process,
        image_size=image_size,
        class_label=class_label,
        decoder=None if files.decoder is None else LatentDecoder(_without_encoder(files.decoder)),
        prompt=prompt,
    )


def _without_encoder(files: ModelFiles) -> nn.Module:
    """Load the decoder of an autoencoder."""
    vae = _load(files, "the decoder")
    for part in ("encoder", "quant_conv"):
        if getattr(vae, part, None) is not None:
            setattr(vae, part, None)
    return vae


def _load(files: ModelFiles, what: str, key: str | None = None) -> nn.Module:
    import diffusers

    model_class: Any = getattr(diffusers, files.kind)
    source = f"{what} of {files.directory}"
    state = read_state(files.weights, source, anchors=_anchors(model_class, files.config), key=key)
    as_saved = not (state.key or state.renamed) and state.format != "torchscript"
    try:
        with _quiet(), TemporaryDirectory() as bare:
            if not as_saved:  # diffusers reads the files itself, and knows older names of some tensors
                tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
                save_file(tensors, f"{bare}/{WEIGHTS}.safetensors")
                shutil.copy(files.directory / CONFIG, bare)
            network, info = model_class.from_pretrained(
                str(files.directory) if as_saved else bare,
                local_files_only=True,
                low_cpu_mem_usage=False,
                use_safetensors=files.safetensors or not as_saved,
                variant=files.variant if as_saved else None,
                ignore_mismatched_sizes=True,  # they are reported below, all at once
                output_loading_info=True,
            )
    except Exception as error:  # the libraries below can raise anything for a damaged file
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(f"cannot load {source}: {reason}") from error
    kinds = ("missing", "unexpected", "mismatched")
    wrong = {kind: [_first(key) for key in info[f"{kind}_keys"]] for kind in kinds}
    if found := [f"{len(keys)} tensors {kind} ({keys[0]}, ...)" for kind, keys in wrong.items() if keys]:
        raise GuidelensError(
            f"the weights in {files.directory} do not fit its config.json: {'; '.join(found)}"
        )
    loaded: nn.Module = network.float()
    check_finite(loaded.state_dict(), str(files.directory))
    return loaded


def _anchors(model_class: Any, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a tensor name that every network of this class and configuration has."""
    try:
        with _quiet(), torch.device("meta"):
            return tuple(model_class.from_config(dict(config)).state_dict())[:1]
    except Exception:  # an invalid configuration: from_pretrained reports the problem
        return ()


def _first(key: str | tuple[str, ...]) -> str:
    """Return a tensor's name. For a tensor of another shape, diffusers lists the name together with both shapes."""
    return key if isinstance(key, str) else str(key[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence diffusers's log messages."""
    log = logging.getLogger("diffusers")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
