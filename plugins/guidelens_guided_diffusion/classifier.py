"""The classifier of noisy pictures as a guidance model: p(y | x_t), as in classifier guidance.

Dhariwal & Nichol 2021, algorithm 1 and section 4: the mean of a reverse step moves by s * Sigma * grad_{x_t}
log p(y | x_t). The classifier reads x_t itself, so there is no gradient through the generator.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from guidelens.contracts import Reads, TextBatch
from guidelens.errors import UsageError
from torch import Tensor, nn

from .encoder import EncoderUNet
from .generator import fingerprint_of
from .imagenet import class_index

OBJECTIVE = "class"


class NoisyClassifierGuidance(nn.Module):
    """An :class:`~guidelens_guided_diffusion.EncoderUNet` as :class:`guidelens.contracts.GuidanceModel`.

    Its only objective, ``class``, is -log p(y | x_t). A prompt names a class by number or ImageNet name.

    :param classifier: the network, which is frozen.
    :param fingerprint: hash of architecture and weights. Default: computed here.
    """

    objectives = frozenset({OBJECTIVE})
    reads: Reads = "x_t"

    def __init__(self, classifier: EncoderUNet, *, fingerprint: str | None = None) -> None:
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        identity = {"flags": classifier.flags.identity(), "network": "classifier"}
        self.fingerprint = fingerprint or fingerprint_of(classifier, identity)

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Look up the class that each prompt names.

        :raises UsageError: a prompt does not name a class. The error lists similar names.
        """
        classes = [class_index(prompt, self.classifier.flags.out_channels) for prompt in prompts]
        device = next(self.classifier.parameters()).device
        return TextBatch(tuple(prompts), {"class": torch.tensor(classes, device=device)})

    def losses(
        self,
        images: Tensor,
        text: TextBatch,
        objectives: Collection[str],
        *,
        timesteps: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return {"class": -log p(y | x_t)} (B,).

        :param images: x_t, (B, 3, H, W), of the classifier's size.
        :param timesteps: (B,), the training timesteps of ``images``; None for finished pictures.
        :raises UsageError: an objective is unknown, or the pictures have another size.
        """
        size = self.classifier.flags.image_size
        if tuple(images.shape[2:]) != (size, size):
            raise UsageError(
                f"this classifier reads pictures of {size}x{size}, and the generator draws "
                f"{images.shape[2]}x{images.shape[3]}: choose the classifier of that size"
            )
        if unknown := set(objectives) - self.objectives:
            raise UsageError(f"unknown objective {sorted(unknown)[0]!r}; a classifier has 'class'")
        if timesteps is None:
            timesteps = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        logits = self.classifier(images, timesteps)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, text.tensors["class"], reduction="none")
        return dict.fromkeys(objectives, loss)
