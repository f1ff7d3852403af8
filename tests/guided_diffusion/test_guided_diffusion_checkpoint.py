"""Saving, loading, fingerprints, and what is said of files that cannot be used."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.contracts import Generator
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import PluginManager
from guidelens.weights.store import WeightsMissing
from guidelens_guided_diffusion import GuidedDiffusionGenerator, UNet, load_generator, save_generator
from guidelens_guided_diffusion.plugin import guided_diffusion, register_generators
from safetensors.torch import load_file, save_file
from small_unet import SMALL, lively
from torch import Tensor


@pytest.fixture
def flags_file(flags: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(flags))
    return path


@pytest.fixture
def published(unet: UNet, tmp_path: Path) -> Path:
    """The small network as OpenAI would publish it: a bare state dict."""
    path = tmp_path / "small.pt"
    torch.save(unet.state_dict(), path)
    return path


def error_line(kind: type[GuidelensError], action: Callable[[], object]) -> str:
    """The message of the error that ``action`` ends in: of exactly that class, one line."""
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_round_trip_is_exact(saved: Path, unet: UNet, x: Tensor, t: Tensor) -> None:
    loaded = load_generator(saved)
    assert isinstance(loaded, Generator)
    assert (loaded.image_shape, loaded.prediction, loaded.learned_variance) == ((3, 8, 8), "v", True)
    torch.testing.assert_close(loaded.alphas_cumprod, alphas_cumprod_of(beta_schedule("cosine")))
    torch.testing.assert_close(loaded(x, t), unet(x, t), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    direct = GuidedDiffusionGenerator(unet, schedule="cosine", prediction="v")
    assert loaded.fingerprint == direct.fingerprint == load_generator(saved).fingerprint


def test_half_precision_storage(saved: Path, unet: UNet, flags: dict, x: Tensor, t: Tensor) -> None:
    exact = saved.stat().st_size
    save_generator(saved, unet, flags, schedule="cosine", prediction="v", dtype=torch.float16)
    assert saved.stat().st_size < 0.55 * exact
    loaded = load_generator(saved)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(x, t), unet(x, t), rtol=1e-2, atol=1e-2)
    # Rounded weights are other weights; storing them in full changes them no more.
    again = saved.with_name("again.safetensors")
    save_generator(again, loaded.unet, flags, schedule="cosine", prediction="v")
    assert load_generator(again).fingerprint == loaded.fingerprint
    assert loaded.fingerprint != GuidedDiffusionGenerator(unet, schedule="cosine", prediction="v").fingerprint


def test_fingerprint_is_fixed_for_all_time() -> None:
    """Of known weights, so that it cannot depend on the machine, the process or the memory layout."""
    unet = UNet(**SMALL)
    with torch.no_grad():
        for i, parameter in enumerate(unet.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape) % (i + 2) - 1.5)
    assert GuidedDiffusionGenerator(unet).fingerprint == "5ee789563eb0ee58"
    scattered = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert GuidedDiffusionGenerator(scattered).fingerprint == "5ee789563eb0ee58"


def test_fingerprint_tells_networks_and_processes_apart(unet: UNet, flags: dict) -> None:
    def fingerprint(changes: dict[str, Any], **process: Any) -> str:
        other = UNet(**{**flags, **changes})
        other.load_state_dict(unet.state_dict())
        return GuidedDiffusionGenerator(other, **process).fingerprint

    same = fingerprint({})
    assert fingerprint({"use_checkpoint": True, "dropout": 0.1, "channel_mult": (1.0, 2.0)}) == same
    # None of these changes a name or a shape.
    different = {
        same,
        fingerprint({"num_head_channels": 32}),
        fingerprint({"use_new_attention_order": True}),
        fingerprint({"image_size": 16}),
        fingerprint({}, schedule="cosine"),
        fingerprint({}, prediction="v"),
        fingerprint({}, num_timesteps=500),
    }
    with torch.no_grad():
        unet.out[2].bias[0] += 1e-6
    assert len(different | {fingerprint({})}) == 8


def test_loading_initialises_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No value is drawn or filled, and no parameter ever lies in memory that was allocated for it."""
    built = []
    plain = UNet.__init__

    def observed(self: UNet, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        built.append({parameter.device.type for parameter in self.parameters()})

    monkeypatch.setattr(UNet, "__init__", observed)
    before = torch.get_rng_state()
    generator = load_generator(saved)
    assert built == [{"meta"}]
    assert torch.equal(torch.get_rng_state(), before)
    assert {parameter.device.type for parameter in generator.parameters()} == {"cpu"}


def test_options_for_a_bare_checkpoint(
    published: Path, flags_file: Path, unet: UNet, x: Tensor, t: Tensor
) -> None:
    generator = guided_diffusion(published, flags=flags_file)
    assert (generator.prediction, len(generator.alphas_cumprod)) == ("epsilon", 1000)
    torch.testing.assert_close(generator.alphas_cumprod, alphas_cumprod_of(beta_schedule("linear")))
    torch.testing.assert_close(generator(x, t), unet(x, t), rtol=0, atol=0)
    other = guided_diffusion(
        published,
        flags=flags_file,
        schedule="cosine",
        prediction="x0",
        num_timesteps=500,
        use_checkpoint=True,
    )
    assert (other.prediction, len(other.alphas_cumprod), other.unet.use_checkpoint) == ("x0", 500, True)
    torch.testing.assert_close(other.alphas_cumprod, alphas_cumprod_of(beta_schedule("cosine", 500)))


@pytest.mark.parametrize("kind", ["safetensors", "float16", "old-format"])
def test_other_ways_to_store_the_same_names(
    published: Path, flags_file: Path, unet: UNet, kind: str, x: Tensor, t: Tensor
) -> None:
    state = unet.state_dict()
    if kind == "safetensors":
        published = published.with_name("bare.safetensors")
        save_file(state, published)
    elif kind == "float16":
        torch.save({name: tensor.half() for name, tensor in state.items()}, published)
    else:
        torch.save(state, published, _use_new_zipfile_serialization=False)
    generator = guided_diffusion(published, flags=flags_file)
    tolerance = 1e-2 if kind == "float16" else 0.0
    torch.testing.assert_close(generator(x, t), unet(x, t), rtol=tolerance, atol=tolerance)


def test_a_described_file_needs_no_options(saved: Path) -> None:
    generator = guided_diffusion(saved, use_checkpoint=True)
    assert (generator.prediction, generator.unet.use_checkpoint) == ("v", True)
    assert generator.fingerprint == load_generator(saved).fingerprint
    assert guided_diffusion(saved, schedule="cosine", prediction="v", num_timesteps=1000).prediction == "v"


def test_without_a_checkpoint_it_says_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path))
    message = error_line(WeightsMissing, guided_diffusion)
    for fact in (
        "256x256_diffusion_uncond.pt (2.21 GB)",
        "run `guidelens weights fetch imagenet256-uncond`",
        str(tmp_path / "weights" / "imagenet256-uncond" / "256x256_diffusion_uncond.pt"),
        "guided-diffusion:checkpoint=FILE",
    ):
        assert fact in message


