"""Telemetry of every step of a batch, in one compressed numpy file per batch.

A batch is computed and stored as a whole, so its file is written once and never changed. Reading it needs only numpy.
Rows stay small and name the file.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.contracts import LARGEST
from guidelens.errors import GuidelensError
from guidelens.guarding import one_line
from guidelens.pictures import to_levels
from guidelens.runs.integrity import again, is_unchanged, read_unchanged, recorded_hash

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from guidelens.engine import Result, Step

FOLDER = "telemetry"
SERIES = ("losses", "gradient_norms", "cosines", "weights")
"""Values per step and objective, or pair of objectives (``"a|b"``, in sorted order)."""

SNAPSHOT_SIDE = 64
"""Largest side in pixels of stored snapshots of x0 and saliency maps. They show what forms when and where, not
detail.
"""

MAPS = ("saliency", "saliency_peaks")
"""Values per objective at the steps with snapshots."""

DIGITS = 7
"""Significant digits of telemetry in rows, the precision of float32."""


@dataclass(frozen=True, eq=False)
class Telemetry:
    """The steps of one cell, N of them, noisiest first.

    :param losses: L_k by objective, (N,) float32; nan where the objective was inactive.
    :param gradient_norms: the norm of dL_k/dx0 likewise.
    :param cosines: of these gradients, by pair of objectives ``"a|b"``.
    :param weights: w_k(p) of the schedule.
    :param nonfinite: (N,) bool, the steps left unguided because their gradient was not finite.
    :param snapshot_steps: (S,) the steps whose predicted x0 was kept.
    :param snapshots: (S, H, W, C) uint8, these predictions, at most :data:`SNAPSHOT_SIDE` pixels a side.
    :param saliency: by objective, (S, H, W) uint8: the mean over channels of |dL_k/dx0| at these steps, reduced like
        the snapshots, in 255ths of the peak of each map.
    :param saliency_peaks: (S,) float32, the value of 255 in each map. If the objective is inactive or its gradient
        not finite, the peak is nan and the map 0.
    """

    losses: dict[str, np.ndarray] = field(default_factory=dict)
    gradient_norms: dict[str, np.ndarray] = field(default_factory=dict)
    cosines: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    nonfinite: np.ndarray | None = None
    snapshot_steps: np.ndarray | None = None
    snapshots: np.ndarray | None = None
    saliency: dict[str, np.ndarray] = field(default_factory=dict)
    saliency_peaks: dict[str, np.ndarray] = field(default_factory=dict)


class StepRecorder:
    """Records the steps of a batch: values that :class:`~guidelens.engine.Result` does not hold.

    Values are copied from the device at the end only, so that no step waits for a copy.

    :param steps: N, the number of steps.
    :param snapshots: progress values in [0, 1]; the nearest steps are kept.
    """

    def __init__(self, steps: int, snapshots: Sequence[float] = ()) -> None:
        self.snapshot_steps = sorted({round(p * max(steps - 1, 0)) for p in snapshots})
        self._nonfinite: list[Tensor] = []
        self._snapshots: list[Tensor] = []
        self._maps: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, step: Step) -> None:
        """Record a step; a callback of :meth:`guidelens.engine.Engine.run`."""
        self._nonfinite.append(step.nonfinite)
        if step.index in self.snapshot_steps:
            self._snapshots.append(_small(step.preview))
            for name, gradient in step.gradients.items():
                self._maps.setdefault(name, []).append(saliency_maps(gradient))

    def nonfinite(self) -> np.ndarray:
        """Return (B, N) bool, True at unguided steps."""
        import torch

        return _array(torch.stack(self._nonfinite, 1).cpu())

    def snapshots(self) -> np.ndarray:
        """Return (B, S, H, W, C) uint8."""
        import torch

        return _array(to_levels(torch.stack(self._snapshots, 1)))

    def saliency(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return maps (B, S, H, W) uint8 and their peaks (B, S) float32 by objective, in sorted order."""
        import torch

        return {
            name: (
                _array(torch.stack([levels for levels, _ in kept], 1).cpu()),
                _array(torch.stack([peaks for _, peaks in kept], 1).cpu()),
            )
            for name, kept in sorted(self._maps.items())
        }


