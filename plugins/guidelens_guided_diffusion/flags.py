"""The constructor flags of guided-diffusion's UNet, with their meaning and checks. Does not import torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from guidelens.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

_NORM_GROUPS = 32
_POSITIVE = ("image_size", "in_channels", "model_channels", "out_channels", "num_res_blocks", "patch_size")
_HEADS = ("num_heads", "num_head_channels", "num_heads_upsample")
_SWITCHES = (
    *("conv_resample", "use_checkpoint", "use_fp16", "use_scale_shift_norm"),
    *("resblock_updown", "use_new_attention_order"),
)
_NO_IDENTITY = ("dropout", "dims", "use_checkpoint", "use_fp16")
Pool = Literal["adaptive", "attention", "spatial", "spatial_v2"]


@dataclass(frozen=True)
class UNetFlags:
    """Flags of :class:`guidelens_guided_diffusion.UNet`, with the names, order and defaults of the original.

    The original's scripts have other names for some flags. :func:`.description.from_script` translates them.

    :raises UsageError: a value has the wrong type or range, or values do not fit together.
    """

    image_size: int
    """Height and width of the samples in pixels."""
    in_channels: int
    """Channels of x_t, 3 for RGB."""
    model_channels: int
    """Base width. ``channel_mult`` multiplies it per level."""
    out_channels: int
    """Channels of the output: twice ``in_channels`` for models that learn the variance."""
    num_res_blocks: int
    """Residual blocks per level of the encoder. The decoder has one more."""
    attention_resolutions: tuple[int, ...]
    """Downsampling factors that have attention (1: the first level). The middle block always has attention."""
    dropout: float = 0.0
    """Dropout probability inside residual blocks, in training."""
    channel_mult: tuple[float, ...] = (1, 2, 4, 8)
    """One multiplier of ``model_channels`` per level. Each level halves the resolution of the one before."""
    conv_resample: bool = True
    """Use learned convolutions for up- and downsampling, if ``resblock_updown`` is off."""
    dims: int = 2
    """Dimensions of the signal. Only 2 (pictures) is supported."""
    num_classes: int | None = None
    """Number of classes of a class-conditional model."""
    use_checkpoint: bool = False
    """Recompute each stage in the backward pass, to save memory. The results are the same."""
    use_fp16: bool = False
    """Compute in float16, except for the timestep embedding and the output layers."""
    num_heads: int = 1
    """Number of attention heads. Unused if ``num_head_channels`` is given."""
    num_head_channels: int = -1
    """Channels per attention head; -1: use ``num_heads``."""
    num_heads_upsample: int = -1
    """Number of attention heads in the decoder; -1: the same as in the encoder."""
    use_scale_shift_norm: bool = False
    """Scale and shift normalised activations by the timestep embedding instead of adding it."""
    resblock_updown: bool = False
    """Resample inside residual blocks."""
    use_new_attention_order: bool = False
    """Order the rows of ``qkv`` as all q, all k, all v, instead of head by head."""
    patch_size: int = 1
    """Side in pixels of the patches that the network works on. 2: the first level has half the resolution of x_t, so
    small models are about twice as fast. Our own flag; the published models have 1."""

    def __post_init__(self) -> None:
        self._check_types()
        attention: Collection[int] = self.attention_resolutions  # accept any collection, like the original
        in_order = sorted(attention) if isinstance(attention, set | frozenset) else attention
        object.__setattr__(self, "attention_resolutions", tuple(in_order))
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        self._check_fit()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels per level, from the highest resolution."""
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def emb_channels(self) -> int:
        """Size of the timestep embedding inside the network."""
        return 4 * self.model_channels

    @property
    def heads_upsample(self) -> int:
        """Number of attention heads in the decoder."""
        return self.num_heads if self.num_heads_upsample == -1 else self.num_heads_upsample

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build flags from the values of a file or of a checkpoint's description.

        :raises UsageError: a name is unknown or missing, or values do not fit.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise UsageError(
                f"unknown UNet flags {', '.join(map(str, unknown))}; there are {', '.join(known)}"
            )
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        if missing := [name for name in needed if name not in values]:
            raise UsageError(f"UNet flags lack {', '.join(missing)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all flags as JSON types."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def identity(self) -> dict[str, Any]:
        """Return the flags that affect the results of a trained network, in one notation, for fingerprints."""
        flags = {name: v for name, v in self.to_dict().items() if name not in _NO_IDENTITY}
        del flags["channel_mult"]  # 1 and 1.0 give the same network
        if self.patch_size == 1:
            del flags["patch_size"]
        attention = sorted(set(self.attention_resolutions))
        return {**flags, "widths": list(self.widths), "attention_resolutions": attention}

    def _check_types(self) -> None:
        for name in _POSITIVE:
            self._check(name, _is_int(getattr(self, name)) and getattr(self, name) > 0, "a positive integer")
        for name in _HEADS:
            value = getattr(self, name)
            allowed = _is_int(value) and (value > 0 or (value == -1 and name != "num_heads"))
            self._check(name, allowed, "a positive integer" + (", or -1" if name != "num_heads" else ""))
        self._check("dims", self.dims == 2, "2, for pictures")
        for name in _SWITCHES:
            self._check(name, isinstance(getattr(self, name), bool), "true or false")
        for name in ("attention_resolutions", "channel_mult"):
            values = getattr(self, name)
            whole = name == "attention_resolutions"
            kinds = list | tuple | set | frozenset if whole else list | tuple
            allowed = isinstance(values, kinds) and all(
                (_is_int(v) or (isinstance(v, float) and not whole)) and v > 0 for v in values
            )
            self._check(name, allowed, f"a list of positive {'integers' if whole else 'numbers'}")
        classes = self.num_classes
        self._check(
            "num_classes", classes is None or (_is_int(classes) and classes > 0), "a positive integer"
        )
        number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        self._check("dropout", number and 0 <= self.dropout < 1, "a number in [0, 1)")

    def _check(self, name: str, fine: bool, wanted: str) -> None:
        if not fine:
            raise UsageError(f"the UNet flag {name} must be {wanted}, not {getattr(self, name)!r}")

    def _check_fit(self) -> None:
        self._check("channel_mult", len(self.channel_mult) > 0, "one number or more")
        steps = self.patch_size * 2 ** (len(self.channel_mult) - 1)
        self._check("image_size", self.image_size % steps == 0, f"a multiple of {steps} at this many levels")
        for level, width in enumerate(self.widths):
            if width <= 0 or width % _NORM_GROUPS:
                raise UsageError(
                    f"model_channels {self.model_channels} times channel_mult {self.channel_mult[level]} is "
                    f"{width} channels; the UNet's normalisation needs a multiple of {_NORM_GROUPS}"
                )
            attends = 2**level in self.attention_resolutions or level == len(self.widths) - 1
            per_head = self.num_head_channels
            for split in (per_head,) if per_head != -1 else (self.num_heads, self.heads_upsample):
                if attends and width % split:
                    what = "heads" if per_head == -1 else "channels per head"
                    raise UsageError(f"{width} channels cannot be divided into attention with {split} {what}")


@dataclass(frozen=True)
class EncoderFlags(UNetFlags):
    """Flags of :class:`guidelens_guided_diffusion.EncoderUNet`. ``out_channels`` is the number of classes."""

    pool: Pool = "adaptive"
    """Pooling of the features into one vector: ``adaptive`` averages the last features, ``attention`` lets their mean
    attend to them, ``spatial`` and ``spatial_v2`` average the features of every stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("patch_size", self.patch_size == 1, "1 in a classifier")
        self._check("pool", self.pool in get_args(Pool), f"one of {', '.join(get_args(Pool))}")
        self._check(
            "num_classes", self.num_classes is None, "left out, as a classifier does not know the class"
        )
        if self.pool == "attention":
            self._check("num_head_channels", self.num_head_channels != -1, "given, with pool=attention")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
