"""``guidelens gpu-check``, rehearsed on the CPU with tiny networks: only the device and the sizes differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from guidelens.bench import machine
from guidelens.cli.main import cli
from guidelens.errors import MissingPackageError
from guidelens.gpu_check import agreement, own_tests, requirements, run, speed
from guidelens.gpu_check.cases import cases
from guidelens.gpu_check.context import CheckContext
from guidelens.gpu_check.record import CaseResult
from guidelens.gpu_check.run import check
from guidelens.gpu_check.settings import PARTS, CheckSettings
from guidelens.plugins import PluginManager

HERE = Path(__file__).parent
SMALL_UNET = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
    "use_scale_shift_norm": True,
}
TINY = ("--device", "cpu", "--batch-size", "2", "--steps", "2", "--repeats", "1")


@pytest.fixture(autouse=True)
def small_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(machine, "_CHANNELS", 8)
    monkeypatch.setattr(machine, "_PIXELS", 8)


def gpu_check(out: Path, *arguments: str) -> Result:
    command = ["-p", str(HERE / "tiny_world.py"), "gpu-check", "--out", str(out), *TINY, *arguments]
    return CliRunner().invoke(cli, command)


def results(out: Path) -> dict[str, Any]:
    content = json.loads((out / "gpu-check.json").read_text(encoding="utf-8"))
    assert content["format"] == "guidelens-gpu-check-1"
    found: dict[str, Any] = content["results"]
    return found


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A guided-diffusion network of 8x8 pixels; the compiler's code generation, which takes a minute, is left out."""
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(SMALL_UNET), encoding="utf-8")
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: whole(network, backend="aot_eager"))
    return f"guided-diffusion:untrained=true,flags={flags}"


@pytest.mark.slow
def test_rehearsal(tmp_path: Path, generator: str) -> None:
    """Every part, with a generator that compiles and has alternatives."""
    chosen = ("--generator", generator, "--schedule", "itc", "--schedule", "shift", "--minutes", "30")
    result = gpu_check(tmp_path / "out", *chosen, "--tests", str(HERE / "guided_diffusion"))
    assert result.exit_code == 0, result.output
    found = results(tmp_path / "out")
    assert list(dict.fromkeys(name.partition("/")[0] for name in found)) == list(PARTS)
    assert {result["state"] for name, result in found.items() if not name.startswith("tests/")} == {"ok"}
    assert found["tests/test_unet_devices"]["state"] == "skipped"
    assert found["agreement/step float32"]["values"]["gradient"] < 1e-6
    assert 1e-4 < found["agreement/step bfloat16"]["values"]["output"] < 0.1
    assert found["agreement/pictures"]["values"]["mean_difference"] < 1e-6
    beside = found["bench/float32, batch 2, generator alone, against reference"]["values"]["against"]
    assert beside["times_as_long"] > 0
    assert beside["difference"] < 1e-4
    for name in ("compiled", "graphs", "compiled-graphs"):
        fast = found[f"bench/bfloat16, batch 2, generator alone, against {name}"]["values"]["against"]
        assert fast["first"] > 0
        assert fast["difference"] < 0.05
    kernels = found["bench/kernels batch 2"]["values"]
    assert 0.5 < sum(kernels["shares"].values()) <= 1
    assert found["comparison/pictures"]["values"]["pictures"] == 2
    assert found["memory/halving"]["values"]["went_on_with"] == 2
    page = (tmp_path / "out" / "gpu-check.md").read_text(encoding="utf-8")
    assert "| bfloat16, batch 2, with guidance |" in page
    assert "reference takes" in page
    again = gpu_check(tmp_path / "out", *chosen, "--part", "memory")
    assert "memory/halving" not in again.stderr
    assert results(tmp_path / "out") == found


def settings(**changes: Any) -> tuple[PluginManager, CheckSettings]:
    manager = PluginManager.load([str(HERE / "tiny_world.py")])
    chosen = {"device": "cpu", "batch_sizes": (1,), "repeats": 1, "steps": 2, **changes}
    return manager, CheckSettings(manager.resolve("generator"), manager.resolve("guidance"), **chosen)


