"""The contracts that plugins are written against: generators, guidance models, schedules, metrics, prompt sets.

Attributes are written as properties, which plain attributes satisfy as well.

Conventions everywhere: pixels are float in [-1, 1], shape (B, C, H, W); timesteps are *training* indices 0..T-1
(T-1 the noisiest); progress runs from 0 at the first (noisiest) sampling step to 1 at the last. Importing this
module loads no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

CONTRACT_VERSION = 1
"""Major version of everything in this module and of :mod:`guidelens.hookspecs`."""

LARGEST = 1e100
"""Largest magnitude of a number in results: sums and squares of such numbers are finite."""

Prediction = Literal["epsilon", "x0", "v"]
Reads = Literal["x0", "x_t"]
FixedVariance = Literal["small", "large"]
"""Sigma of a reverse step where none is learned: the posterior variance, or beta."""
Into = Literal["score", "sample", "x0"]
"""What s * g is added to: the score, x_{t-1} itself, or the predicted x0 with eps held."""


@runtime_checkable
class Generator(Protocol):
    """A pretrained unconditional diffusion model: a noise predictor and its training noise schedule.

    Optional: ``to(device, dtype)`` moves the network; an :class:`~torch.nn.Module` has it already.
    ``fixed_variance`` (:data:`FixedVariance`) is the Sigma that it was meant to be sampled with, where it learns
    none. ``checkpointing(enabled: bool)`` makes gradients recompute activations instead of keeping them: the same
    numbers for less memory and more time. The engine asks for it where memory does not suffice otherwise.
    ``decode(latents)`` makes a generator one of latents: ``image_shape`` is then that of the latents, and
    ``picture_shape`` (3, h, w) that of the pictures. It maps latents (B, C, H, W) to pictures (B, 3, h, w),
    differentiably; pixels are in [-1, 1], up to what the decoder overshoots. Guidance models, metrics and pages see
    pictures. ``checkpointing`` includes the decoder.
    ``conditions(seeds)`` draws what each sample's network is conditioned on, a tensor (B, ...) from the samples' seeds
    alone; the engine asks once per batch, and passes its rows as a third argument of the call.
    ``notes`` (texts) is what readers of results should know of the generator, such as that its training saw text;
    commands print it, and ``config.json`` and pages hold it.
    ``alternatives()`` returns other implementations of the same network by name (:class:`guidelens.bench.Alternative`),
    which ``guidelens bench --against NAME`` times beside it.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the samples: pictures, or latents where there is a ``decode``."""
        ...

    @property
    def alphas_cumprod(self) -> Tensor:
        """(T,) float64, strictly decreasing: the cumulative signal level of the training process."""
        ...

    @property
    def prediction(self) -> Prediction:
        """What the first C channels of the output are."""
        ...

    @property
    def learned_variance(self) -> bool:
        """True: the output has 2C channels, the prediction and then the variance interpolation in [-1, 1]."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies architecture and weights; part of every cell's key."""
        ...

    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        """Map noisy images (B, C, H, W) and training timesteps (B,) int64 to (B, C or 2C, H, W)."""
        ...


@dataclass(frozen=True)
class TextBatch:
    """Prompts as a guidance model encoded them, once per run.

    ``tensors`` holds whatever the model needs at each step; the first dimension of every entry is the prompt.
    ``notes`` holds, per prompt, what the reader should know (a word cut off, a word the tokenizer does not know).
    """

    prompts: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, indices: Sequence[int]) -> TextBatch:
        """Return the prompts at ``indices``, in that order; an index may repeat."""
        picked = list(indices)
        return TextBatch(
            prompts=tuple(self.prompts[i] for i in picked),
            tensors={name: tensor[picked] for name, tensor in self.tensors.items()},
            notes=tuple(self.notes[i] for i in picked) if self.notes else (),
        )


