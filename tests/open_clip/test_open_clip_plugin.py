"""The components ``open-clip`` and ``clip-score``: options, the command line, what is missing, conformance."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import guidelens_open_clip
import pytest
import torch
from click.testing import CliRunner
from guidelens import PluginManager, Prompt, UsageError
from guidelens.cli.main import cli
from guidelens.contracts import Metric
from guidelens.errors import GuidelensError
from guidelens.plugins import requirements
from guidelens.testing import check_guidance_model
from guidelens_open_clip import ClipScore, OpenClipGuidance
from guidelens_open_clip.open_clip_import import import_open_clip
from guidelens_open_clip.plugin import clip_score, open_clip
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file
from small_models import CONFIGS, TIMM_CONFIGS, build


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    environment.pop("PYTHONWARNINGS", None)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def save(directory: Path, kind: str, models: dict[str, Any]) -> str:
    directory.mkdir()
    save_file(models[kind].state_dict(), str(directory / "open_clip_model.safetensors"))
    save_config_for_hf(models[kind], directory / "open_clip_config.json", CONFIGS[kind])
    return str(directory)


@pytest.fixture
def coca(tmp_path: Path, models: dict[str, Any]) -> str:
    return save(tmp_path / "coca", "coca", models)


@pytest.fixture
def plugins() -> PluginManager:
    return PluginManager.load()


def test_the_components_are_offered(plugins: PluginManager) -> None:
    offered = {info.name: info for info in plugins.components() if info.plugin == "open-clip"}
    assert set(offered) == {"open-clip", "clip-score"}
    for info in offered.values():
        assert info.requires == ("open_clip",)
        assert not info.default
        assert not info.missing


def test_options_reach_the_model(plugins: PluginManager, coca: str, tmp_path: Path) -> None:
    (tmp_path / "templates.txt").write_text("a photo of {}\n{}\n")
    guidance = plugins.build(
        "guidance",
        f"open-clip:model={coca},temperature=learned,templates={tmp_path}/templates.txt,image_size=40",
    )
    assert isinstance(guidance, OpenClipGuidance)
    assert guidance.temperature == pytest.approx(0.07)
    assert guidance.options.templates == ("a photo of {}", "{}")
    assert guidance.preprocess.size == (40, 40)
    assert plugins.build("guidance", f"open-clip:model={coca},temperature=0.5").temperature == 0.5
    assert len(open_clip(coca, templates="simple").options.templates) == 7
    with pytest.raises(UsageError, match="expected float or learned or none, not 'warm'"):
        plugins.build("guidance", f"open-clip:model={coca},temperature=warm")
    with pytest.raises(UsageError, match="itc=sigmoid needs a model with a logit bias"):
        open_clip(coca, itc="sigmoid")
    with pytest.raises(UsageError, match=r"ViT-B-32 needs weights: give checkpoint=FILE, or pretrained=TAG"):
        plugins.build("guidance", "open-clip")
    with pytest.raises(UsageError, match=r"cannot do without model=\(text\)"):
        plugins.build("metric", "clip-score")


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_conformance(guide, kind: str) -> None:
    check_guidance_model(guide(kind))


@pytest.mark.parametrize(("kind", "tokenizer"), [("siglip2", "siglip"), ("convnext", "clip")])
def test_conformance_with_a_tower_of_timm(tokenizers, kind: str, tokenizer: str) -> None:
    timm = import_open_clip("timm_model").timm
    if timm is None:
        pytest.skip("LAVIS keeps timm at a release that is too old")
    model = build(TIMM_CONFIGS[kind])
    check_guidance_model(OpenClipGuidance(model, tokenizers[tokenizer]))


def test_conformance_of_the_other_losses(guide) -> None:
    check_guidance_model(guide("siglip", itc_mode="sigmoid"))
    check_guidance_model(guide("clip", templates=("a photo of {}", "{}"), temperature="learned"))


def test_clip_score_is_a_hundred_cosines(models, tokenizers, images, network_input) -> None:
    metric = ClipScore(OpenClipGuidance(models["clip"], tokenizers["clip"]))
    assert isinstance(metric, Metric)
    prompts = [
        Prompt("a red circle"),
        Prompt("bleu squaer", reference="blue square"),
        Prompt("a red circle"),
    ]
    many = images.repeat(12, 1, 1, 1)  # more than are seen at once
    scores = metric.score(many, prompts * 12)
    with torch.no_grad():
        text = models["clip"].encode_text(
            tokenizers["clip"](["a red circle", "blue square", "a red circle"]), normalize=True
        )
        cosines = (models["clip"].encode_image(network_input(images), normalize=True) * text).sum(dim=1)
    assert cosines.min() < 0 < cosines.max()  # both sides of the clamp
    expected = [100 * max(0.0, float(cosine)) for cosine in cosines]
    assert [list(score) for score in scores] == [["clip_score"]] * 36
    assert [score["clip_score"] for score in scores] == pytest.approx(expected * 12, abs=1e-3)
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        clip_score("ViT-B-32", device="tpu")


def test_compare_runs_by_command_line(coca: str, models, tmp_path: Path, monkeypatch) -> None:
    clip = save(tmp_path / "clip", "clip", models)
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(
        "compare 'a red circle' 'two green squares above a very large yellow cross on a pink sky' "
        f"--generator shapes --guidance open-clip:model={coca} --schedule itc --schedule shift --seeds 1 --steps 3 "
        f"--metric clip-score:model={clip},device=cpu --metric shapes --device cpu --out run"
    )
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path("run", "results.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    losses = {row["schedule"]: set(row["losses"]) for row in rows}
    assert losses["shift"] == {"itc", "cap"}
    assert losses["itc"] == {"itc"}
    for row in rows:
        assert row["metric_errors"] == {}
        assert 0 <= row["metrics"]["clip_score"] <= 100
        assert row["nonfinite_steps"] == 0
    assert "cut off: a pink sky" in result.output + Path("run", "index.html").read_text()
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "0 drawn, 4 were there" in again.stdout  # the fingerprint is stable


def test_without_open_clip_the_command_that_installs_it_is_shown(
    plugins: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = requirements.importlib.util.find_spec
    monkeypatch.setattr(
        requirements.importlib.util, "find_spec", lambda name: None if name == "open_clip" else find(name)
    )
    with pytest.raises(GuidelensError, match=r"open_clip, not installed here: pip install .*open-clip-torch"):
        plugins.build("guidance", "open-clip:checkpoint=x.pt")
    result = CliRunner().invoke(cli, ["plugins", "list"], catch_exceptions=False)
    assert "missing" in result.output
    assert "open_clip" in result.output
    assert "open-clip-torch" in " ".join(result.output.split())


def test_public_names_exist() -> None:
    for name in guidelens_open_clip.__all__:
        assert getattr(guidelens_open_clip, name) is not None
    assert set(guidelens_open_clip.__all__) <= set(dir(guidelens_open_clip))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = guidelens_open_clip.nothing


def test_importing_the_plugin_loads_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys, guidelens_open_clip, guidelens_open_clip.plugin\n"
        "print(sorted({'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules)))"
    )
    result = run_python(code)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


USE = """
import sys, threading
from guidelens_open_clip import load_open_clip
import torch, warnings, logging
def use():
    model = load_open_clip(sys.argv[1], image_size=40)
    text = model.encode_text(["a red circle"])
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    sum(loss.sum() for loss in model.losses(images, text, model.objectives).values()).backward()
    done.append(model.fingerprint)
done = []
threads = [threading.Thread(target=use) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
use()
assert len(done) == 3 and len(set(done)) == 1, done
assert not any(f[:3] == ("ignore", None, Warning) for f in warnings.filters), warnings.filters
assert not logging.getLogger().handlers
"""


def test_import_noise_does_not_reach_the_user_from_any_thread(coca: str) -> None:
    result = run_python(USE, coca)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
