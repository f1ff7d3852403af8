"""Flags as they stand in READMEs, shell scripts and notebooks, and one line for what is none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from guidelens.errors import GuidelensError, UsageError
from guidelens_guided_diffusion import PRESETS
from guidelens_guided_diffusion.description import from_classifier_script, read_classifier_flags, read_flags

WORDS = (
    "--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 --dropout 0.1 --image_size 64 "
    "--learn_sigma True --noise_schedule cosine --num_channels 192 --num_head_channels 64 --num_res_blocks 3 "
    "--resblock_updown True --use_new_attention_order True --use_fp16 True --use_scale_shift_norm True"
)
EQUALS = " ".join(
    f"{name}={value}" for name, value in zip(WORDS.split()[::2], WORDS.split()[1::2], strict=True)
)
TRAINING = "--lr 1e-4 --batch_size 128 --schedule_sampler uniform --ema_rate 0.9999 --use_kl False"
TRAIN = "python image_train.py --data_dir x $MODEL_FLAGS $TRAIN_FLAGS"
SAMPLE = f"mpiexec -n 8 python scripts/image_sample.py {EQUALS} --model_path models/64x64.pt $SAMPLE_FLAGS"
COMMENTED = WORDS.replace(" --dropout", " # cosine\n--dropout")

SPELLINGS = {
    "one line": WORDS,
    "equals": EQUALS,
    "lines": WORDS.replace(" --", "\n--"),
    "continued": WORDS.replace(" --", " \\\n  --"),
    "continued, Windows": WORDS.replace(" --", " \\\r\n  --"),
    "byte order mark": "\ufeff" + WORDS,
    "variable": f'MODEL_FLAGS="{WORDS}"',
    "exported": f"export MODEL_FLAGS='{WORDS}'\nexport OTHER=1\n",
    "variables": f'MODEL_FLAGS="{WORDS}"\nTRAIN_FLAGS="{TRAINING}"\n{TRAIN}',
    "command": f'SAMPLE_FLAGS="--batch_size 4 --num_samples 100"\n{SAMPLE}',
    "training flags": f"{TRAINING} {WORDS}",
    "comments": f"# the 64-pixel model\n{COMMENTED}  # end\n",
    "classifier's beside": f"{WORDS} --classifier_scale 1.0 --classifier_path models/64x64_classifier.pt",
    "shell prompt": f"$ python image_sample.py {WORDS}",
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_flags_as_they_are_written(tmp_path: Path, spelling: str) -> None:
    path = tmp_path / "flags"
    path.write_bytes(SPELLINGS[spelling].encode())
    assert read_flags(path) == PRESETS["imagenet64"].description.with_flags(use_fp16=True)


DISCO = """
model_config.update({
    'attention_resolutions': '32, 16, 8',
    'class_cond': False,
    'diffusion_steps': 1000, #No need to edit this, it is taken care of later.
    'rescale_timesteps': True,
    'timestep_respacing': 250, #No need to edit this, it is taken care of later.
    'image_size': 256,
    'learn_sigma': True,
    'noise_schedule': 'linear',
    'num_channels': 256,
    'num_head_channels': 64,
    'num_res_blocks': 2,
    'resblock_updown': True,
    'use_checkpoint': use_checkpoint,
    'use_fp16': not useCPU,
    'use_scale_shift_norm': True,
})
"""


def test_a_notebooks_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "flags").write_text(DISCO)
    with caplog.at_level(logging.WARNING, "guidelens"):
        described = read_flags(tmp_path / "flags")
    assert described.flags == PRESETS["imagenet256-uncond"].description.flags
    assert described.rescale_timesteps
    assert "timestep_respacing belongs to a run, not to a checkpoint: give --steps 250" in caplog.text


def test_json_may_name_training_flags(tmp_path: Path) -> None:
    (tmp_path / "flags").write_text(
        '{"num_channels": 64, "image_size": 64, "lr": 0.1, "timestep_respacing": "ddim25"}'
    )
    assert read_flags(tmp_path / "flags").flags.model_channels == 64


def test_a_classifiers_flags_in_a_variable(tmp_path: Path) -> None:
    text = (
        'TRAIN_FLAGS="--iterations 300000 --anneal_lr True --batch_size 256 --lr 3e-4 --save_interval 10000"\n'
        'CLASSIFIER_FLAGS="--image_size 128 --classifier_attention_resolutions 32,16,8 --classifier_depth 2 \\\n'
        '  --classifier_width 128 --classifier_pool=attention"\n'
    )
    (tmp_path / "flags").write_text(text)
    assert read_classifier_flags(tmp_path / "flags") == from_classifier_script({"image_size": 128})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--image_size", "the flag --image_size has no value"),
        (b"--image_size --num_channels 3", "the flag --image_size has no value"),
        (b"--image_size 64 num_channels 3", "after --image_size 64 comes 'num_channels', which is not a flag"),
        (b"--image_size 64 --image_size 128", "--image_size is given twice, as 64 and 128"),
        (b"--num_channels 64 --colour red", "unknown script flag colour"),
        (b"--num_channels '64", "cannot read UNet flags .*No closing quotation"),
        (b"\xff\xfe-\x00", "cannot read UNet flags .*decode"),
        (b"[" * 100_000, "cannot read UNet flags|JSON"),
        (b"model_config.update({'num_channels': ", "cannot read UNet flags"),
        (b"x.update(a) + {b} - {c}", "cannot read UNet flags"),
        (b"{}" + b" " * (1 << 20), "longer than a mebibyte"),
        (b'{"num_channels": null}', "num_channels cannot be None"),

    ],
)  # fmt: skip
def test_files_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "flags").write_bytes(content)
    with pytest.raises(GuidelensError, match=message) as caught:
        read_flags(tmp_path / "flags")
    assert "\n" not in str(caught.value)


def test_a_notebook_is_parsed_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flags").write_text("x.update({'num_channels': 64, 'image_size': open('sprung', 'w').close()})")
    assert read_flags(Path("flags")).flags.model_channels == 64
    assert not Path("sprung").exists()


def test_unknown_flags_and_devices(tmp_path: Path) -> None:
    (tmp_path / "flags").write_text("--num_channels 64 --sampler ddim")
    with pytest.raises(UsageError, match="unknown script flag sampler"):
        read_flags(tmp_path / "flags")
    with pytest.raises(GuidelensError, match="there is no such file"):
        read_flags(Path("/dev/zero"))
