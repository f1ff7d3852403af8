"""Loading: every way to name a model, files of every kind, and one clear line for what cannot be loaded."""

from __future__ import annotations

import json
import logging
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import transformers.utils.hub
from guidelens.errors import GuidelensError, UsageError
from guidelens_open_clip import OpenClipGuidance, OpenClipOptions, load_open_clip
from guidelens_open_clip.build import build_network
from guidelens_open_clip.checkpoint import interpolate_positions
from guidelens_open_clip.sources import Source, find_source
from open_clip.push_to_hf_hub import save_config_for_hf, save_for_hf
from safetensors.torch import save_file
from small_models import CONFIGS, build, open_clip

WEBLI = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, whose client is told that there is no network."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    if hasattr(transformers.utils.hub, "TRANSFORMERS_CACHE"):  # its own idea of where that is, up to 4.x
        monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(cache))
    return cache


def save_directory(directory: Path, kind: str, models: dict[str, Any], tokenizers: dict[str, Any]) -> Path:
    """Write a model as open_clip writes one for the hub."""
    directory.mkdir(exist_ok=True)
    if kind == "siglip":
        save_for_hf(models[kind], tokenizers[kind], CONFIGS[kind], str(directory), safe_serialization=True)
    else:  # CLIP's own tokenizer is part of open_clip
        save_file(models[kind].state_dict(), str(directory / "open_clip_model.safetensors"))
        save_config_for_hf(models[kind], directory / "open_clip_config.json", CONFIGS[kind])
    return directory