def test_options_that_contradict(saved: Path, published: Path, flags_file: Path) -> None:
    both = error_line(
        UsageError, lambda: guided_diffusion(published, flags=flags_file, preset="imagenet256-uncond")
    )
    assert "not both" in both
    assert "leave out the option flags" in error_line(
        UsageError, lambda: guided_diffusion(saved, flags=flags_file)
    )
    message = error_line(UsageError, lambda: guided_diffusion(saved, schedule="linear"))
    assert "schedule=cosine, not linear" in message


def test_a_published_checkpoint_of_another_network(published: Path) -> None:
    """Taken for the 256-pixel preset, at no cost in memory."""
    message = error_line(GuidelensError, lambda: guided_diffusion(published))
    assert str(published) in message
    assert "tensors missing (input_blocks." in message
    assert "time_embed.0.weight is 128x32 instead of 1024x256" in message
    assert "model_channels is 256, the file has 32" in message
    assert "num_res_blocks is 2, the file has 1" in message
    assert "channel_mult is [1, 1, 2, 2, 4, 4], the file has [1, 2]" in message
    assert "preset" not in message  # nothing published is like it


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"out_channels": 3}, "out_channels is 3, the file has 6"),
        ({"in_channels": 6}, "in_channels is 6, the file has 3"),
        ({"use_scale_shift_norm": False}, "use_scale_shift_norm is False, the file has True"),
        ({"num_res_blocks": 2}, "num_res_blocks is 2, the file has 1"),
        ({"attention_resolutions": [1, 2]}, "attention_resolutions is [1, 2], the file has [2]"),
        ({"channel_mult": [1, 3]}, "channel_mult is [1, 3], the file has [1, 2]"),
        ({"num_classes": 7}, "num_classes is 7, the file has None"),
    ],
)
def test_hints_at_wrong_flags(published: Path, flags_file: Path, flags: dict, wrong: dict, hint: str) -> None:
    flags_file.write_text(json.dumps({**flags, **wrong}))
    assert hint in error_line(GuidelensError, lambda: guided_diffusion(published, flags=flags_file))


