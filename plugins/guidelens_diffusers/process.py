"""The training process that a scheduler's configuration describes: noise levels, prediction, variance.

A scheduler of diffusers is a sampler. guidelens has its own samplers, and reads only the training process from the
configuration.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from guidelens.contracts import FixedVariance, Prediction
from guidelens.diffusion import (
    GaussianPath,
    alphas_cumprod_of,
    beta_schedule,
    edm_path,
    flow_path,
    karras_sigmas,
)
from guidelens.errors import GuidelensError
from torch import Tensor

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}
"""Prediction types by diffusers's names."""

SCHEDULERS = (
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "PNDMScheduler"),
    *("LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"),
    *("UniPCMultistepScheduler", "SASolverScheduler"),
)
"""Schedulers whose betas define a variance-preserving process of discrete timesteps."""

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")

VARIANCES: dict[str, FixedVariance | None] = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "fixed_large_log": "large",
    "learned_range": None,
}
"""Variance types by diffusers's names; None is learned, as an interpolation."""


@dataclass(frozen=True, eq=False)
class TrainingProcess:
    """The training process of a network.

    :param alphas_cumprod: (T,) float64.
    :param learned_variance: whether the output's second half interpolates log Sigma. None: not stated, so the network's
        channels decide.
    :param fixed_variance: the variance to use if none is learned.
    :param path: the path of flow matching or EDM, which converts the network's output to x0. None: the process has
        betas, as above.
    """

    alphas_cumprod: Tensor
    prediction: Prediction = "epsilon"
    learned_variance: bool | None = None
    fixed_variance: FixedVariance = "small"
    path: GaussianPath | None = None


def training_process(
    config: Mapping[str, Any], *, source: str = "the scheduler", patches: int | None = None
) -> TrainingProcess:
    """Read the configuration of a scheduler, with the content of ``scheduler_config.json``.

    Missing entries have the defaults of the scheduler's class.

    :param source: the name of the configuration in errors.
    :param patches: the number of 2x2 patches of the latents, on which the shift of some flows depends.
    :raises GuidelensError: guidelens cannot reverse the process.
    """
    name = str(config.get("_class_name", "DDPMScheduler"))
    if name not in (*SCHEDULERS, *FLOW_SCHEDULERS, *EDM_SCHEDULERS):
        raise GuidelensError(
            f"{source} is a {name}: its process is not one that guidelens can reverse; "
            f"it reads {', '.join((*SCHEDULERS, *FLOW_SCHEDULERS, *EDM_SCHEDULERS))}"
        )
    values = {**_defaults(name), **config}
    if name in FLOW_SCHEDULERS:
        return _on_path(_flow(values, source, patches))
    if name in EDM_SCHEDULERS or values.get("timestep_type") == "continuous":
        return _on_path(_edm(name, values, source))
    prediction = _prediction(values, source)
    return TrainingProcess(
        _alphas_cumprod(values, prediction, source), prediction, **_variance(values, source)
    )


