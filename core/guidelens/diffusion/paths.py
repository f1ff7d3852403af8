"""Gaussian paths, such as flow matching and EDM, as rescaled variance-preserving processes.

A path is x = a x0 + s eps, with a signal level a and a noise level s. Divided by sqrt(a^2 + s^2), x becomes the state
of a variance-preserving process with abar = a^2 / (a^2 + s^2). The engine samples this rescaled state. The network
receives x, and its output is converted to x0. DDIM on the rescaled state takes the same steps as the Euler sampler on x
(Karras et al. 2022, arXiv:2206.00364, appendix C; Lipman et al. 2023, arXiv:2210.02747).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..contracts import Prediction
from ..errors import UsageError
from .process import lookup

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Float, Float64, Int64

Network = Callable[[Tensor, Tensor], Tensor]
"""Maps the path's x (B, C, H, W), scaled by c_in, and times (B,) to (B, C, H, W)."""


@dataclass(frozen=True, eq=False)
class GaussianPath:
    """A path of T noise levels, the cleanest first, and the coefficients that convert a network's output F to x0.

    x0 = c_skip x + c_out F(c_in x, time), with x = signal x0 + noise eps. All entries are (T,) float64.

    :param times: the times that the network receives instead of training indices.
    :raises UsageError: for tables of different lengths, or if the ratio of noise to signal does not increase.
    """

    signal: Float64[Tensor, "T"]
    noise: Float64[Tensor, "T"]
    times: Float64[Tensor, "T"]
    c_in: Float64[Tensor, "T"]
    c_skip: Float64[Tensor, "T"]
    c_out: Float64[Tensor, "T"]

    def __post_init__(self) -> None:
        tables = (self.signal, self.noise, self.times, self.c_in, self.c_skip, self.c_out)
        if any(t.dtype != torch.float64 or t.ndim != 1 or t.shape != self.signal.shape for t in tables):
            raise UsageError("the tables of a path must be (T,) float64, all of one length")
        if not bool((self.signal > 0).all() and (self.noise > 0).all()):
            raise UsageError("the signal and the noise of a path must be above 0 at every level")
        if not bool((self.alphas_cumprod.diff() < 0).all()):
            raise UsageError("the noise of a path must grow against its signal, from the cleanest level on")

    @property
    def alphas_cumprod(self) -> Float64[Tensor, "T"]:
        """The abar of the rescaled process: a^2 / (a^2 + s^2)."""
        return self.signal.square() / (self.signal.square() + self.noise.square())

    @property
    def scale(self) -> Float64[Tensor, "T"]:
        """The ratio of x to the state of the rescaled process: sqrt(a^2 + s^2)."""
        return (self.signal.square() + self.noise.square()).sqrt()

    def x0(
        self, network: Network, x_t: Float[Tensor, "B C H W"], timesteps: Int64[Tensor, "B"]
    ) -> Float[Tensor, "B C H W"]:
        """Return the network's x0 (B, C, H, W), differentiable in the state ``x_t`` of the rescaled process.

        :param timesteps: (B,) indices of levels.
        """
        times = lookup(self.times, timesteps, x_t).flatten()
        output = network(lookup(self.c_in * self.scale, timesteps, x_t) * x_t, times)
        of_x_t = lookup(self.c_skip * self.scale, timesteps, x_t)
        return of_x_t * x_t + lookup(self.c_out, timesteps, x_t) * output


def flow_path(num_timesteps: int = 1000, *, shift: float = 1.0, time_scale: float = 1000.0) -> GaussianPath:
    """Return the path of flow matching, x = (1 - sigma) x0 + sigma eps, for networks that predict eps - x0.

    With u = (i + 1) / T, sigma = shift u / (1 + (shift - 1) u) (Esser et al. 2024, arXiv:2403.03206, eq. 23). The
    noisiest level would be pure noise, and x0 could not be computed from it. The path ends half a level earlier, at
    u = 1 - 1 / (2T).

    :param shift: values above 1 place more levels at high noise (3 for Stable Diffusion 3).
    :param time_scale: the network receives time_scale * sigma.
    :raises UsageError: for values that do not define a path.
    """
    if num_timesteps < 1 or shift <= 0:
        raise UsageError(
            f"a flow needs at least 1 level and a shift above 0, got {num_timesteps} and {shift}"
        )
    u = torch.arange(1, num_timesteps + 1, dtype=torch.float64) / num_timesteps
    u[-1] = 1 - 1 / (2 * num_timesteps)
    sigmas = shift * u / (1 + (shift - 1) * u)
    one = torch.ones_like(sigmas)
    return GaussianPath(1 - sigmas, sigmas, time_scale * sigmas, c_in=one, c_skip=one, c_out=-sigmas)


def karras_sigmas(
    num_timesteps: int = 1000, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float64[Tensor, "T"]:
    """Return the noise levels of Karras et al. 2022, eq. 5, (T,) float64, the cleanest first.

    :raises UsageError: for values that do not define levels.
    """
    if num_timesteps < 1 or not 0 < sigma_min <= sigma_max or rho <= 0:
        raise UsageError(
            f"noise levels need 0 < sigma_min <= sigma_max, got {sigma_min} and {sigma_max} ({num_timesteps} levels)"
        )
    ends = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.linspace(*ends, num_timesteps, dtype=torch.float64).pow(rho)


def edm_path(sigmas: Float64[Tensor, "T"], *, sigma_data: float = 0.5, negated: bool = False) -> GaussianPath:
    """Return the path x = x0 + sigma eps of EDM, with its preconditioning (Karras et al. 2022, table 1).

    The network receives log(sigma) / 4.

    :param sigmas: (T,) float64, the cleanest first; see :func:`karras_sigmas`.
    :param negated: whether the network predicts -F, as v-prediction networks do under EDM.
    """
    total = sigmas.square() + sigma_data**2
    c_out = sigmas * sigma_data / total.sqrt()
    return GaussianPath(
        torch.ones_like(sigmas),
        sigmas,
        sigmas.log() / 4,
        c_in=total.rsqrt(),
        c_skip=sigma_data**2 / total,
        c_out=-c_out if negated else c_out,
    )


class PathGenerator(nn.Module):
    """Makes a network on a Gaussian path a generator, which is variance-preserving and predicts x0.

    :param network: maps c_in x (B, C, H, W) and times (B,) to (B, C, H, W). A module is moved and frozen together with
        the generator.
    :param image_shape: the shape (C, H, W) of x.
    :param fingerprint: identifies the network and its weights. The path is added to it.
    :param decode: decodes latents, and needs ``picture_shape``; see :class:`guidelens.contracts.Generator`.
    """

    learned_variance = False
    prediction: Prediction = "x0"

    def __init__(
        self,
        network: Network,
        path: GaussianPath,
        image_shape: tuple[int, int, int],
        fingerprint: str,
        *,
        decode: Callable[[Tensor], Tensor] | None = None,
        picture_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.path = path
        self.image_shape = image_shape
        self.alphas_cumprod = path.alphas_cumprod
        levels = torch.stack([path.signal, path.noise, path.times, path.c_in, path.c_skip, path.c_out])
        self.fingerprint = f"{fingerprint} {_digest(levels)}"
        self.decode: Any = decode
        self.picture_shape = picture_shape

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Map the rescaled state (B, C, H, W) and the indices of its levels (B,) to x0 (B, C, H, W)."""
        return self.path.x0(self.network, x_t, timesteps)


def _digest(values: Tensor) -> str:
    """Return 12 hexadecimal digits that identify float64 values."""
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:12]
