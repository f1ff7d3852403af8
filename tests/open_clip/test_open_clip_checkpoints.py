"""Files as people have them: OpenAI's TorchScript archive, transformers' folders, training states, NaN."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens_open_clip import OpenClipGuidance, load_open_clip
from guidelens_open_clip.plugin import clip_score, open_clip
from safetensors.torch import save_file
from small_models import CONFIGS, build
from torch import Tensor, nn


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(CONFIGS["clip"]))
    return str(path)


def itc(guide: OpenClipGuidance, images: Tensor, prompts: list[str]) -> Tensor:
    return guide.losses(images, guide.encode_text(prompts), ["itc"])["itc"]


class Scripted(nn.Module):
    """A module that holds any table of tensors under their names, and can be scripted."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @classmethod
    def of(cls, table: dict[str, Tensor]) -> Scripted:
        root = cls()
        for name, tensor in table.items():
            *parts, last = name.split(".")
            module: nn.Module = root
            for part in parts:
                if part not in dict(module.named_children()):
                    module.add_module(part, cls())
                module = getattr(module, part)
            module.register_buffer(last, tensor)
        return root


@pytest.fixture
def openai(tmp_path: Path) -> Path:
    """The small model as OpenAI publishes theirs: a program, in half precision, with three numbers beside."""
    state = {
        name: tensor.half() if "ln_" not in name and "logit" not in name else tensor
        for name, tensor in build(CONFIGS["clip"]).state_dict().items()
        if name != "attn_mask"
    }
    state |= {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(12),
        "vocab_size": torch.tensor(49408),
    }
    path = tmp_path / "ViT-S-8.pt"
    torch.jit.save(torch.jit.script(Scripted.of(state)), str(path))
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_openais_archive_is_read_and_quick_gelu_switched_on(
    openai: Path,
    config: str,
    images,
    prompts,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.jit, "load", None)
    with caplog.at_level(logging.WARNING, "guidelens"):
        loaded = load_open_clip(config, checkpoint=openai)
    assert [record.message.partition("OpenAI")[2] for record in caplog.records] == [
        "'s files, trained with QuickGELU; using QuickGELU"
    ]
    reference = build({**CONFIGS["clip"], "quick_gelu": True})
    half = {name: t.half().float() if "ln_" not in name and "logit" not in name else t
            for name, t in reference.state_dict().items()}  # fmt: skip
    reference.load_state_dict(half)
    expected = OpenClipGuidance(reference, loaded.tokenizer, preprocess=loaded.preprocess)
    torch.testing.assert_close(itc(loaded, images, prompts), itc(expected, images, prompts))

    caplog.clear()
    plain = load_open_clip(config, checkpoint=openai, quick_gelu=False)
    assert "quick_gelu=false selects GELU" in caplog.text
    assert not torch.allclose(itc(plain, images, prompts), itc(loaded, images, prompts))
    caplog.clear()
    assert load_open_clip(config, checkpoint=openai, quick_gelu=True).fingerprint == loaded.fingerprint
    assert not caplog.records


def test_files_of_others_keep_gelu(tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture) -> None:
    save_file(build(CONFIGS["clip"]).state_dict(), tmp_path / "a.safetensors")
    load_open_clip(config, checkpoint=tmp_path / "a.safetensors")
    assert not caplog.records


def transformers_folder(folder: Path, act: str = "quick_gelu", **options: Any) -> Any:
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_hidden_layers": 2, "hidden_act": act, "num_attention_heads": 2}
    settings = CLIPConfig(
        text_config={**tower, "hidden_size": 24, "intermediate_size": 72, "max_position_embeddings": 12},
        vision_config={
            **tower,
            "hidden_size": 32,
            "intermediate_size": 96,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = CLIPModel(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "logit" not in name and "layrnorm" not in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder, **options)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_mean": [0.4, 0.5, 0.6],
                "image_std": [0.3, 0.25, 0.2],
                "resample": 3,
                "size": {"shortest_edge": 32},
            }
        )
    )
    return model


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("spelling", ["{}", "local-dir:{}"])
def test_a_folder_of_transformers_is_its_network(
    tmp_path: Path, images: Tensor, prompts: list[str], act: str, spelling: str
) -> None:
    theirs = transformers_folder(tmp_path / "clip", act)
    loaded = load_open_clip(spelling.format(tmp_path / "clip"))
    ids = loaded.tokenizer(prompts)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.3, 0.25, 0.2])
    pixels = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        # Their end-of-text mark, 49407 here, is the largest number; the pad of their configuration does not matter.
        theirs.text_model.eos_token_id = 49407
        out = theirs(input_ids=ids, pixel_values=pixels)
    cosine = (out.image_embeds * out.text_embeds).sum(-1)
    torch.testing.assert_close(-itc(loaded, images, prompts), cosine, rtol=1e-4, atol=1e-5)


def test_transformers_names_as_a_checkpoint(
    tmp_path: Path, images: Tensor, prompts: list[str], config: str
) -> None:
    theirs = transformers_folder(tmp_path / "clip", "gelu")
    torch.save({"state_dict": {f"module.{n}": t for n, t in theirs.state_dict().items()}}, tmp_path / "a.bin")
    architecture = json.loads(json.dumps(CONFIGS["clip"]))
    architecture["vision_cfg"]["mlp_ratio"] = architecture["text_cfg"]["mlp_ratio"] = 3.0
    Path(config).write_text(json.dumps(architecture))
    loaded = load_open_clip(config, checkpoint=tmp_path / "a.bin")
    folder = load_open_clip(str(tmp_path / "clip"))
    for name, tensor in folder.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