def _defaults(class_name: str) -> dict[str, Any]:
    """Return the defaults of a scheduler class."""
    import diffusers

    parameters = inspect.signature(getattr(diffusers, class_name).__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _on_path(path: GaussianPath) -> TrainingProcess:
    return TrainingProcess(path.alphas_cumprod, "x0", learned_variance=False, path=path)


def _flow(values: Mapping[str, Any], source: str, patches: int | None) -> GaussianPath:
    if values.get("invert_sigmas"):
        raise GuidelensError(f"{source} says invert_sigmas: guidelens reads flows from noise to pictures")
    count, shift = int(values["num_train_timesteps"]), float(values.get("shift") or 1.0)
    if values.get("use_dynamic_shifting"):
        if patches is None:
            raise GuidelensError(
                f"{source} says use_dynamic_shifting: give training_process the number of patches"
            )
        least, most = values["base_image_seq_len"], values["max_image_seq_len"]
        slope = (values["max_shift"] - values["base_shift"]) / (most - least)
        mu = values["base_shift"] + slope * (patches - least)
        shift = mu if values.get("time_shift_type") == "linear" else math.exp(mu)
    return flow_path(count, shift=shift, time_scale=count)


def _edm(name: str, values: Mapping[str, Any], source: str) -> GaussianPath:
    prediction = values.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise GuidelensError(
            f"{source} says prediction_type={prediction!r}; EDM has epsilon and v_prediction"
        )
    least, most = values.get("sigma_min"), values.get("sigma_max")
    if least is None or most is None:
        raise GuidelensError(f"{source} says timestep_type='continuous' without sigma_min and sigma_max")
    count = int(values.get("num_train_timesteps", 1000))
    exponential = values.get("sigma_schedule") == "exponential" or values.get("use_exponential_sigmas")
    if exponential:
        sigmas = torch.linspace(math.log(least), math.log(most), count, dtype=torch.float64).exp()
    else:
        sigmas = karras_sigmas(count, sigma_min=least, sigma_max=most, rho=float(values.get("rho", 7.0)))
    if name in EDM_SCHEDULERS:
        return edm_path(sigmas, sigma_data=values["sigma_data"], negated=prediction == "v_prediction")
    if prediction == "v_prediction":  # Karras et al. 2022 with data of variance 1
        return edm_path(sigmas, sigma_data=1.0, negated=True)
    one = torch.ones_like(sigmas)
    c_in = (sigmas.square() + 1).rsqrt()
    return GaussianPath(one, sigmas, sigmas.log() / 4, c_in=c_in, c_skip=one, c_out=-sigmas)


def _prediction(values: Mapping[str, Any], source: str) -> Prediction:
    kind = values.get("prediction_type", "epsilon")
    if values.get("predict_epsilon") is False:  # the spelling of diffusers before 0.9
        kind = "sample"
    if kind not in PREDICTIONS:
        raise GuidelensError(
            f"{source} says prediction_type={kind!r}; guidelens knows {', '.join(PREDICTIONS)}"
        )
    return PREDICTIONS[kind]


def _variance(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    kind = values.get("variance_type")
    if kind is None:  # only schedulers that draw the posterior's noise have one
        return {}
    if kind not in VARIANCES:
        why = "it has no bounds that a shorter process could take over" if kind == "learned" else "unknown"
        raise GuidelensError(
            f"{source} says variance_type={kind!r} ({why}); guidelens reads {', '.join(VARIANCES)}"
        )
    fixed = VARIANCES[kind]
    return {"learned_variance": fixed is None, "fixed_variance": fixed or "small"}


def _alphas_cumprod(values: Mapping[str, Any], prediction: Prediction, source: str) -> Tensor:
    betas = _betas(values, source)
    if not (betas.ndim == 1 and len(betas) and bool(((betas > 0) & (betas < 1)).all())):
        raise GuidelensError(f"{source}: its betas must lie between 0 and 1, one per timestep")
    signal = alphas_cumprod_of(betas)
    if not values.get("rescale_betas_zero_snr"):
        return signal
    if prediction == "epsilon":
        raise GuidelensError(
            f"{source} says rescale_betas_zero_snr, under which the noisiest timestep has no signal, and a "
            "prediction of epsilon says nothing about x0 there: such a model predicts v or the sample"
        )
    # Lin et al. 2023 (arXiv:2305.08891), algorithm 1: shift sqrt(abar) so that it ends at 0, keep its first.
    root = signal.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    # Not quite 0: a quarter of the abar before it, so that the table decreases and x0 stays computable.
    root[-1] = root[-2] / 2 if len(root) > 1 else root[-1]
    return root.square()


def _betas(values: Mapping[str, Any], source: str) -> Tensor:
    if values.get("trained_betas") is not None:
        return torch.tensor(values["trained_betas"], dtype=torch.float64)
    kind, count = values["beta_schedule"], int(values["num_train_timesteps"])
    first, last = float(values["beta_start"]), float(values["beta_end"])
    if count < 1:
        raise GuidelensError(f"{source} says num_train_timesteps={count}; a process has at least 1")
    if kind == "linear":
        return torch.linspace(first, last, count, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, count, dtype=torch.float64).square()
    if kind == "squaredcos_cap_v2":
        return beta_schedule("cosine", count)
    if kind == "sigmoid":
        return torch.linspace(-6, 6, count, dtype=torch.float64).sigmoid() * (last - first) + first
    raise GuidelensError(
        f"{source} says beta_schedule={kind!r}; guidelens knows linear, scaled_linear, squaredcos_cap_v2, "
        "sigmoid and trained_betas"
    )
