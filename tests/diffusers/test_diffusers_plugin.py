"""Loading pipelines as the component ``diffusers``, and what is refused, in one line each."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import PluginManager
from guidelens.testing import check_generator
from guidelens_diffusers import DiffusersGenerator, load_generator
from guidelens_diffusers.plugin import diffusers
from tiny_pipelines import ddim, ddpm, save_pipeline, tiny_unet, write_json

Table = dict[str, torch.Tensor]
UNTRAINED = ("denoises",)
"""What a random network cannot do."""


@pytest.fixture
def unet() -> UNet2DModel:
    return tiny_unet()


@pytest.fixture
def saved(tmp_path: Path, unet: UNet2DModel) -> Path:
    return save_pipeline(tmp_path / "pipeline", unet, ddpm(prediction_type="v_prediction"))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def output_of(network: Any) -> torch.Tensor:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    output = network(x, torch.tensor([3, 17]))
    return output if isinstance(output, torch.Tensor) else output.sample


def assert_same_network(generator: DiffusersGenerator, unet: UNet2DModel) -> None:
    torch.testing.assert_close(output_of(generator), output_of(unet))


def test_a_pipeline_is_a_component(saved: Path, unet: UNet2DModel) -> None:
    component = PluginManager.load().resolve("generator", f"diffusers:path={saved}")
    generator = component.build()
    assert generator.image_shape == (3, 8, 8)
    assert generator.prediction == "v"
    assert_same_network(generator, unet)
    assert not any(p.requires_grad for p in generator.parameters())


def test_it_keeps_what_the_contract_promises(saved: Path) -> None:
    check_generator(load_generator(saved), skip=UNTRAINED)


def test_a_learned_variance_keeps_it_too(tmp_path: Path) -> None:
    scheduler = ddpm(variance_type="learned_range")
    check_generator(
        load_generator(save_pipeline(tmp_path / "p", tiny_unet(out_channels=6), scheduler)), skip=UNTRAINED
    )


def test_all_files_in_one_place(tmp_path: Path, unet: UNet2DModel, saved: Path) -> None:
    """As the first pipelines on the hub have them."""
    flat = tmp_path / "flat"
    unet.save_pretrained(flat)
    shutil.copy(saved / "scheduler" / "scheduler_config.json", flat)
    shutil.copy(saved / "model_index.json", flat)
    assert_same_network(load_generator(flat), unet)


def test_pickled_weights_are_read_without_running_them(tmp_path: Path, unet: UNet2DModel) -> None:
    saved = save_pipeline(tmp_path / "p", unet, ddpm(), safe=False)
    assert [p.suffix for p in (saved / "unet").iterdir() if p.stem.startswith("diffusion")] == [".bin"]
    assert_same_network(load_generator(saved), unet)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, unet: UNet2DModel) -> None:
    saved = save_pipeline(tmp_path / "p", unet, ddpm(), safe=False)
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(witness),))

    torch.save({"conv_in.weight": Evil()}, saved / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(GuidelensError, match=r"cannot read the network .* could run code"):
        load_generator(saved)
    assert not witness.exists()


def test_safetensors_come_first(saved: Path, unet: UNet2DModel) -> None:
    (saved / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"no weights")
    assert_same_network(load_generator(saved), unet)


def test_a_variant_in_half_precision(saved: Path, unet: UNet2DModel) -> None:
    unet.half().save_pretrained(saved / "unet", variant="fp16")
    generator = load_generator(saved, variant="fp16")
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
    assert_same_network(generator, unet.float())
    assert generator.fingerprint != load_generator(saved).fingerprint  # rounded weights are other weights


def test_a_network_beside_the_usual_one(saved: Path) -> None:
    average = tiny_unet(seed=5)
    average.save_pretrained(saved / "unet_ema")
    assert_same_network(load_generator(saved, unet="unet_ema"), average)


def test_a_network_alone_needs_its_scheduler(tmp_path: Path, unet: UNet2DModel) -> None:
    unet.save_pretrained(tmp_path / "alone")
    with pytest.raises(GuidelensError, match=r"no scheduler_config\.json.*scheduler=FILE"):
        load_generator(tmp_path / "alone")
    ddim(prediction_type="sample").save_pretrained(tmp_path / "elsewhere")
    for given in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "scheduler_config.json"):
        assert load_generator(tmp_path / "alone", scheduler=given).prediction == "x0"


def test_the_network_of_a_pipeline_finds_its_scheduler(saved: Path, unet: UNet2DModel) -> None:
    assert load_generator(saved / "unet").prediction == "v"


def test_another_image_size(saved: Path) -> None:
    assert load_generator(saved, image_size=16).image_shape == (3, 16, 16)
    with pytest.raises(UsageError, match="15x15"):
        load_generator(saved, image_size=15)


def test_classes(tmp_path: Path) -> None:
    saved = save_pipeline(tmp_path / "p", tiny_unet(num_class_embeds=3), ddpm())
    with pytest.raises(UsageError, match="class_label=0 to 2"):
        load_generator(saved)
    with pytest.raises(UsageError, match="no class 3"):
        load_generator(saved, class_label=3)
    assert load_generator(saved, class_label=2).class_label == 2


def test_a_class_for_a_network_without(saved: Path) -> None:
    with pytest.raises(UsageError, match="leave out class_label=1"):
        load_generator(saved, class_label=1)


def test_the_fingerprint_tells_networks_and_processes_apart(tmp_path: Path, saved: Path) -> None:
    def of(name: str, unet: UNet2DModel, scheduler: Any) -> str:
        return load_generator(save_pipeline(tmp_path / name, unet, scheduler)).fingerprint

    own = load_generator(saved).fingerprint
    v = {"prediction_type": "v_prediction"}
    assert of("same", tiny_unet(), ddpm(**v)) == own
    others = [
        of("weights", tiny_unet(seed=1), ddpm(**v)),
        of("prediction", tiny_unet(), ddpm()),
        of("betas", tiny_unet(), ddpm(**v, beta_schedule="scaled_linear")),
        of("variance", tiny_unet(), ddpm(**v, variance_type="fixed_large")),
        of("network", tiny_unet(norm_eps=1e-3), ddpm(**v)),
    ]
    assert len({own, *others}) == 6


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"in_channels": 4, "out_channels": 4}, "4 channels .latents"),
        ({"in_channels": 1, "out_channels": 1}, "1 channels"),
        ({"out_channels": 6}, "maps 3 channels to 6"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type=fourier"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"sample_size": None}, "image_size=PIXELS"),
    ],
)
def test_networks_that_guidance_cannot_use(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    saved = save_pipeline(tmp_path / "p", tiny_unet(**changes), ddpm())
    with pytest.raises(GuidelensError, match=named) as caught:
        load_generator(saved)
    assert "\n" not in str(caught.value)


def test_a_scheduler_that_leaves_the_variance_open(tmp_path: Path) -> None:
    saved = save_pipeline(tmp_path / "p", tiny_unet(out_channels=6), ddim())
    assert load_generator(saved).learned_variance


def test_a_learned_variance_that_the_network_lacks(tmp_path: Path) -> None:
    saved = save_pipeline(tmp_path / "p", tiny_unet(), ddpm(variance_type="learned_range"))
    with pytest.raises(GuidelensError, match=r"3 channels to 3.*a learned variance"):
        load_generator(saved)


def test_a_latent_pipeline_without_its_decoder_is_refused(tmp_path: Path, unet: UNet2DModel) -> None:
    """Its latents may have three channels, like pixels, so the index decides."""
    parts = {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}
    saved = save_pipeline(tmp_path / "p", unet, ddim(), **parts)
    with pytest.raises(GuidelensError, match="lacks its decoder of latents: it has no directory vqvae"):
        load_generator(saved)


def test_pipelines_with_other_parts_are_refused(tmp_path: Path, unet: UNet2DModel) -> None:
    saved = save_pipeline(tmp_path / "p", unet, ddim(), controlnet=["diffusers", "ControlNetModel"])
    with pytest.raises(GuidelensError, match="DDPMPipeline with controlnet"):
        load_generator(saved)


def test_a_network_that_is_not_there_is_not_replaced_by_another(
    tmp_path: Path, unet: UNet2DModel, saved: Path
) -> None:
    with pytest.raises(UsageError, match=r"no network in a directory 'unet_ema' .unet.; there is unet$"):
        load_generator(saved, unet="unet_ema")
    flat = tmp_path / "flat"
    unet.save_pretrained(flat)
    shutil.copy(saved / "scheduler" / "scheduler_config.json", flat)
    with pytest.raises(UsageError, match=r"'unet_ema'.*the network of the directory itself .leave out unet."):
        load_generator(flat, unet="unet_ema")


def test_conditional_networks_are_refused(saved: Path) -> None:
    write_json(saved / "unet" / "config.json", {"_class_name": "UNet2DConditionModel"})
    with pytest.raises(GuidelensError, match=r"UNet2DConditionModel.*conditioned on text"):
        load_generator(saved)


def test_weights_that_are_no_numbers_are_named(saved: Path) -> None:
    unet = tiny_unet()
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = float("nan")
    unet.save_pretrained(saved / "unet")
    with pytest.raises(GuidelensError, match=r"holds NaN or infinite weights: 1 of .* conv_in\.weight"):
        load_generator(saved)


def test_a_packed_checkpoint_is_not_unpacked(saved: Path) -> None:
    (file,) = (saved / "unet").glob("*.safetensors")
    file.unlink()
    with zipfile.ZipFile(file.with_suffix(".bin"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1000))
    with pytest.raises(GuidelensError, match=r"its entry data\.pkl is compressed"):
        load_generator(saved)


DRESSED: dict[str, Callable[[Table], Any]] = {
    "DataParallel": lambda net: {f"module.{name}": tensor for name, tensor in net.items()},
    "Lightning": lambda net: {"state_dict": {f"model.unet.{name}": t for name, t in net.items()}, "epoch": 3},
    "older attention": lambda net: {
        "model": {
            name.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value")
            .replace("to_out.0", "proj_attn"): tensor
            for name, tensor in net.items()
        }
    },
    "average": lambda net: {"model": {n: t + 1 for n, t in net.items()}, "ema": net},
}  # fmt: skip


@pytest.mark.parametrize("dress", DRESSED)
def test_weights_as_training_programs_save_them(saved: Path, unet: UNet2DModel, dress: str) -> None:
    (file,) = (saved / "unet").glob("*.safetensors")
    file.unlink()
    torch.save(DRESSED[dress](unet.state_dict()), file.with_suffix(".bin"))
    if dress == "average":
        with pytest.raises(UsageError, match="in model, ema; choose with key=NAME"):
            load_generator(saved)
    loaded = load_generator(saved, key="ema" if dress == "average" else None)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name


@pytest.mark.parametrize("safe", [True, False])
def test_weights_in_several_files(saved: Path, unet: UNet2DModel, safe: bool) -> None:
    shutil.rmtree(saved / "unet")
    unet.save_pretrained(saved / "unet", max_shard_size="100KB", safe_serialization=safe)
    assert len(list((saved / "unet").glob("*index*"))) == 1
    loaded = load_generator(saved)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    next((saved / "unet").glob("*-00002-of-*")).unlink()
    with pytest.raises(GuidelensError, match=r"1 of its \d+ parts are not in"):
        load_generator(saved)


def test_weights_of_another_network(saved: Path) -> None:
    tiny_unet(layers_per_block=2).save_pretrained(saved / "other")
    shutil.copy(saved / "other" / "config.json", saved / "unet")
    with pytest.raises(GuidelensError, match=r"do not fit its config\.json.*tensors missing"):
        load_generator(saved)


def test_damaged_and_missing_files(saved: Path) -> None:
    weights = saved / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(GuidelensError, match="cannot read the network"):
        load_generator(saved)
    weights.rename(weights.with_name("model.safetensors"))
    with pytest.raises(GuidelensError, match=r"no weights called .*; it has model\.safetensors"):
        load_generator(saved)
    (saved / "unet" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(GuidelensError, match="cannot read"):
        load_generator(saved)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GuidelensError, match="no such directory"):
        diffusers(f"{tmp_path}/nowhere")
    with pytest.raises(UsageError, match="not a hub id: leave out the option download"):
        diffusers(str(tmp_path), download=True)


@pytest.mark.usefixtures("empty_cache")
def test_a_hub_id_is_not_fetched_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GuidelensError, match=r"someone/model is neither a directory nor.*download=true"):
        diffusers("someone/model")


@pytest.mark.usefixtures("empty_cache")
def test_no_hub_to_fetch_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(GuidelensError, match="cannot download someone/model") as caught:
        diffusers("someone/model", download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("safe", [True, False])
def test_a_hub_id_is_fetched_when_asked(
    safe: bool, tmp_path: Path, unet: UNet2DModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the hub keeps to the patterns that it is asked for, as the hub does."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    monkeypatch.chdir(tmp_path)
    repository = save_pipeline(tmp_path / "repository", unet, ddpm(), safe=safe)
    (repository / "unet" / "training_state.bin").write_bytes(b"large")
    cache = tmp_path / "cache"

    def snapshot_download(
        repo_id: str, *, revision: str | None, allow_patterns: list[str], local_files_only: bool = False
    ) -> str:
        assert (repo_id, revision) == ("someone/model", "v2")
        if local_files_only and not cache.exists():
            raise LocalEntryNotFoundError("not in the cache")
        if not local_files_only:
            names = [str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file()]
            for name in filter_repo_objects(names, allow_patterns=allow_patterns):
                (cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repository / name, cache / name)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert_same_network(diffusers("someone/model", revision="v2", download=True), unet)
    assert not (cache / "unet" / "training_state.bin").exists()
    assert_same_network(diffusers("someone/model", revision="v2"), unet)  # in the cache now


def test_a_subfolder(saved: Path, unet: UNet2DModel) -> None:
    assert_same_network(diffusers(str(saved.parent), subfolder="pipeline"), unet)
    with pytest.raises(GuidelensError, match="no directory nowhere"):
        diffusers(str(saved.parent), subfolder="nowhere")


def test_the_documented_way_to_wrap_a_pipeline(unet: UNet2DModel) -> None:
    page = Path(__file__).parents[2] / "docs" / "diffusers.md"
    (block,) = re.findall(r"```py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"pipeline": SimpleNamespace(unet=unet, scheduler=ddpm(prediction_type="sample"))}
    exec(compile(block, page.name, "exec"), names)
    assert names["generator"].prediction == "x0"
    assert_same_network(names["generator"], unet)