def siglip_folder(folder: Path, tokenizer: Path | None, **options: Any) -> Any:
    from transformers import SiglipConfig, SiglipModel

    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48}
    settings = SiglipConfig(
        text_config={**tower, "vocab_size": 40, "max_position_embeddings": 10, "projection_size": 32},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(0)
    model = SiglipModel(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "logit" not in name:
                parameter.normal_(std=0.2)
        model.logit_bias.fill_(-3.0)
    if tokenizer is not None:
        shutil.copytree(tokenizer, folder)
    model.save_pretrained(folder, **options)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "resample": 3,
                "size": {"height": 32, "width": 32},
            }
        )
    )
    return model


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "30KB"}], ids=["one file", "parts"])
def test_a_folder_of_siglip_is_its_network(
    tmp_path: Path, images: Tensor, prompts: list[str], siglip_tokenizer: Path, options: dict[str, Any]
) -> None:
    theirs = siglip_folder(tmp_path / "siglip", siglip_tokenizer, **options)
    guide = open_clip(str(tmp_path / "siglip"), itc="sigmoid")
    with torch.no_grad():
        out = theirs(
            input_ids=guide.tokenizer(prompts), pixel_values=images
        )  # mean and deviation 0.5: [-1, 1]
    expected = -torch.nn.functional.logsigmoid(out.logits_per_image.diagonal())
    torch.testing.assert_close(itc(guide, images, prompts), expected, rtol=1e-4, atol=1e-5)
    shown = images.clone().requires_grad_()
    itc(guide, shown, prompts).sum().backward()
    assert shown.grad is not None
    assert bool((shown.grad != 0).any())
    half = open_clip(str(tmp_path / "siglip")).to(dtype=torch.bfloat16)
    assert bool(torch.isfinite(itc(half, images, prompts)).all())


def test_options_and_files_that_do_not_fit_siglip(tmp_path: Path, siglip_tokenizer: Path) -> None:
    siglip_folder(tmp_path / "siglip", siglip_tokenizer)
    for option in ({"quick_gelu": True}, {"image_size": 64}):
        with pytest.raises(UsageError, match=f"leave out {next(iter(option))}"):
            load_open_clip(str(tmp_path / "siglip"), **option)
    siglip_folder(tmp_path / "bare", None)
    with pytest.raises(GuidelensError, match=r"needs the tokenizer .*: put its files into a directory"):
        load_open_clip(str(tmp_path / "bare"))
    (tmp_path / "other").mkdir()
    save_file(
        {"logit_scale": torch.ones(1), "logit_bias": torch.ones(1)}, tmp_path / "other" / "a.safetensors"
    )
    with pytest.raises(GuidelensError, match=r"does not hold this model: missing"):
        load_open_clip(str(tmp_path / "siglip"), checkpoint=tmp_path / "other" / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "siglip2"},
            "describes a siglip2 of transformers, but only CLIP and SigLIP of one image size",
        ),
        (
            {"model_type": "siglip", "vision_config": {"hidden_size": "wide"}},
            "cannot read .*config.json as a model configuration|holds no model.safetensors",
        ),
        ({"model_type": "blip"}, "describes a blip of transformers, but only CLIP"),
        (
            {"text_config": {"hidden_act": "gelu"}},
            "has the activations gelu, quick_gelu; open_clip's network needs the same one",
        ),
        ({"vision_config": {"num_attention_heads": 0}}, "cannot read .*config.json as a model configuration"),
        ({"vision_config": {"hidden_size": "wide"}}, "cannot read .*config.json as a model configuration"),
    ],
)
def test_folders_of_transformers_that_do_not_fit(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", **change}))
    with pytest.raises(GuidelensError, match=message) as caught:
        load_open_clip(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_says_what_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(GuidelensError, match=r"holds no model\.safetensors or pytorch_model\.bin"):
        load_open_clip(str(tmp_path))
    with pytest.raises(GuidelensError, match="there is no directory nowhere/at/all"):
        load_open_clip("local-dir:nowhere/at/all")


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_logit_bias_that_the_architecture_lacks(
    tmp_path: Path, config: str, shape: tuple[int, ...]
) -> None:
    state = {**build(CONFIGS["clip"]).state_dict(), "logit_bias": torch.full(shape, -3.5)}
    save_file(state, tmp_path / "a.safetensors")
    guide = open_clip(config, checkpoint=tmp_path / "a.safetensors", itc="sigmoid")
    assert guide.logit_bias == -3.5


def test_the_moving_average_is_chosen_by_key(tmp_path: Path, config: str) -> None:
    raw = build(CONFIGS["clip"]).state_dict()
    average = {name: tensor + 0.01 for name, tensor in raw.items()}
    path = tmp_path / "epoch_3.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in raw.items()}, "ema": average}, path)
    with pytest.raises(UsageError, match="choose with key=NAME"):
        open_clip(config, checkpoint=path)
    chosen = open_clip(config, checkpoint=path, key="ema")
    assert torch.equal(chosen.model.visual.proj, average["visual.proj"])
    assert clip_score(config, checkpoint=path, key="ema", device="cpu") is not None


def test_weights_that_are_no_numbers_are_named(tmp_path: Path, config: str) -> None:
    state = build(CONFIGS["clip"]).state_dict()
    state["visual.proj"][0, 0] = float("nan")
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(
        GuidelensError, match=r"a\.safetensors holds NaN or infinite weights: 1 of .* visual\.proj"
    ):
        load_open_clip(config, checkpoint=tmp_path / "a.safetensors")
