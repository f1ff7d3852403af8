"""A guidelens plugin: the objective ``red``, alone (``red``) or beside those of another model (``with-red``)."""

from __future__ import annotations

from guidelens import PluginManager, TextBatch, UsageError, hookimpl

guidelens_contract = 1

SCALE = 1000.0
"""Makes the gradient of a mean over pixels as strong as those of the objectives that come with guidelens."""


def redness_loss(images):
    """Return the mean squared distance (B,) of pixels (B, 3, H, W) in [-1, 1] from pure red."""
    red = images.new_tensor([1.0, -1.0, -1.0]).reshape(3, 1, 1)
    return (images - red).square().mean(dim=(1, 2, 3))


class Red:
    """A guidance model that knows one objective and reads no prompt."""

    objectives = frozenset({"red"})
    fingerprint = "make-it-red-1"
    default_scales = {"red": SCALE}  # noqa: RUF012

    def encode_text(self, prompts):
        return TextBatch(tuple(prompts))

    def losses(self, images, text, objectives):
        return {name: redness_loss(images) for name in objectives}


class WithRed:
    """Another guidance model, and ``red`` beside its objectives.

    :param inner: the model; its objectives keep their names, scales and values.
    :raises UsageError: if it has an objective ``red`` itself.
    """

    def __init__(self, inner):
        if "red" in inner.objectives:
            raise UsageError("the model has an objective 'red' already")
        if hasattr(inner, "requires_grad_"):  # guidelens freezes only modules that it is given
            inner.eval().requires_grad_(False)
        self.inner = inner
        self.objectives = inner.objectives | {"red"}
        self.default_scales = {**getattr(inner, "default_scales", {}), "red": SCALE}

    @property
    def fingerprint(self):
        return f"{self.inner.fingerprint}+make-it-red-1"

    def to(self, device, dtype):
        if hasattr(self.inner, "to"):
            moved = self.inner.to(device, dtype)
            self.inner = self.inner if moved is None else moved
        return self

    def encode_text(self, prompts):
        return self.inner.encode_text(prompts)

    def losses(self, images, text, objectives):
        theirs = [name for name in objectives if name != "red"]
        losses = self.inner.losses(images, text, theirs) if theirs else {}
        return {**losses, "red": redness_loss(images)} if "red" in objectives else losses


def with_red(model: str = "shapes") -> WithRed:
    """Wrap a guidance model.

    :param model: how it is spelled, for instance ``shapes`` or ``blip:checkpoint=FILE``.
    """
    return WithRed(PluginManager.load().build("guidance", model))


@hookimpl
def register_guidance_models(register):
    register("red", Red, summary="red pictures, whatever the prompt", requires=["torch"])
    register("with-red", with_red, summary="the objective red beside those of another guidance model")