def put_into_cache(hub: Path, repository: str, directory: Path) -> None:
    """Lay out the files of ``directory`` as the hub's client caches those of ``repository``."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots").mkdir()
    directory.rename(folder / "snapshots" / "abc")


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_directory_of_open_clips_own_making(
    tmp_path: Path, models, tokenizers, images, prompts, kind
) -> None:
    directory = save_directory(tmp_path / "model", kind, models, tokenizers)
    loaded = load_open_clip(str(directory))
    original = OpenClipGuidance(models[kind], tokenizers[kind])
    assert loaded.preprocess == original.preprocess
    assert loaded.objectives == original.objectives
    assert loaded.fingerprint == original.fingerprint
    for name in loaded.objectives:
        ours, theirs = (
            model.losses(images, model.encode_text(prompts), [name])[name] for model in (loaded, original)
        )
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_repository_in_the_cache_of_the_hub(tmp_path: Path, hub, models, tokenizers, kind) -> None:
    directory = save_directory(tmp_path / "model", kind, models, tokenizers)
    if kind == "siglip":  # its tokenizer is named by the configuration, as another repository
        tokenizer = tmp_path / "tokenizer"
        tokenizer.mkdir()
        for path in directory.iterdir():
            if not path.name.startswith("open_clip"):
                path.rename(tokenizer / path.name)
        put_into_cache(hub, CONFIGS[kind]["text_cfg"]["hf_tokenizer_name"], tokenizer)
    put_into_cache(hub, "someone/model", directory)
    loaded = load_open_clip("hf-hub:someone/model", options=OpenClipOptions(temperature="learned"))
    assert loaded.temperature == pytest.approx(0.07)
    assert load_open_clip("hf-hub:someone/model").fingerprint == (
        OpenClipGuidance(models[kind], tokenizers[kind]).fingerprint
    )


def test_a_hub_that_cannot_be_reached(tmp_path: Path, hub, models, tokenizers) -> None:
    with pytest.raises(
        GuidelensError,
        match=r"cannot fetch open_clip_config.json of someone/model .*give open-clip:model=DIRECTORY$",
    ) as raised:
        load_open_clip("hf-hub:someone/model")
    assert "\n" not in str(raised.value)
    directory = save_directory(tmp_path / "model", "clip", models, tokenizers)
    (directory / "open_clip_model.safetensors").unlink()
    put_into_cache(hub, "someone/model", directory)
    with pytest.raises(GuidelensError, match=r"cannot fetch open_clip_model.safetensors of someone/model"):
        load_open_clip("hf-hub:someone/model")
    with pytest.raises(UsageError, match="has its own weights: leave out pretrained and checkpoint"):
        load_open_clip("hf-hub:someone/model", pretrained="openai")


def test_published_weights_are_fetched_only_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(repository: str, file: str) -> str:
        asked.append((repository, file))
        raise OSError("the network is\nunreachable")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(UsageError, match=r"ViT-S-32 needs weights: give checkpoint=FILE, or pretrained=TAG"):
        load_open_clip("ViT-S-32")
    with pytest.raises(UsageError, match=r"ViT-B-32 needs weights: .*\(openai, laion400m_e31, .*metaclip"):
        load_open_clip()
    with pytest.raises(UsageError, match="has no weights 'webli' for ViT-B-32; it has openai, "):
        load_open_clip(pretrained="webli")
    with pytest.raises(GuidelensError, match="there is no checkpoint at"):
        load_open_clip("ViT-S-32", checkpoint=tmp_path / "none.pt")
    with pytest.raises(
        GuidelensError, match="tokenizer bert-base-uncased, which is not on this machine: put"
    ):
        load_open_clip("ViT-L-14-CLIPA", checkpoint=tmp_path / "none.pt")
    assert asked == []
    source = find_source("ViT-B-32", pretrained="laion2b-s34b-b79k")  # open_clip's tags take hyphens as well
    assert asked == []  # not before the network is built
    with pytest.raises(GuidelensError) as raised:
        source.weights()
    assert asked == [("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors")]
    message = str(raised.value)
    assert "/laion/CLIP-ViT-B-32-laion2B-s34B-b79K" in message
    assert "(the network is unreachable)" in message
    assert "open-clip:model=ViT-B-32,pretrained=laion2b-s34b-b79k,checkpoint=FILE" in message
    assert "\n" not in message


def test_a_repository_without_safetensors_gives_its_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    asked: list[str] = []

    def fetch(repository: str, file: str) -> str:
        asked.append(file)
        if file.endswith(".safetensors"):
            raise EntryNotFoundError("404")
        return f"/cache/{repository}/{file}"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    found = find_source("ViT-B-32", pretrained="laion2b_s34b_b79k").weights()
    assert found == Path("/cache/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_pytorch_model.bin")
    assert find_source("ViTamin-S", pretrained="datacomp1b").weights().name == "pytorch_model.bin"
    assert asked == [
        *("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        *("pytorch_model.safetensors", "pytorch_model.bin"),
    ]


def test_the_hubs_client_is_kept_quiet_between_its_tries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch(repository: str, file: str) -> str:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s")
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    logging.getLogger("huggingface_hub").propagate = True
    with pytest.raises(GuidelensError, match="no route"):
        find_source("ViT-B-32", pretrained="openai").weights()
    assert "Retrying" not in caplog.text
    logging.getLogger("huggingface_hub.utils._http").warning("heard again")
    assert "heard again" in caplog.text


def test_names_that_nothing_goes_by(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'ViT-B-33' is not an architecture .*\(did you mean ViT-B-32 or"):
        load_open_clip("ViT-B-33", checkpoint="x.pt")
    with pytest.raises(UsageError, match=r"'coca_vit-b-32' is .* \(did you mean coca_ViT-B-32"):
        load_open_clip("coca_vit-b-32", checkpoint="x.pt")
    with pytest.raises(UsageError, match="pretrained=openai needs an architecture of open_clip"):
        load_open_clip(str(tmp_path), pretrained="openai")
    with pytest.raises(UsageError, match="CLIP's own tokenizer: leave out tokenizer"):
        load_open_clip("ViT-S-32", checkpoint="x.pt", tokenizer=tmp_path)
    with pytest.raises(GuidelensError, match="there is no tokenizer directory"):
        load_open_clip("ViT-L-14-CLIPA", checkpoint="x.pt", tokenizer=tmp_path / "none")
    assert find_source("ViT-B/32", checkpoint="x.pt").name == "ViT-B-32"


def test_a_tag_says_what_a_file_holds() -> None:
    """The activation and preprocessing of published weights, without fetching them."""
    source = find_source("ViT-B-32", pretrained="openai", checkpoint="x.pt")
    assert source.weights() == Path("x.pt")
    assert source.config["quick_gelu"] is True
    assert "quick_gelu" not in find_source("ViT-B-32", pretrained="laion2b_e16", checkpoint="x.pt").config
    assert "quick_gelu" not in open_clip.get_model_config("ViT-B-32")  # open_clip's own is left as it was
    assert source.preprocess["resize_mode"] == "shortest"
    squashed = find_source("ViT-H-14", pretrained="dfn5b", checkpoint="x.pt")
    assert squashed.preprocess["resize_mode"] == "squash"


def test_a_file_alone_has_the_preprocessing_that_all_published_weights_share() -> None:
    assert find_source("ViT-B-16-SigLIP", checkpoint="x.pt").preprocess == WEBLI
    assert find_source("ViT-H-14", checkpoint="x.pt").preprocess == {}  # they differ: open_clip's default
    assert find_source("ViT-S-32", checkpoint="x.pt").preprocess == {}


def test_quick_gelu_and_image_size(tmp_path: Path, models, tokenizers, images, prompts) -> None:
    directory = save_directory(tmp_path / "model", "clip", models, tokenizers)
    plain = load_open_clip(str(directory))
    quick = load_open_clip(str(directory), quick_gelu=True)
    assert "QuickGELU" in repr(quick.model)
    assert "QuickGELU" not in repr(plain.model)
    assert quick.fingerprint != plain.fingerprint
    larger = load_open_clip(str(directory), image_size=48)
    assert larger.preprocess.size == (48, 48)
    assert larger.model.visual.positional_embedding.shape == (1 + 6 * 6, 32)
    assert larger.losses(images, larger.encode_text(prompts), ["itc"])["itc"].shape == (3,)
    with pytest.raises(UsageError, match="image_size must be positive, not 0"):
        load_open_clip(str(directory), image_size=0)
    with pytest.raises(UsageError, match="leave out image_size: ViT-B-16-SigLIP has an image tower of timm"):
        load_open_clip("ViT-B-16-SigLIP", checkpoint="x.pt", image_size=256)


def test_position_embeddings_are_resized_as_open_clip_does() -> None:
    stored = torch.randn(1 + 7 * 7, 12, generator=torch.Generator().manual_seed(0))
    config = {**CONFIGS["clip"], "vision_cfg": {**CONFIGS["clip"]["vision_cfg"], "image_size": 80}}
    state = {"visual.positional_embedding": stored.clone()}
    open_clip.model.resize_pos_embed(state, build(config))
    torch.testing.assert_close(interpolate_positions(stored, (10, 10)), state["visual.positional_embedding"])
    assert interpolate_positions(stored, (7, 7)) is stored
    assert interpolate_positions(stored[:-1], (10, 10)).shape == (49, 12)  # no square grid


FORMATS = ["safetensors", "pt", "bin", "training"]


@pytest.mark.parametrize("kind", FORMATS)
def test_files_of_every_kind(tmp_path: Path, models, tokenizers, kind: str) -> None:
    state = models["clip"].state_dict()
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["clip"]))
    path = tmp_path / f"weights.{'pt' if kind == 'training' else kind}"
    if kind == "safetensors":
        save_file(state, str(path))
    elif kind == "training":
        distributed = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": distributed, "optimizer": {"lr": 0.1}}, path)
    else:
        torch.save(state, path)
    loaded = load_open_clip(str(tmp_path / "config.json"), checkpoint=path)
    expected = OpenClipGuidance(models["clip"], tokenizers["clip"], preprocess=loaded.preprocess)
    # An architecture's file has no context length of its own tokenizer other than the text tower's.
    assert loaded.context_length == 12
    assert loaded.fingerprint == expected.fingerprint


def test_older_names_and_shapes_are_understood(tmp_path: Path, models) -> None:
    """A text tower without prefix in a model that has one, and a logit scale that is a vector of one."""
    custom = {**CONFIGS["clip"], "custom_text": True}
    (tmp_path / "config.json").write_text(json.dumps(custom))
    state = dict(models["clip"].state_dict())
    state["logit_scale"] = state["logit_scale"].reshape(1)
    state["text.transformer.embeddings.position_ids"] = torch.arange(4)[None]
    save_file(state, str(tmp_path / "weights.safetensors"))
    loaded = load_open_clip(str(tmp_path / "config.json"), checkpoint=tmp_path / "weights.safetensors")
    ids = loaded.tokenizer(["a red circle"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.encode_text(ids), models["clip"].encode_text(ids))


class _Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_files_that_are_no_checkpoint(tmp_path: Path, models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(CONFIGS["clip"]))
    state = models["clip"].state_dict()

    def refusal(name: str) -> str:
        with pytest.raises(GuidelensError) as raised:
            load_open_clip("config.json", checkpoint=name)
        message = str(raised.value)
        assert "\n" not in message
        assert name in message
        return message

    save_file({"visual_encoder.cls_token": torch.zeros(1, 1, 4)}, "blip.safetensors")
    assert "missing (62): positional_embedding" in refusal("blip.safetensors")
    assert "unexpected (1): visual_encoder.cls_token" in refusal("blip.safetensors")
    save_file({**state, "ln_final.weight": torch.zeros(5)}, "shape.safetensors")
    assert "shapes differ (1): ln_final.weight is 5 instead of 24" in refusal("shape.safetensors")
    save_file(build({**CONFIGS["siglip"]}).state_dict(), "siglip.safetensors")
    assert "missing" in refusal("siglip.safetensors")
    Path("cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    assert "cannot read the checkpoint" in refusal("cut.safetensors")
    Path("evil.pt").write_bytes(pickle.dumps(_Evil()))
    assert "damaged or holds more than plain weights" in refusal("evil.pt")
    assert not Path("executed").exists()
    torch.save([1, 2], "list.pt")
    assert "holds no table of named tensors" in refusal("list.pt")
    Path("text.bin").write_text("not weights\nat all")
    assert "cannot read the checkpoint" in refusal("text.bin")


def test_configurations_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(
        GuidelensError, match=r"holds no open_clip_config.json or config.json, so it is not a"
    ):
        load_open_clip(str(tmp_path))
    for text, reason in (("{", "cannot read"), ("[1]", "cannot read"), ('{"embed_dim": 4}', "it lacks")):
        path.write_text(text)
        with pytest.raises(GuidelensError, match=reason):
            load_open_clip(str(path), checkpoint="x.pt")
    path.write_text(json.dumps({**CONFIGS["clip"], "colour": "red"}))
    with pytest.raises(GuidelensError, match=r"open_clip cannot build .*colour"):
        load_open_clip(str(path), checkpoint="x.pt")
    with pytest.raises(UsageError, match="needs weights: give checkpoint=FILE"):
        load_open_clip(str(path))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIGS["clip"]))
    with pytest.raises(GuidelensError, match=r"holds no open_clip_model.safetensors or open_clip_pytorch"):
        load_open_clip(str(tmp_path))


def test_a_tokenizer_directory_is_taken_in_place_of_the_hub(
    tmp_path: Path, models, tokenizers, siglip_tokenizer: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["siglip"]))
    save_file(models["siglip"].state_dict(), str(tmp_path / "weights.safetensors"))
    config, weights = str(tmp_path / "config.json"), tmp_path / "weights.safetensors"
    with pytest.raises(GuidelensError, match=r"nowhere/siglip-tokenizer, which is not on this machine: put"):
        load_open_clip(config, checkpoint=weights)
    with pytest.raises(GuidelensError, match=r"nowhere/siglip-tokenizer, which .* does not hold"):
        load_open_clip(config, checkpoint=weights, tokenizer=tmp_path)
    loaded = load_open_clip(config, checkpoint=weights, tokenizer=siglip_tokenizer)
    assert loaded.tokenizer(["A red, circle!"]).tolist() == tokenizers["siglip"](["a red circle"]).tolist()
    assert loaded.logit_bias == -2.0


def test_a_text_tower_of_transformers(tmp_path: Path, siglip_tokenizer: Path, images) -> None:
    """A text tower like that of roberta-ViT-B-32, whose configuration lies beside the tokenizer."""
    from shutil import copytree

    from transformers import RobertaConfig

    directory = tmp_path / "text"
    copytree(siglip_tokenizer, directory)
    RobertaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=30,
        pad_token_id=1,
    ).save_pretrained(directory)
    config = {
        "embed_dim": 16,
        "vision_cfg": CONFIGS["clip"]["vision_cfg"],
        "text_cfg": {
            "context_length": 10,
            "hf_model_name": "nowhere/roberta",
            "hf_tokenizer_name": "nowhere/roberta",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "mean_pooler",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = find_source(str(tmp_path / "config.json"), checkpoint="x.pt")
    with pytest.raises(
        GuidelensError, match=r"the text model nowhere/roberta, whose config.json is not on this"
    ):
        build_network(source)
    network = build_network(find_source(source.name, checkpoint="x.pt", tokenizer=directory))
    save_file(network.state_dict(), str(tmp_path / "weights.safetensors"))
    loaded = load_open_clip(source.name, checkpoint=tmp_path / "weights.safetensors", tokenizer=directory)
    prompts = ["a red circle", "blue square"]
    text = loaded.encode_text(prompts)
    with torch.no_grad():
        expected = network.eval().encode_text(loaded.tokenizer(prompts), normalize=True)
    torch.testing.assert_close(text.tensors["text_features"], expected)
    assert loaded.losses(images[:2], text, ["itc"])["itc"].isfinite().all()


def test_an_image_tower_of_timm_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from open_clip import timm_model

    monkeypatch.setattr(timm_model, "timm", None)  # what open_clip makes of a timm that is too old
    version = metadata.version("timm")
    for model in ("ViT-B-16-SigLIP", "convnext_base", "MobileCLIP-S1", "EVA02-B-16"):
        with pytest.raises(GuidelensError) as raised:
            load_open_clip(model, checkpoint=tmp_path / "x.pt")
        message = str(raised.value)
        assert message.startswith(f"{model} has an image tower of timm (")
        assert f"needs timm 1.0 or newer, but this environment has {version}" in message
        assert "\n" not in message

    class Timm:
        @staticmethod
        def is_model(name: str) -> bool:
            return name != "vit_base_patch16_siglip_224"

    monkeypatch.setattr(timm_model, "timm", Timm)
    with pytest.raises(GuidelensError, match=r"which timm .* does not have: run pip install -U timm"):
        load_open_clip("ViT-B-16-SigLIP", checkpoint=tmp_path / "x.pt")


def test_building_leaves_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_network(Source("small", CONFIGS["clip"], {}, lambda: Path("x")))
    assert torch.equal(torch.rand(1), expected)
