"""FID, KID and CMMD, distances between two sets of pictures, with a feature extractor of your choice.

No extractor is downloaded. Published FIDs use Inception, whose weights must be downloaded separately (see
docs/metrics.md). Distances with different extractors are not comparable.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import call
from guidelens.plugins.requirements import pip_command
from guidelens.words import plural

if TYPE_CHECKING:
    from jaxtyping import Float  # shapes, for readers and tests; nothing is checked at run time
    from PIL.Image import Image
    from torch import Tensor

    from guidelens.contracts import Generator
    from guidelens.plugins import PluginManager
    from guidelens.sampling import Sampling
    from guidelens.studies.results import CellRecord, StudyResults

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

Extractor = Callable[["Tensor"], "Tensor"]
"""Maps images (B, 3, H, W) in [-1, 1] to features (B, D)."""

_AT_ONCE = 32
_PIXELS_AT_ONCE = 8 * 1024**2
"""Fewer large pictures are computed at once: photographs of 12 million pixels one by one."""
_CMMD_WIDTH = 10.0


@dataclass(frozen=True)
class Distance:
    """Distances between a set of pictures and a reference. Lower is nearer.

    :param fid: the Frechet distance of Gaussians fit to the features (Heusel et al. 2017). Its upward bias grows as
        the number of pictures falls: compare only sets of equal size.
    :param kid: the squared maximum mean discrepancy under the kernel (f.g / D + 1)^3 (Binkowski et al. 2018),
        averaged over random subsets. It is unbiased and may be negative.
    :param kid_spread: the standard deviation over the subsets. This is not a standard error.
    :param cmmd: 1000 times the squared maximum mean discrepancy of the normalised features under a Gaussian kernel of
        width 10 (Jayasumana et al. 2024). It does not assume Gaussian features. Published values use CLIP ViT-L/14 at
        336 pixels.
    :param n: number of pictures.
    :param n_reference: number of pictures of the reference.
    :param dimensions: D of the features.
    """

    fid: float
    kid: float
    kid_spread: float
    cmmd: float
    n: int
    n_reference: int
    dimensions: int

    @property
    def note(self) -> str:
        """Why the FID is unreliable, in one line; empty if it is reliable."""
        if min(self.n, self.n_reference) <= self.dimensions:
            return (
                f"{min(self.n, self.n_reference)} pictures for {self.dimensions} features: the FID's covariances "
                "are singular; use the KID"
            )
        return ""


def features_of(pictures: Iterable[Image], extractor: Extractor) -> Tensor:
    """Return the features (N, D) float64 of pictures. Pictures of equal size are processed together.

    :raises UsageError: no picture, or an extractor that does not return (B, D).
    """
    import torch

    from guidelens.pictures import to_tensor

    found: list[Tensor] = []
    waiting: list[Tensor] = []

    def look() -> None:
        if not waiting:
            return
        with torch.no_grad():
            features = extractor(torch.stack(waiting))
        if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != len(waiting):
            shape = tuple(getattr(features, "shape", ())) or f"a {type(features).__name__}"
            raise UsageError(
                f"the extractor returned {shape} for {plural(len(waiting), 'picture')}, not ({len(waiting)}, D)"
            )
        found.append(features.detach().to("cpu", torch.float64))
        waiting.clear()

    for picture in pictures:
        tensor = to_tensor(picture)
        most = max(1, min(_AT_ONCE, _PIXELS_AT_ONCE // (tensor.shape[1] * tensor.shape[2])))
        if waiting and (len(waiting) >= most or tensor.shape != waiting[0].shape):
            look()
        waiting.append(tensor)
    look()
    if not found:
        raise UsageError("no pictures to compute features of")
    return torch.cat(found)


def distance(
    features: Float[Tensor, "N D"], reference: Float[Tensor, "M D"], *, subsets: int = 100, seed: int = 0
) -> Distance:
    """Return FID and KID between features (N, D) and those of a reference (M, D), through torchmetrics.

    :param subsets: number of random subsets for the KID. Each has half the size of the smaller set, at most 1000.
    :param seed: seed of the subsets. The global random state does not change.
    :raises UsageError: for sets of fewer than 4 pictures, or of different dimensions.
    :raises GuidelensError: torchmetrics is not installed.
    """
    import torch

    if min(len(features), len(reference)) < 4:
        raise UsageError(f"{len(features)} and {len(reference)} pictures: give at least 4 of each")
    if features.shape[1] != reference.shape[1]:
        raise UsageError(
            f"features of {features.shape[1]} and {reference.shape[1]} dimensions cannot be compared"
        )
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ModuleNotFoundError:
        command = pip_command(["guidelens[metrics]"])
        raise GuidelensError(f"FID and KID need torchmetrics, which is not installed: {command}") from None

    class _PrecomputedFeatures(torch.nn.Module):
        """Returns its input, which already is the features."""

        num_features = features.shape[1]

        def forward(self, given: Tensor) -> Tensor:
            return given

    size = min(len(features), len(reference), 2000) // 2
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # torchmetrics warns that it stores all features
        torch.manual_seed(seed)
        fid: Any = FrechetInceptionDistance(feature=_PrecomputedFeatures())
        kid: Any = KernelInceptionDistance(feature=_PrecomputedFeatures(), subsets=subsets, subset_size=size)
        for metric in (fid, kid):
            metric.set_dtype(torch.float64)
            metric.update(reference.double(), real=True)
            metric.update(features.double(), real=False)
        mean, spread = kid.compute()
        value = float(fid.compute())
    cmmd = cmmd_of(features, reference)
    return Distance(value, float(mean), float(spread), cmmd, len(features), len(reference), features.shape[1])


def cmmd_of(features: Float[Tensor, "N D"], reference: Float[Tensor, "M D"]) -> float:
    """Return CMMD (Jayasumana et al. 2024): 1000 MMD^2 of normalised features, kernel exp(-|f - g|^2 / (2 * 10^2)).

    All pairs count, those of a picture with itself too, as in the authors' estimator: it is never negative.
    """
    import torch.nn.functional as F

    x, y = (F.normalize(values.double(), dim=-1) for values in (features, reference))

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-(2 - 2 * a @ b.T) / (2 * _CMMD_WIDTH**2)).exp().mean()

    return 1000 * float(mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def study_distances(
    study: StudyResults,
    extractor: Extractor,
    reference: Tensor,
    *,
    grid: str | None = None,
    by: Sequence[str] = ("schedule",),
) -> dict[tuple[Any, ...], Distance]:
    """Return the distances of each condition of a study from a reference.

    :param reference: features (M, D) from :func:`features_of`.
    :param grid: only cells of this grid.
    :param by: the columns whose values define a condition, such as ``("schedule", "steps")``.
    :raises UsageError: for a grid or column that does not exist, or too few pictures.
    """
    chosen = {cell["key"]: cell for cell in study.cells if grid in (None, cell["grid"])}
    done = [cell for cell in chosen.values() if cell["status"] == "done"]
    if not done:
        raise UsageError(
            f"{study.directory} has no finished pictures{f' in a grid {grid!r}' if grid else ''}"
        )
    groups: dict[tuple[Any, ...], list[CellRecord]] = {}
    for cell in done:
        values: Mapping[str, Any] = {**cell["options"], **cell}
        lacking = [name for name in by if name not in values]
        if lacking:
            raise UsageError(f"cells have no column {lacking[0]!r}")
        groups.setdefault(tuple(values[name] for name in by), []).append(cell)
    return {
        group: distance(features_of((study.image(cell["key"]) for cell in cells), extractor), reference)
        for group, cells in groups.items()
    }


def load_extractor(spec: str, plugins: PluginManager, device: str = "auto") -> Extractor:
    """Return a feature extractor by its spelling.

    :param spec: a guidance model with ``image_features``, or ``FILE.py:NAME``. NAME is called without arguments and
        returns the extractor, for example a torch module.
    :raises UsageError: it does not exist, or the guidance model has no features.
    :raises GuidelensError: the file raises an error.
    """
    import torch

    from guidelens.networks import frozen, place, resolve_device

    where = resolve_device(device)
    path, colon, name = spec.rpartition(":")
    if colon and path.endswith(".py"):
        model = _from_file(Path(path), name)
        kind, method = "extractor", "__call__"
    else:
        model = plugins.build("guidance", spec)
        if not hasattr(model, "image_features"):
            raise UsageError(
                f"the guidance model {spec} has no image features; choose another, or FILE.py:NAME"
            )
        kind, method = "guidance model", "image_features"
    model = place(model, where, torch.float32)

    def on_device(images: Tensor) -> Tensor:
        with frozen(model):
            features: Tensor = call(model, kind, method, images.to(where))
        return features

    return on_device


def _from_file(path: Path, name: str) -> Any:
    found = importlib.util.spec_from_file_location(f"guidelens_features_{path.stem}", path)
    if not path.is_file() or found is None or found.loader is None:
        raise UsageError(f"there is no file {path} with a feature extractor")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
        if not callable(getattr(module, name, None)):
            raise UsageError(f"{path} has no function or class {name!r}")
        extractor = getattr(module, name)()
    except GuidelensError:
        raise
    except Exception as error:  # the user's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise GuidelensError(f"{path}:{name} makes no extractor: {reason}") from error
    if not callable(extractor):
        raise UsageError(f"{path}:{name} returned {type(extractor).__name__}, which is not an extractor")
    return extractor


def open_pictures(folder: Path) -> Iterator[Image]:
    """Open the pictures in a folder, sorted by name.

    :raises UsageError: the folder does not exist or has no pictures, or one cannot be read.
    """
    from guidelens.pictures import as_rgb, open_picture

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise UsageError(f"{folder} holds no picture ({', '.join(PICTURE_SUFFIXES)})")
    for path in found:
        try:
            yield as_rgb(open_picture(path))
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"cannot read {path}: {error}") from error


def unguided_pictures(
    generator: Generator,
    seeds: Sequence[int],
    *,
    sampling: Sampling,
    device: str = "auto",
) -> list[Image]:
    """Draw pictures of a generator without guidance, one per seed."""
    from guidelens.engine import Engine, Sample
    from guidelens.pictures import to_picture

    engine = Engine(generator, None, sampling, device=device)
    return [to_picture(result.image) for result in engine.run([Sample("", None, seed) for seed in seeds])]
