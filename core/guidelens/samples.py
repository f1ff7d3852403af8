"""The input and output of the engine: samples, steps, results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .contracts import Schedule
from .pictures import png_bytes, to_picture
from .shown import data_frame, enlarged, html_of, row_of, save_picture

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """One requested picture.

    :param prompt: the text for the guidance model; may be empty only without guidance.
    :param schedule: the weights of the objectives; None for a picture without guidance.
    :param seed: seeds all noise of this picture, 0 to 2**63 - 1.
    :param scale: s; None uses :attr:`Sampling.scale <guidelens.sampling.Sampling>`.
    :param label: any value for the caller's use; the engine does not read it.
    """

    prompt: str
    schedule: Schedule | None
    seed: int = 0
    scale: float | None = None
    label: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """One sampling step of a batch of B samples. Tensors are detached and on the engine's device.

    :param index: 0..N-1 in the order of sampling.
    :param timestep: the training timestep of ``x_t``, as given to the generator.
    :param progress: 0 at the first (noisiest) step, 1 at the last; 0 for a run of one step.
    :param x_t: the state before the step, (B, C, H, W).
    :param pred_x0: the generator's x0 at ``x_t``, before guidance; clamped if ``clip_denoised``.
    :param sample: the state after the step; after the last step the picture, not clamped.
    :param weights: w_k(p), (B,), for each objective that some sample of the batch uses at some step.
    :param losses: L_k, (B,), for the same objectives; nan where the objective is inactive for the sample.
    :param gradients: dL_k/dx0, (B, C, H, W), for the same objectives, before weights and scales. They are taken with
        respect to the image that the guidance model sees: the unclamped x0, its blend with x_t, or x_t itself; for
        latents, the decoded picture. With random views, they are averaged over the views.
    :param gradient_norms: the norms of these gradients, (B,); nan where the objective is inactive.
    :param cosines: the cosines between these gradients, (B,) by (sorted) pair of objectives; nan where either
        objective is inactive or its gradient is 0.
    :param nonfinite: (B,) bool, the samples left unguided in this step because their gradient was not finite.
    :param notes: the guidance model's notes on each sample's prompt, such as a word that was cut off; the same at
        every step.
    :param decode: maps latents to pictures (B, 3, h, w), if the generator diffuses latents. ``x_t``, ``pred_x0`` and
        ``sample`` are then latents, and :attr:`preview` and :attr:`picture` are pictures.
    :param decoded: the decoded ``pred_x0``, if guidance needed it.

    A repeated step is recorded once. Its values come from the last repetition; ``nonfinite`` is true if the gradient of
    any repetition was not finite.
    """

    index: int
    timestep: int
    progress: float
    x_t: Tensor
    pred_x0: Tensor
    sample: Tensor
    weights: dict[str, Tensor]
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    gradient_norms: dict[str, Tensor]
    cosines: dict[tuple[str, str], Tensor]
    nonfinite: Tensor
    notes: tuple[tuple[str, ...], ...] = ()
    decode: Callable[[Tensor], Tensor] | None = None
    decoded: Tensor | None = None

    @cached_property
    def preview(self) -> Tensor:
        """``pred_x0`` as pictures (B, 3, h, w). Latents are decoded when this is first read."""
        if self.decoded is not None:
            return self.decoded
        return self.pred_x0 if self.decode is None else self.decode(self.pred_x0)

    @cached_property
    def picture(self) -> Tensor:
        """``sample`` as pictures (B, 3, h, w). Latents are decoded when this is first read."""
        return self.sample if self.decode is None else self.decode(self.sample)

    def save(self, path: str | Path) -> Path:
        """Write the predicted x0 of the samples, side by side, as PNG, and return the path.

        :raises GuidelensError: if the name does not end in .png, or the file cannot be written.
        """
        return save_picture(self._row(), path)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per sample: index, progress, and ``weight.K``, ``loss.K``, ``gradient_norm.K``, ``cosine.K|L``.

        :raises GuidelensError: if pandas is not installed.
        """
        tables: dict[str, dict[str, Tensor]] = {
            "weight": self.weights,
            "loss": self.losses,
            "gradient_norm": self.gradient_norms,
            "cosine": {"|".join(pair): value for pair, value in self.cosines.items()},
        }
        columns = {
            f"{kind}.{name}": value.tolist()
            for kind, table in tables.items()
            for name, value in table.items()
        }
        return data_frame(
            {
                "sample": row,
                "index": self.index,
                "timestep": self.timestep,
                "progress": self.progress,
                **{name: values[row] for name, values in columns.items()},
            }
            for row in range(len(self.x_t))
        )

    def _row(self) -> Image:
        return row_of([to_picture(image) for image in self.preview])

    def _repr_png_(self) -> bytes:
        return png_bytes(self._row())

    def _repr_html_(self) -> str:
        facts = {name: ", ".join(f"{v:.3g}" for v in values.tolist()) for name, values in self.losses.items()}
        title = f"step {self.index + 1}, progress {self.progress:.2f}: predicted x0"
        return html_of(self._repr_png_(), title, {f"loss {name}": text for name, text in facts.items()})


@dataclass(frozen=True, eq=False)
class Result:
    """A finished picture and its telemetry. Telemetry has one number per step, nan where an objective was inactive.

    :param image: (C, H, W) float32 on the CPU, clamped to [-1, 1].
    :param losses: L_k for each objective that this sample's schedule uses at some step.
    :param gradient_norms: the norm of dL_k/dx0 for the same objectives.
    :param cosines: the cosines between these gradients by pair of objectives, spelled ``"a|b"`` in sorted order.
    :param nonfinite_steps: the number of steps left unguided because the gradient was not finite.
    :param seconds: wall time of the batch divided by its size.
    :param notes: the guidance model's notes on the prompt.
    """

    sample: Sample
    image: Tensor
    losses: dict[str, list[float]]
    gradient_norms: dict[str, list[float]]
    cosines: dict[str, list[float]]
    nonfinite_steps: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def picture(self) -> Image:
        """The image as an 8-bit picture."""
        return to_picture(self.image)

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG, pixel for pixel, and return the path.

        :raises GuidelensError: if the name does not end in .png, or the file cannot be written.
        """
        return save_picture(self.picture, path)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per step: ``step``, and ``loss.K``, ``gradient_norm.K``, ``cosine.K|L``.

        :raises GuidelensError: if pandas is not installed.
        """
        tables = {"loss": self.losses, "gradient_norm": self.gradient_norms, "cosine": self.cosines}
        columns = {
            f"{kind}.{name}": values for kind, table in tables.items() for name, values in table.items()
        }
        count = max(map(len, columns.values()), default=0)
        return data_frame(
            {"step": step, **{name: values[step] for name, values in columns.items()}}
            for step in range(count)
        )

    def _repr_png_(self) -> bytes:
        return png_bytes(enlarged(self.picture))

    def _repr_html_(self) -> str:
        last: dict[str, Any] = {name: values[-1] for name, values in self.losses.items() if values}
        facts = {
            "seed": str(self.sample.seed),
            **{f"loss {name}": f"{value:.3g}" for name, value in last.items()},
        }
        return html_of(self._repr_png_(), self.sample.prompt or "unguided", facts)
