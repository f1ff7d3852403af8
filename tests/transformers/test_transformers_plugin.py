"""The component ``hf``: options, where models are found, and every error in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens import PluginManager, UsageError
from guidelens.cli.main import cli
from guidelens.errors import GuidelensError
from guidelens.plugins import requirements
from guidelens_transformers import ObjectiveOptions, load_guidance
from guidelens_transformers.plugin import hf

Folder = Callable[[str], Path]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_fingerprint_is_the_content(folder_of: Folder, tmp_path: Path) -> None:
    here = hf(model=str(folder_of("clip")))
    there = hf(model=str(copy(folder_of("clip"), tmp_path / "copy")))
    assert here.fingerprint == there.fingerprint
    assert hf(model=str(folder_of("clip")), temperature=0.5).fingerprint != here.fingerprint


def test_models_with_features_of_pictures_offer_them(folder_of: Folder) -> None:
    assert hasattr(load_guidance(folder_of("clip")), "image_features")
    assert not hasattr(load_guidance(folder_of("llava")), "image_features")


def test_a_model_that_is_not_here() -> None:
    with pytest.raises(GuidelensError, match="add download=true: hf:model=acme/clip,download=true"):
        hf(model="acme/clip")
    with pytest.raises(GuidelensError, match=r"revision v2; to download"):
        hf(model="acme/clip", revision="v2")
    with pytest.raises(GuidelensError, match="there is no such directory"):
        hf(model="./models/clip/large")


def test_a_download_without_a_network() -> None:
    with pytest.raises(
        GuidelensError, match=r"cannot download acme/clip .* without a network, copy"
    ) as caught:
        hf(model="acme/clip", download=True)
    assert "\n" not in str(caught.value)


def test_options_that_do_not_fit(folder_of: Folder) -> None:
    with pytest.raises(UsageError, match="is a directory: leave out the option download"):
        hf(model=str(folder_of("clip")), download=True)
    with pytest.raises(UsageError, match="temperature must be a positive number or 'learned', not 'warm'"):
        hf(model=str(folder_of("clip")), temperature="warm")  # type: ignore[arg-type]
    with pytest.raises(
        UsageError, match="itc=sigmoid needs a model with a logit bias, such as SigLIP; hf:model"
    ):
        hf(model=str(folder_of("clip")), itc="sigmoid")
    with pytest.raises(UsageError, match="has no learned temperature; give temperature=NUMBER"):
        hf(model=str(folder_of("blip-retrieval")), temperature="learned")
    with pytest.raises(UsageError, match="itc_mode must be cosine or sigmoid, not 'softmax'"):
        ObjectiveOptions(itc_mode="softmax")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="temperature must be a positive number"):
        ObjectiveOptions(temperature=-1.0)
    with pytest.raises(UsageError, match=r"question must contain \{\} once"):
        ObjectiveOptions(question="Is it there?")


def test_an_objective_that_the_model_does_not_have(folder_of: Folder) -> None:
    import torch

    model = load_guidance(folder_of("clip"), source="hf:model=clip")
    with pytest.raises(UsageError, match="hf:model=clip has no objective 'cap'; it has itc"):
        model.losses(torch.zeros(1, 3, 8, 8), model.encode_text(["a dog"]), ["cap"])


def test_a_processor_without_gradients(folder_of: Folder) -> None:
    import transformers
    from guidelens_transformers.images import ImageInputs

    processor = load_guidance(folder_of("clip")).network.processor
    processor.image_processor = transformers.CLIPImageProcessorPil()
    with pytest.raises(GuidelensError, match="hf:model=x: CLIPImageProcessorPil computes outside torch"):
        ImageInputs(processor, "hf:model=x")


def test_models_of_other_kinds(folder_of: Folder, tmp_path: Path) -> None:
    folder = copy(folder_of("clip"), tmp_path / "other")
    change(folder / "config.json", model_type="bert", architectures=["BertModel"])
    with pytest.raises(GuidelensError, match="is a BertModel of transformers, which offers none of itc"):
        load_guidance(folder)
    (folder / "config.json").unlink()
    with pytest.raises(GuidelensError, match=r"holds no config\.json"):
        load_guidance(folder)


def test_code_in_a_directory_is_not_run(folder_of: Folder, tmp_path: Path) -> None:
    folder = copy(folder_of("clip"), tmp_path / "code")
    (folder / "evil.py").write_text("raise SystemExit('code was run')")
    change(folder / "config.json", model_type="evil", auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(GuidelensError, match="offers none of"):
        load_guidance(folder)


def test_a_model_without_chat_template(folder_of: Folder, tmp_path: Path) -> None:
    folder = copy(folder_of("llava"), tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(GuidelensError, match="LlavaProcessor has no chat template"):
        load_guidance(folder)


def test_damaged_weights(folder_of: Folder, tmp_path: Path) -> None:
    folder = copy(folder_of("clip"), tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(GuidelensError, match=r"cannot load .*damaged with transformers 5") as caught:
        load_guidance(folder)
    assert "\n" not in str(caught.value)


def test_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda module: module != "transformers")
    monkeypatch.setattr("guidelens.plugins.components.is_installed", lambda module: module != "transformers")
    (info,) = [i for i in PluginManager.load().components() if i.name == "hf"]
    assert info.missing == ("transformers",)


def test_an_old_transformers_is_refused(folder_of: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of("clip")
    monkeypatch.setattr("transformers.__version__", "4.57.1")
    with pytest.raises(GuidelensError, match=r"transformers 4\.57\.1 is too old: .* 'transformers>=5'"):
        load_guidance(folder)


def test_special_tokens_and_empty_prompts(folder_of: Folder) -> None:
    model = load_guidance(folder_of("llava"))
    with pytest.raises(UsageError, match="contains the special token <image>"):
        model.encode_text(["a <image> of a dog"])
    with pytest.raises(UsageError, match="is empty for the model"):
        model.encode_text([""])


def test_long_prompts_are_noted(folder_of: Folder) -> None:
    (note,) = load_guidance(folder_of("clip")).encode_text(["a " * 60]).notes[0]
    assert "longer than 77 tokens" in note


def test_a_picture_is_drawn(folder_of: Folder, tmp_path: Path) -> None:
    """From the command line, with the shapes world's generator."""
    arguments = ["generate", "a red circle", "-p", "shapes", "--guidance", f"hf:model={folder_of('llava')}"]
    arguments += ["--schedule", "cap", "--steps", "2", "--out", str(tmp_path / "out.png")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