def test_failures_are_kept_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, wanted = settings(parts=("agreement", "memory"))

    def broken(*_: Any) -> CaseResult:
        raise RuntimeError("no kernel image")

    with monkeypatch.context() as patch:
        patch.setattr(agreement, "compare_pictures", broken)
        record, left = check(manager, wanted, tmp_path)
    assert left == []
    assert record.results["agreement/pictures"].message == "RuntimeError: no kernel image"
    assert record.results["memory/halving"].state == "ok"
    ran: list[str] = []
    record, _ = check(manager, wanted, tmp_path, on_case=lambda name, result: ran.append(name))
    assert ran == ["agreement/pictures"] * 2
    assert {result.state for result in record.results.values()} == {"ok"}


def test_numbers_out_of_range_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, wanted = settings(parts=("agreement",))
    monkeypatch.setattr(agreement, "TOLERANCE", -1.0)
    record, _ = check(manager, wanted, tmp_path)
    assert record.results["agreement/step float32"].state == "failed"
    assert record.results["agreement/step bfloat16"].state == "ok"


def test_time_that_runs_out_leaves_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, wanted = settings(parts=("agreement", "memory"), minutes=1)
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    record, left = check(manager, wanted, tmp_path)
    assert list(record.results) == ["agreement/step float32"]
    assert left == ["agreement/step tf32", "agreement/step bfloat16", "agreement/pictures", "memory/halving"]
    assert list(results(tmp_path)) == ["agreement/step float32"]


def test_results_of_other_settings_are_dropped(tmp_path: Path) -> None:
    check(*settings(parts=("memory",)), tmp_path)
    record, _ = check(*settings(parts=("agreement",), steps=3), tmp_path)
    assert "memory/halving" not in record.results


def test_what_does_not_fit_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, wanted = settings(parts=("bench",))

    def too_large(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(speed, "_benchmark", too_large)
    record, _ = check(manager, wanted, tmp_path)
    assert {r.state for name, r in record.results.items() if "kernels" not in name} == {"skipped"}


def test_an_alternative_that_is_not_installed_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, wanted = settings(parts=("bench",))

    def missing(*_: Any, **__: Any) -> None:
        raise MissingPackageError("to compare with diffusers, install it")

    monkeypatch.setattr(speed, "_benchmark", missing)
    record, _ = check(manager, wanted, tmp_path)
    found = record.results["bench/bfloat16, batch 1, generator alone, against reference"]
    assert found == CaseResult(
        "skipped", message="to compare with diffusers, install it", seconds=found.seconds
    )


def test_the_most_important_cases_come_first() -> None:
    manager, wanted = settings(batch_sizes=(1, 8))
    names = [case.name for case in cases(CheckContext(manager, wanted, Path()))]
    first = {
        name: names.index(next(n for n in names if n.startswith(name)))
        for name in (
            "agreement/",
            "bench/bfloat16",
            "bench/kernels",
            "comparison/",
            "memory/",
            "bench/float32",
            "bench/float16",
        )
    }
    assert list(first.values()) == sorted(first.values())
    assert len(set(names)) == len(names)


def test_tests_that_hang_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "test_hang.py"
    file.write_text(f"import time\n# {own_tests._MARK}\ntime.sleep(60)\n", encoding="utf-8")
    monkeypatch.setattr(own_tests, "_LONGEST", 0.5)
    manager, wanted = settings(parts=("tests",), tests=tmp_path)
    record, _ = check(manager, wanted, tmp_path / "out")
    assert record.results["tests/test_hang"].message == "the tests took longer than 0.5 seconds"


def test_everything_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        requirements, "_is_installed", lambda name: name not in ("jinja2", "filelock", "pytest")
    )
    result = gpu_check(tmp_path, "--tests", str(HERE), "--wheels", "wheels")
    assert result.exit_code == 1
    expected = f"run {sys.executable} -m pip install --no-index --find-links wheels filelock jinja2 pytest"
    assert expected in result.stderr


def test_requirements_of_other_pythons_are_left_out() -> None:
    stated = ["click>=8.1", "numpy<2; python_version < '3.8'", "tomli; python_version >= '3.8'"]
    stated += ["ray>=2.40; extra == 'ray'"]
    assert requirements._needed_here(stated) == ["click", "tomli"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--part", "speed"), "speed"), (("--device", "cuda:77"), "cuda:77"), (("--minutes", "0"), "minutes")],
)
def test_bad_requests_are_one_line(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    result = gpu_check(tmp_path, *arguments)
    assert result.exit_code == 2
    assert named in result.output
