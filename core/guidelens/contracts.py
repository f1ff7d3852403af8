"""The contracts that plugins implement: generators, guidance models, schedules, metrics and prompt sets.

The protocols declare attributes as properties. A plain attribute satisfies them as well.

Conventions in all contracts:

- Images have shape (B, C, H, W), with float pixels in [-1, 1].
- Timesteps are *training* indices 0..T-1, where T-1 is the noisiest.
- Progress runs from 0 at the first (noisiest) sampling step to 1 at the last.

Importing this module does not load torch.
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
"""The largest magnitude of a number in results. Sums and squares of such numbers are finite."""

Prediction = Literal["epsilon", "x0", "v"]
Reads = Literal["x0", "x_t"]
FixedVariance = Literal["small", "large"]
"""Sigma of a reverse step if the network learned none: ``small`` is the posterior variance, ``large`` is beta."""
Into = Literal["score", "sample", "x0"]
"""What s * g is added to: the score, x_{t-1} itself, or the predicted x0 with eps held fixed."""


@runtime_checkable
class Generator(Protocol):
    """A pretrained unconditional diffusion model: a noise predictor and its training noise schedule.

    A generator may also have these members:

    ``to(device, dtype)`` moves the network. An :class:`~torch.nn.Module` already has this method.

    ``fixed_variance`` (:data:`FixedVariance`) is the Sigma that the generator should be sampled with, if it did not
    learn one.

    ``checkpointing(enabled: bool)`` makes gradients recompute activations instead of storing them. The numbers are
    the same; it takes less memory and more time. The engine switches it on when memory does not suffice otherwise.
    If there is a decoder, ``checkpointing`` includes it.

    ``decode(latents)`` marks a generator of latents. It maps latents (B, C, H, W) differentiably to pictures
    (B, 3, h, w) with pixels in [-1, 1]; the decoder may overshoot this range slightly. ``image_shape`` is then the
    shape of the latents, and ``picture_shape`` (3, h, w) the shape of the pictures. Guidance models, metrics and pages
    receive pictures.

    ``conditions(seeds)`` draws the input that the network is conditioned on. It returns a tensor (B, ...) that depends
    only on the samples' seeds. The engine calls it once per batch, and passes its rows to the generator as a third
    argument.

    ``notes`` (texts) holds what readers of results should know about the generator, such as that it was trained with
    text. Commands print the notes; ``config.json`` and pages contain them.

    ``alternatives()`` returns other implementations of the same network by name (:class:`guidelens.bench.Alternative`).
    ``guidelens bench --against NAME`` compares their speed.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the samples: pictures, or latents if the generator has a ``decode``."""
        ...

    @property
    def alphas_cumprod(self) -> Tensor:
        """The cumulative signal level of the training process: (T,) float64, strictly decreasing."""
        ...

    @property
    def prediction(self) -> Prediction:
        """What the first C channels of the output predict."""
        ...

    @property
    def learned_variance(self) -> bool:
        """Whether the output has 2C channels: first the prediction, then the variance interpolation in [-1, 1]."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that identifies architecture and weights. It is part of every cell's key."""
        ...

    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        """Map noisy images (B, C, H, W) and training timesteps (B,) int64 to (B, C or 2C, H, W)."""
        ...


@dataclass(frozen=True)
class TextBatch:
    """Prompts as a guidance model encoded them, once per run.

    ``tensors`` holds what the model needs at each step. The first dimension of every entry is the prompt.
    ``notes`` holds what the reader should know about each prompt, such as a word that was cut off or that the
    tokenizer does not know.
    """

    prompts: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, indices: Sequence[int]) -> TextBatch:
        """Return the prompts at ``indices``, in that order. An index may occur several times."""
        picked = list(indices)
        return TextBatch(
            prompts=tuple(self.prompts[i] for i in picked),
            tensors={name: tensor[picked] for name, tensor in self.tensors.items()},
            notes=tuple(self.notes[i] for i in picked) if self.notes else (),
        )


