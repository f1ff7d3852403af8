"""The training process that a scheduler's configuration describes, against diffusers's own schedulers."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import pytest
import torch
from guidelens.diffusion import DiffusionProcess
from guidelens.errors import GuidelensError
from guidelens_diffusers import training_process
from guidelens_diffusers.process import SCHEDULERS


def scheduler_of(name: str, **config: Any) -> Any:
    return getattr(diffusers, name)(**config)


def saved_config(scheduler: Any) -> dict[str, Any]:
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
@pytest.mark.parametrize("count", [1000, 37])
def test_the_table_is_that_of_the_scheduler(schedule: str, count: int) -> None:
    scheduler = scheduler_of("DDPMScheduler", beta_schedule=schedule, num_train_timesteps=count)
    table = training_process(saved_config(scheduler)).alphas_cumprod
    assert table.dtype == torch.float64
    torch.testing.assert_close(table, scheduler.alphas_cumprod.double(), rtol=2e-4, atol=1e-9)
    DiffusionProcess(table)  # within (0, 1) and strictly decreasing


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_has_its_own_defaults(name: str) -> None:
    """What a configuration leaves out is the class's default, which differs between them."""
    scheduler = scheduler_of(name)
    table = training_process({"_class_name": name}).alphas_cumprod
    torch.testing.assert_close(table, scheduler.alphas_cumprod.double(), rtol=2e-4, atol=1e-9)


def test_trained_betas_are_taken_as_they_are() -> None:
    betas = [0.1, 0.2, 0.05]
    table = training_process({"_class_name": "DDIMScheduler", "trained_betas": betas}).alphas_cumprod
    torch.testing.assert_close(table, torch.tensor([0.9, 0.72, 0.684], dtype=torch.float64))


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler"])
def test_zero_terminal_snr(name: str) -> None:
    scheduler = scheduler_of(name, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    process = training_process(saved_config(scheduler))
    torch.testing.assert_close(
        process.alphas_cumprod[:-1], scheduler.alphas_cumprod[:-1].double(), rtol=1e-3, atol=1e-7
    )
    assert 0 < process.alphas_cumprod[-1] < 1e-7
    DiffusionProcess(process.alphas_cumprod)
    with pytest.raises(GuidelensError, match="rescale_betas_zero_snr"):
        training_process({**saved_config(scheduler), "prediction_type": "epsilon"})


@pytest.mark.parametrize(("said", "meant"), [("epsilon", "epsilon"), ("sample", "x0"), ("v_prediction", "v")])
def test_predictions(said: str, meant: str) -> None:
    assert training_process({"_class_name": "DDPMScheduler", "prediction_type": said}).prediction == meant


def test_the_old_spelling_of_a_prediction() -> None:
    assert training_process({"_class_name": "DDPMScheduler", "predict_epsilon": False}).prediction == "x0"


@pytest.mark.parametrize(
    ("kind", "learned", "fixed"),
    [
        ("fixed_small", False, "small"),
        ("fixed_small_log", False, "small"),
        ("fixed_large", False, "large"),
        ("fixed_large_log", False, "large"),
        ("learned_range", True, "small"),
    ],
)
def test_variances(kind: str, learned: bool, fixed: str) -> None:
    process = training_process({"_class_name": "DDPMScheduler", "variance_type": kind})
    assert (process.learned_variance, process.fixed_variance) == (learned, fixed)


def test_a_scheduler_without_variance_leaves_it_open() -> None:
    assert training_process({"_class_name": "DDIMScheduler"}).learned_variance is None


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
            "number of patches",
        ),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "'sample'"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "sigma_min and sigma_max"),
        ({"beta_schedule": "exp"}, "'exp'"),
        ({"prediction_type": "flow"}, "'flow'"),
        ({"variance_type": "learned"}, "'learned'"),
        ({"trained_betas": [0.1, 1.2]}, "between 0 and 1"),
        ({"num_train_timesteps": 0}, "at least 1"),
    ],
)
def test_what_is_refused_is_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(GuidelensError, match=named) as caught:
        training_process({"_class_name": "DDPMScheduler", **config}, source="the scheduler of here")
    assert "the scheduler of here" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_list_of_schedulers_exists() -> None:
    for name in SCHEDULERS:
        assert "beta_schedule" in inspect.signature(getattr(diffusers, name)).parameters