def test_hint_at_residual_resampling(flags: dict, flags_file: Path, published: Path) -> None:
    torch.save(UNet(**{**flags, "resblock_updown": False}).state_dict(), published)
    message = error_line(GuidelensError, lambda: guided_diffusion(published, flags=flags_file))
    assert "unexpected (input_blocks.2.0.op.weight" in message
    assert "resblock_updown is True, the file has False" in message


@pytest.fixture
def conditional(flags: dict[str, Any], published: Path, flags_file: Path) -> UNet:
    """A network of five classes, as the published file, with its flags."""
    network = lively(UNet(**{**flags, "num_classes": 5}))
    torch.save(network.state_dict(), published)
    flags_file.write_text(json.dumps({**flags, "num_classes": 5}))
    return network


def test_class_conditional_checkpoints(
    conditional: UNet, flags_file: Path, published: Path, x: Tensor, t: Tensor
) -> None:
    generators = {k: guided_diffusion(published, flags=flags_file, label=str(k)) for k in (0, 3)}
    for k, generator in generators.items():
        expected = conditional(x, t, torch.tensor([k, k]))
        torch.testing.assert_close(generator(x, t), expected, rtol=0, atol=0)
    assert generators[0].fingerprint != generators[3].fingerprint
    with torch.autocast("cpu", torch.bfloat16):
        assert generators[3](x, t).isfinite().all()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "class-conditional: give label=0 to label=4"),
        ("5", "'5' is not a class: give 0 to 4"),
        ("-1", "'-1' is not a class"),
        ("golden retriever", "give a number, 0 to 4"),
    ],
)
@pytest.mark.usefixtures("conditional")
def test_labels_that_do_not_fit(label: str | None, message: str, flags_file: Path, published: Path) -> None:
    assert message in error_line(
        UsageError, lambda: guided_diffusion(published, flags=flags_file, label=label)
    )


def test_labels_and_unconditional_networks(
    conditional: UNet, published: Path, flags_file: Path, flags: dict
) -> None:
    assert "class-conditional" in error_line(UsageError, lambda: GuidedDiffusionGenerator(conditional))
    assert "not a class" in error_line(UsageError, lambda: GuidedDiffusionGenerator(conditional, label=5))
    flags_file.write_text(json.dumps(flags))
    message = error_line(GuidelensError, lambda: guided_diffusion(published, flags=flags_file))
    assert "num_classes is None, the file has 5" in message
    torch.save(UNet(**flags).state_dict(), published)
    message = error_line(UsageError, lambda: guided_diffusion(published, flags=flags_file, label="0"))
    assert "unconditional: leave out label=0" in message


def test_networks_that_are_no_generators(flags: dict, unet: UNet) -> None:
    odd = UNet(**{**flags, "out_channels": 4})
    assert "maps 3 to 4" in error_line(UsageError, lambda: GuidedDiffusionGenerator(odd))
    wrong: Any = "noise"
    message = error_line(UsageError, lambda: GuidedDiffusionGenerator(unet, prediction=wrong))
    assert "epsilon, x0, v" in message
    with pytest.raises(UsageError, match="betas reach 1"):
        GuidedDiffusionGenerator(unet, num_timesteps=5)