def saliency_maps(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over channels of |gradient| in 255ths of each map's peak, and the peaks.

    Maps that are not finite become 0, with the peak nan. This does not wait for the device.

    :param gradient: dL_k/dx0 (B, C, H, W), at the pictures.
    :returns: (B, h, w) uint8, at most :data:`SNAPSHOT_SIDE` pixels a side, and (B,) float32.
    """
    import torch

    maps = _small(gradient.abs().mean(dim=1, keepdim=True))[:, 0]
    peaks = maps.amax(dim=(1, 2))
    peaks = torch.where(peaks.isfinite(), peaks, torch.nan)
    shares = maps / peaks[:, None, None]  # 0 / 0 and division by nan give nan: an empty map
    return (shares.nan_to_num(0.0) * 255).round().to(torch.uint8), peaks


def _small(images: Tensor) -> Tensor:
    import torch

    images = images.float()
    longest = max(images.shape[-2:])
    if longest <= SNAPSHOT_SIDE:
        return images
    size = [max(1, round(n * SNAPSHOT_SIDE / longest)) for n in images.shape[-2:]]
    return torch.nn.functional.interpolate(images, size, mode="area")


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().numpy()


def batch_file(keys: Sequence[str]) -> str:
    """Return the path of a batch's telemetry, relative to the run's directory. It depends only on the keys."""
    return f"{FOLDER}/{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:20]}.npz"


def pack(
    keys: Sequence[str],
    results: Sequence[Result],
    weights: Sequence[Mapping[str, Sequence[float]]],
    recorder: StepRecorder,
) -> bytes:
    """Return the telemetry of a batch as the content of its file. Equal numbers give equal bytes.

    Arrays: ``keys`` (B,), ``SERIES/name`` (B, N) float32 with nan where a sample has none, ``nonfinite`` (B, N),
    ``snapshot_steps`` (S,), ``snapshots`` (B, S, H, W, C), ``saliency/name`` (B, S, H, W) and
    ``saliency_peaks/name`` (B, S).
    """
    import numpy as np

    buffer = io.BytesIO()
    arrays: dict[str, Any] = _arrays(keys, results, weights, recorder)
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def single_telemetry(
    result: Result, weights: Mapping[str, Sequence[float]], recorder: StepRecorder
) -> Telemetry:
    """Return the telemetry of a single picture, as if read from a file.

    :param weights: weights of its schedule at each step, by objective.
    """
    return _of_row(_arrays([""], [result], [weights], recorder), 0)


def _arrays(
    keys: Sequence[str],
    results: Sequence[Result],
    weights: Sequence[Mapping[str, Sequence[float]]],
    recorder: StepRecorder,
) -> dict[str, np.ndarray]:
    import numpy as np

    tables: dict[str, Sequence[Mapping[str, Sequence[float]]]] = {
        "losses": [result.losses for result in results],
        "gradient_norms": [result.gradient_norms for result in results],
        "cosines": [result.cosines for result in results],
        "weights": weights,
    }
    nonfinite = recorder.nonfinite()
    arrays: dict[str, np.ndarray] = {"keys": np.array(list(keys)), "nonfinite": nonfinite}
    for kind, rows in tables.items():
        for name in sorted({name for row in rows for name in row}):
            none = [math.nan] * nonfinite.shape[1]
            arrays[f"{kind}/{name}"] = np.array([row.get(name, none) for row in rows], dtype=np.float32)
    if recorder.snapshot_steps:
        arrays["snapshot_steps"] = np.array(recorder.snapshot_steps, dtype=np.int32)
        arrays["snapshots"] = recorder.snapshots()
    for name, (maps, peaks) in recorder.saliency().items():
        arrays |= {f"saliency/{name}": maps, f"saliency_peaks/{name}": peaks}
    return arrays


def batch_keys(path: Path, sha256: str = "") -> list[str]:
    """Return the keys of a batch's cells, in the order in which they were computed.

    :raises GuidelensError: when the file cannot be read.
    """
    return list(load_batch(path, sha256))


def load_telemetry(directory: Path, row: Mapping[str, Any]) -> Telemetry:
    """Return the telemetry of one cell from its batch's file.

    :raises GuidelensError: when the file cannot be read or does not hold the cell.
    """
    path = directory / row["telemetry"]
    found = load_batch(path, recorded_hash(row, "telemetry"), row["key"]).get(row["key"])
    if found is None:
        raise GuidelensError(f"{path} has no telemetry of the cell {row['key']}; {again(path.parent.parent)}")
    return found


def load_batch(path: Path, sha256: str = "", only: str | None = None) -> dict[str, Telemetry]:
    """Return the telemetry of all cells of a batch's file by key, or of one of them.

    :param sha256: of the file, as a row has it; empty: not known.
    :raises GuidelensError: when the file cannot be read, or has changed since it was written.
    """
    import numpy as np

    content = read_unchanged(path, sha256)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        _check(arrays)
        keys = [str(key) for key in arrays["keys"]]
        return {key: _of_row(arrays, row) for row, key in enumerate(keys) if only in (None, key)}
    except Exception as error:  # numpy and zipfile raise many things for a damaged archive
        raise GuidelensError(f"{path} is damaged: {one_line(error)}; {again(path.parent.parent)}") from error


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError where arrays have not the shapes of :func:`pack`."""
    batch, steps = arrays["nonfinite"].shape
    shapes = {"keys": (batch,), "nonfinite": (batch, steps)}
    if "snapshot_steps" in arrays:
        (kept,) = arrays["snapshot_steps"].shape
        _, _, height, width, channels = arrays["snapshots"].shape
        shapes |= {"snapshots": (batch, kept, height, width, channels), "snapshot_steps": (kept,)}
        if not ((arrays["snapshot_steps"] >= 0) & (arrays["snapshot_steps"] < steps)).all():
            raise ValueError("snapshots of steps that there are not")
    for name, values in arrays.items():
        kind = name.partition("/")[0]
        expected = (batch, steps) if kind in SERIES else shapes.get(name)
        if kind == "saliency":
            expected = (batch, kept, *values.shape[2:4])
        elif kind == "saliency_peaks":
            expected = (batch, kept)
        if values.shape != expected:
            raise ValueError(f"the array {name!r} has the shape {values.shape}")


def _of_row(arrays: Mapping[str, np.ndarray], row: int) -> Telemetry:
    import numpy as np

    parts: dict[str, Any] = {kind: {} for kind in (*SERIES, *MAPS)}
    for name, values in arrays.items():
        kind, slash, what = name.partition("/")
        # Levels are integers, so only the peak shows whether a map is empty.
        told = arrays[f"saliency_peaks/{what}"] if kind == "saliency" else values
        if slash and not np.isnan(told[row]).all():
            parts[kind][what] = values[row]
    if "snapshots" in arrays:
        parts |= {"snapshot_steps": arrays["snapshot_steps"], "snapshots": arrays["snapshots"][row]}
    return Telemetry(**parts, nonfinite=arrays["nonfinite"][row])


def is_whole(path: Path, sha256: str = "") -> bool:
    """Return whether a telemetry file is complete and unchanged.

    :param sha256: hash of the file in a row. Without it, only the index of the zip file is checked, its last part.
    """
    if not sha256:
        return zipfile.is_zipfile(path)
    return is_unchanged(path, sha256)


def summary(result: Result) -> dict[str, dict[str, float]]:
    """Return the summary of the steps for a row.

    ``losses`` are those of the last step, ``gradient_norms`` and ``cosines`` are means. ``conflicts`` is the share of
    negative cosines among the steps at which both objectives are active.
    """
    return {
        "losses": _reduced(result.losses, lambda values: values[-1]),
        "gradient_norms": _reduced(result.gradient_norms, _mean),
        "cosines": _reduced(result.cosines, _mean),
        "conflicts": _reduced(result.cosines, _share_negative),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _share_negative(values: Sequence[float]) -> float:
    return sum(value < 0 for value in values) / len(values)


def _reduced(series: Mapping[str, Sequence[float]], reduce: Any) -> dict[str, float]:
    finite = {name: [v for v in values if abs(v) <= LARGEST] for name, values in sorted(series.items())}
    return {name: float(f"{reduce(values):.{DIGITS}g}") for name, values in finite.items() if values}


def step_series(directory: Path, row: Mapping[str, Any]) -> dict[str, dict[str, list[float | None]]]:
    """Return ``losses``, ``gradient_norms`` and ``cosines`` of a row: one number per step, None where inactive."""
    telemetry = load_telemetry(directory, row)
    return {
        kind: {
            name: [float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for v in values.tolist()]
            for name, values in getattr(telemetry, kind).items()
        }
        for kind in SERIES[:3]
    }