@runtime_checkable
class GuidanceModel(Protocol):
    """A vision-language model with named objectives, each a loss per image-text pair.

    Optional: ``to(device, dtype)`` moves the network; ``default_scales`` (objective -> float, 1.0 where absent)
    makes the gradients of the objectives commensurable (see :class:`guidelens.engine.Engine`).

    Optional: ``image_features(images)`` returns features (B, D) of images (B, 3, H, W) in [-1, 1], by which sets of
    pictures can be compared (:mod:`guidelens.metrics.distribution`).

    Optional: ``reads``, ``"x0"`` (as if absent) or ``"x_t"``. A model that reads x_t was trained on noisy images
    (a noise-aware classifier, say): it is shown x_t itself, and called as ``losses(images, text, objectives,
    timesteps=t)`` with the training timesteps (B,) int64 of ``images``, which are those of the generator's
    process. Its gradient at x_t is used as it is; the generator is not differentiated.
    """

    @property
    def objectives(self) -> frozenset[str]:
        """The names that :meth:`losses` knows, for instance ``{"itc", "itm", "cap"}``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies architecture and weights; part of every cell's key."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts without gradients; called once per run, not per step."""
        ...

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return ``{objective: (B,) loss}`` for exactly ``objectives``, differentiable in ``images``.

        ``images`` is (B, 3, H, W) in [-1, 1] of any size, paired with ``text`` one to one. The loss of a sample
        must not depend on its neighbours in the batch. Image features are shared between objectives.
        """
        ...


@runtime_checkable
class Schedule(Protocol):
    """Objective weights as a function of progress (the paper's t)."""

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weight of each objective at ``progress`` in [0, 1]; absent means 0."""
        ...


FactKind = Literal["object", "attribute", "count", "relation", "other"]


@dataclass(frozen=True)
class Fact:
    """One assertion of a prompt that a picture can be checked for.

    :param kind: ``object``: the subject appears. ``attribute``: the subject is ``value``. ``count``: there are exactly
        ``number`` of the subject. ``relation``: the subject is ``value`` the ``object`` (``left of``). ``other``:
        anything else, such as a style; it needs a ``question``.
    :param subject: a noun in the singular, without article (``traffic light``). The subject of the first fact is the
        main object of the prompt.
    :param value: the attribute (``red``) or the relation.
    :param object: the noun that a relation refers to.
    :param number: how many of the subject.
    :param question: a yes/no question about the picture whose right answer is yes; empty: made from the other fields.
    :param needs: positions, among the facts of the prompt, of facts without which this one cannot hold.
    """

    kind: FactKind
    subject: str = ""
    value: str = ""
    object: str = ""
    number: int = 0
    question: str = ""
    needs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what its pictures are to be measured against."""

    text: str
    category: str = ""
    reference: str | None = None
    """The clean prompt that metrics use, where ``text`` is a perturbed one; None: ``text`` itself."""
    facts: tuple[Fact, ...] = ()
    """The assertions of the clean prompt, where the prompt set knows them; empty: unknown."""
    foil: str | None = None
    """A wrong caption of the picture that the prompt describes; None: none is known."""
    picture: str = ""
    """The file name of that picture, where the set has one."""

    @property
    def target(self) -> str:
        """The text that an image is scored against."""
        return self.text if self.reference is None else self.reference


ROLES: Mapping[str, str] = {
    "alignment": "how much of the whole prompt the picture shows",
    "realism": "how much it looks like a picture of its world, whatever it shows",
    "recall": "share of the named objects that appear",
    "recall_main": "whether the main object appears: the one named first",
    "recall_rest": "share of the other named objects that appear",
    "detail_main": "share of the details named for the main object that it has",
    "binding": "share of attributes that are on the object they were named for; 0 where none appears",
    "binding_shown": "the same of pictures in which attribute and object both appear",
    "relation": "whether objects stand to each other as the prompt says",
    "count": "whether the picture shows the number of objects that the prompt names",
    "precision": "share of the objects in the picture that the prompt names",
    "judgement": "a guidance model's score of the picture; the model may be the one that guided it",
}
"""What a column of a metric may be read as, by every claim and chart; a plugin may have roles of its own."""


@dataclass(frozen=True)
class Column:
    """What one column of a metric means.

    :param name: as results name it.
    :param meaning: one phrase for a reader.
    :param role: what it is read as, one of :data:`ROLES` or a plugin's own; empty: nothing in particular.
    :param low: its least possible value; None: none.
    :param high: its largest possible value; None: none.
    :param higher_is_better: False where a smaller value is the better one.
    :param looks: for the role ``realism``: the word for what people are asked in a survey of this world, such as
        ``cleanly drawn`` ("Which picture looks more cleanly drawn?"); empty: ``real``.
    """

    name: str
    meaning: str
    role: str = ""
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    looks: str = ""


@runtime_checkable
class Metric(Protocol):
    """A score of finished images."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The scores: name, meaning, role, range and direction of each."""
        ...

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1] against their prompts, one dict per image.

        A column that does not apply to a prompt (no relation named, say) is left out of that image's dict. A bad
        picture is scored low, never left out.
        """
        ...


PromptSet = Sequence[Prompt]
"""What the factory of a prompt set returns."""