class Code:
    """Unpickling it would print."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no tensors here")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>not found</html>\n" * 40),
    "zip": write_zip,
    "plain pickle with code": lambda path: path.write_bytes(pickle.dumps({"a": Code()})),
    "checkpoint with code": lambda path: torch.save({"a": Code()}, path),
    "list": lambda path: torch.save([torch.zeros(2)], path),
    "training state": lambda path: torch.save({"model": {"a": torch.zeros(2)}, "step": 3}, path),
    "no tensors": lambda path: torch.save({}, path),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"foreign{suffix}"
    FOREIGN[kind](path)
    message = error_line(GuidelensError, lambda: guided_diffusion(path))
    assert str(path) in message
    assert "weights_only" not in message  # no advice to load it unsafely
    assert "code ran" not in capsys.readouterr().out


def test_training_state_of_another_network_is_compared(tmp_path: Path) -> None:
    FOREIGN["training state"](tmp_path / "a.pt")
    message = error_line(GuidelensError, lambda: guided_diffusion(tmp_path / "a.pt"))
    assert "1 tensors unexpected (a)" in message
    assert "does not look like a network of guided-diffusion" in message


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("name", ["published", "saved"])
def test_truncated_files(name: str, share: float, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert str(path) in error_line(GuidelensError, lambda: guided_diffusion(path))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        assert f"no checkpoint file {path}" in error_line(
            GuidelensError, lambda path=path: guided_diffusion(path)
        )


def test_load_generator_takes_its_own_format_only(unet: UNet, published: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(unet.state_dict(), bare)
    for path in (bare, published):
        assert "not a guidelens generator" in error_line(
            GuidelensError, lambda path=path: load_generator(path)
        )


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{", "says format=guidelens-generator-1, but its description is damaged"),
        ("{}", "says format=guidelens-generator-1, but its description is damaged"),
        (
            '{"flags": {}, "schedule": "cosine", "prediction": "v", "num_timesteps": 1000}',
            "UNet flags lack image_size",
        ),
        (
            '{"flags": {"a": 1}, "schedule": "cosine", "prediction": "v", "num_timesteps": 1}',
            "unknown UNet flags a; there are image_size",
        ),
    ],
)
def test_damaged_descriptions(saved: Path, description: str, message: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(saved).items()}  # not mapped from the file
    save_file(tensors, saved, metadata={"format": "guidelens-generator-1", "description": description})
    with pytest.raises(GuidelensError, match=message):
        load_generator(saved)


def test_flags_files(published: Path, flags_file: Path, tmp_path: Path) -> None:
    def line(kind: type[GuidelensError], content: str) -> str:
        flags_file.write_text(content)
        return error_line(kind, lambda: guided_diffusion(published, flags=flags_file))

    assert f"cannot read UNet flags from {flags_file}" in line(GuidelensError, "not json")
    assert "must hold a JSON object" in line(GuidelensError, "[1]")
    assert "unknown UNet flags width" in line(UsageError, '{"width": 128}')
    assert "UNet flags lack" in line(UsageError, '{"image_size": 8}')
    missing = tmp_path / "none.json"
    assert str(missing) in error_line(GuidelensError, lambda: guided_diffusion(published, flags=missing))


def test_saving_faults(unet: UNet, flags: dict, tmp_path: Path) -> None:
    def save(path: Path, **changes: Any) -> None:
        save_generator(path, unet, {**flags, **changes}, schedule="linear", prediction="epsilon")

    assert "not the ones" in error_line(UsageError, lambda: save(tmp_path / "a", num_head_channels=32))
    assert not list(tmp_path.iterdir())
    path = tmp_path / "no" / "such" / "folder.safetensors"
    assert str(path) in error_line(GuidelensError, lambda: save(path))
    (tmp_path / "taken").mkdir()
    assert "cannot write" in error_line(GuidelensError, lambda: save(tmp_path / "taken"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]  # no leftovers


def test_a_network_with_random_weights_is_a_generator(flags: dict, x: Tensor, t: Tensor) -> None:
    generator = GuidedDiffusionGenerator(lively(UNet(**{**flags, "out_channels": 3})))
    assert not generator.learned_variance
    assert generator(x, t).shape == x.shape


def test_recomputation_can_be_switched(unet: UNet, x: Tensor, t: Tensor) -> None:
    """As the engine does when memory runs out: the stages run again for the gradient, which stays as it is."""
    generator = GuidedDiffusionGenerator(unet)
    forwards: list[int] = []
    unet.middle_block.register_forward_pre_hook(lambda *_: forwards.append(1))
    gradients = []
    for enabled, expected in ((False, 1), (True, 2), (False, 1)):
        generator.checkpointing(enabled)
        forwards.clear()
        point = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(generator(point, t).square().sum(), point)[0])
        assert len(forwards) == expected
    assert torch.equal(gradients[0], gradients[1])


def test_the_component_is_registered() -> None:
    seen: dict[str, Any] = {}
    register_generators(lambda name, factory, **rest: seen.update({name: (factory, rest)}))
    factory, rest = seen.pop("guided-diffusion")
    assert factory is guided_diffusion
    assert set(rest["requires"]) == {"torch", "safetensors"}
    assert not seen


def test_options_as_they_are_spelled(published: Path, flags_file: Path) -> None:
    manager = PluginManager.load(environment={})
    spec = f"guided-diffusion:checkpoint={published},flags={flags_file},schedule=cosine,use_checkpoint=yes"
    generator = manager.build("generator", spec)
    assert isinstance(generator, GuidedDiffusionGenerator)
    assert generator.unet.use_checkpoint
    with pytest.raises(UsageError, match=r"linear\|cosine"):
        manager.resolve("generator", "guided-diffusion:schedule=sine")
    with pytest.raises(UsageError, match="imagenet256-uncond"):
        manager.resolve("generator", "guided-diffusion:preset=imagenet")