@runtime_checkable
class GuidanceModel(Protocol):
    """A vision-language model with named objectives. Each objective is a loss per image-text pair.

    A guidance model may also have these members:

    ``to(device, dtype)`` moves the network.

    ``default_scales`` maps objectives to floats (1.0 for a missing objective). The scales make the gradients of the
    objectives comparable in size (see :class:`guidelens.engine.Engine`).

    ``image_features(images)`` returns features (B, D) of images (B, 3, H, W) in [-1, 1]. Sets of pictures are compared
    by these features (:mod:`guidelens.metrics.distribution`).

    ``reads`` is ``"x0"`` (the default) or ``"x_t"``. A model that reads x_t was trained on noisy images, like a
    noise-aware classifier. It receives x_t itself, and is called as ``losses(images, text, objectives, timesteps=t)``.
    ``timesteps`` (B,) int64 are the training timesteps of ``images`` in the generator's process. The gradient with
    respect to x_t is used directly; the generator is not differentiated.
    """

    @property
    def objectives(self) -> frozenset[str]:
        """The names that :meth:`losses` accepts, such as ``{"itc", "itm", "cap"}``."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that identifies architecture and weights. It is part of every cell's key."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts without gradients. The engine calls this once per run, not per step."""
        ...

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return ``{objective: (B,) loss}`` for exactly ``objectives``, differentiable in ``images``.

        ``images`` is (B, 3, H, W) in [-1, 1], of any size. The i-th image belongs to the i-th text of ``text``. The
        loss of a sample must not depend on its neighbours in the batch. Compute image features once for all
        objectives.
        """
        ...


@runtime_checkable
class Schedule(Protocol):
    """Objective weights as a function of progress (the paper's t)."""

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weight of each objective at ``progress`` in [0, 1]. A missing objective has weight 0."""
        ...


FactKind = Literal["object", "attribute", "count", "relation", "other"]


@dataclass(frozen=True)
class Fact:
    """One assertion of a prompt that can be checked in a picture.

    :param kind: ``object``: the subject appears. ``attribute``: the subject is ``value``. ``count``: there are exactly
        ``number`` of the subject. ``relation``: the subject is ``value`` the ``object`` (``left of``). ``other``:
        anything else, such as a style; it needs a ``question``.
    :param subject: a noun in the singular, without article (``traffic light``). The subject of the first fact is the
        main object of the prompt.
    :param value: the attribute (``red``) or the relation.
    :param object: the noun that a relation refers to.
    :param number: the number of subjects, for ``count``.
    :param question: a yes/no question about the picture; the right answer is yes. If empty, the question is made from
        the other fields.
    :param needs: the positions of the prompt's other facts that must hold for this one to hold.
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
    """A prompt, and the references that its pictures are measured against."""

    text: str
    category: str = ""
    reference: str | None = None
    """The clean prompt that metrics use if ``text`` is perturbed. None means ``text`` itself."""
    facts: tuple[Fact, ...] = ()
    """The assertions of the clean prompt. Empty if the prompt set does not provide them."""
    foil: str | None = None
    """A wrong caption for the picture that the prompt describes. None if there is none."""
    picture: str = ""
    """The file name of that picture, if the set has one."""

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
"""The roles that claims and charts look up columns by. A plugin may define further roles."""


@dataclass(frozen=True)
class Column:
    """The meaning of one column of a metric.

    :param name: the name of the column in results.
    :param meaning: one phrase for a reader.
    :param role: one of :data:`ROLES` or a role of the plugin, by which claims find the column; empty: no role.
    :param low: the smallest possible value; None: unbounded.
    :param high: the largest possible value; None: unbounded.
    :param higher_is_better: False if smaller values are better.
    :param looks: for the role ``realism``: the word that a survey uses in its question about these pictures, such as
        ``cleanly drawn`` ("Which picture looks more cleanly drawn?"); empty: ``real``.
    """

    name: str
    meaning: str
    role: str = ""
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    looks: str = ""


@dataclass(frozen=True)
class QuestionScore:
    """The score of one question that a metric asked about a picture.

    :param text: the question or the statement that was asked.
    :param score: its score, such as the probability of a yes.
    :param by: what gave the score, such as an objective.
    :param holds: whether the metric counts it as true; None if it does not decide.
    """

    text: str
    score: float
    by: str = ""
    holds: bool | None = None


QuestionedScores = tuple[dict[str, float], list[QuestionScore]]
"""The columns of a picture, and the questions behind them."""


@runtime_checkable
class Metric(Protocol):
    """A score of finished images.

    A metric whose scores come from questions may also have ``score_questions(images, prompts)``. It returns for each
    image what ``score`` returns and the questions (:data:`QuestionedScores`). guidelens then calls it instead of
    ``score``, and keeps the questions beside the scores.
    """

    @property
    def columns(self) -> tuple[Column, ...]:
        """The scores: name, meaning, role, range and direction of each."""
        ...

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1] against their prompts, and return one dict per image.

        Leave a column out of an image's dict if it does not apply to the prompt, for example a score of relations for
        a prompt without relations. Give a bad picture a low score; do not leave it out.
        """
        ...


PromptSet = Sequence[Prompt]
"""The value that the factory of a prompt set returns."""
