"""FID and KID against closed forms; extractors; the study commands on a study of the tiny world."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from guidelens.cli.main import cli
from guidelens.errors import GuidelensError, UsageError
from guidelens.metrics.distribution import distance, features_of, load_extractor, open_pictures
from guidelens.plugins import PluginManager
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from PIL import Image
from scipy import linalg

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny world

import tiny_world

STUDY = """
name = "toy"
schedules = ["only-itc", "turn"]
metrics = ["brightness", "judge:guidance=tiny-vl,device=cpu"]
prompts = ["a red circle", "a dot above a line", "x"]
seeds = 2
steps = 3
device = "cpu"
"""


def gaussian(n: int, dims: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate with the kernel (f.g / D + 1)^3, term by term."""
    dims = x.shape[1]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / dims + 1) ** 3

    def off_diagonal(a: np.ndarray) -> float:
        k = kernel(a, a)
        return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))

    return off_diagonal(x) + off_diagonal(y) - 2 * kernel(x, y).mean()


def test_the_frechet_distance_is_that_of_its_formula() -> None:
    a, b = gaussian(60, 5, 0), gaussian(50, 5, 1, 0.7) * torch.tensor([1.0, 2, 1, 0.5, 1])
    s, t = np.cov(a.numpy().T), np.cov(b.numpy().T)
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    expected = gap + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    found = distance(a, b)
    assert found.fid == pytest.approx(expected, rel=1e-6)
    assert (found.n, found.n_reference, found.dimensions) == (60, 50, 5)
    assert not found.note


def test_the_kernel_distance_agrees_with_its_formula() -> None:
    a, b = gaussian(400, 5, 0), gaussian(400, 5, 1, 0.7)
    found = distance(a, b, subsets=200)
    assert found.kid == pytest.approx(mmd(a.numpy(), b.numpy()), rel=0.1)
    assert abs(distance(a, gaussian(400, 5, 2)).kid) < 0.1 * found.kid


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = distance(gaussian(20, 2, 0), gaussian(20, 2, 1))
    assert torch.equal(torch.rand(1), expected)
    assert one == distance(gaussian(20, 2, 0), gaussian(20, 2, 1))


def test_few_pictures_are_told() -> None:
    assert "8 pictures for 9 features" in distance(gaussian(8, 9, 0), gaussian(20, 9, 1)).note
    with pytest.raises(UsageError, match="at least 4"):
        distance(gaussian(3, 2, 0), gaussian(20, 2, 1))
    with pytest.raises(UsageError, match="cannot be compared"):
        distance(gaussian(5, 2, 0), gaussian(5, 3, 1))


def test_features_of_pictures_of_several_sizes() -> None:
    pictures = [Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("L", (2, 6), 0), Image.new("RGB", (2, 6))]
    found = features_of(pictures, lambda images: images.mean((2, 3)))
    assert found.tolist() == [[1, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    with pytest.raises(UsageError, match="not \\(1, D\\)"):
        features_of(pictures, lambda images: images)
    with pytest.raises(UsageError, match="no pictures"):
        features_of([], lambda images: images)


def test_extractors(tmp_path: Path) -> None:
    plugins = PluginManager.load([tiny_world.__file__], environment={})
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\n\nclass Mean(torch.nn.Module):\n    def forward(self, x):\n        return x.mean((2, 3))\n"
    )
    means = load_extractor(f"{file}:Mean", plugins, "cpu")
    assert means(torch.ones(2, 3, 4, 4)).tolist() == [[1, 1, 1]] * 2
    with pytest.raises(UsageError, match="no function or class 'Median'"):
        load_extractor(f"{file}:Median", plugins, "cpu")
    with pytest.raises(UsageError, match="there is no file"):
        load_extractor(f"{tmp_path}/gone.py:Mean", plugins, "cpu")
    file.write_text(
        "def number():\n    return 3\n\ndef broken():\n    return 1 / 0\n\nlists = lambda: list\n"
    )
    with pytest.raises(UsageError, match="number returned int, which is not an extractor"):
        load_extractor(f"{file}:number", plugins, "cpu")
    with pytest.raises(
        GuidelensError, match="broken makes no extractor: ZeroDivisionError: division by zero"
    ):
        load_extractor(f"{file}:broken", plugins, "cpu")
    with pytest.raises(UsageError, match="the extractor returned a list for 1 picture"):
        features_of([Image.new("RGB", (4, 4))], load_extractor(f"{file}:lists", plugins, "cpu"))
    with pytest.raises(UsageError, match="tiny-vl has no image features"):
        load_extractor("tiny-vl", plugins, "cpu")
    shapes = load_extractor("shapes", plugins, "cpu")
    features = shapes(torch.zeros(2, 3, 32, 32))
    assert features.norm(dim=1).tolist() == pytest.approx([1, 1], rel=1e-5)


def test_folders_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        list(open_pictures(tmp_path))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"cannot read .*b\.png"):
        list(open_pictures(tmp_path))
    with pytest.raises(UsageError, match="is not a folder"):
        list(open_pictures(tmp_path / "gone"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy") / "run"
    plugins = PluginManager.load([tiny_world.__file__], environment={})
    assert run_study(parse_study(STUDY), out=out, plugins=plugins).complete
    return out


def test_the_command_matrix(directory: Path) -> None:
    shown = CliRunner().invoke(cli, ["study", "matrix", str(directory)])
    assert "turn@1" in shown.output
    assert "1: tiny-vl" in shown.output
    assert "6 pairs of prompt and noise, 3 prompts" in shown.output
    as_json = CliRunner().invoke(cli, ["study", "matrix", str(directory), "--json"])
    entries = {(e["guide"], e["judge"]): e for e in json.loads(as_json.output)["entries"]}
    assert entries["only-itc@tiny-vl", "itc@tiny-vl"]["own"] == "objective"
    assert entries["only-itc@tiny-vl", "bright"]["own"] == ""


def test_the_command_distribution(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def mean():\n    return lambda images: images.mean((2, 3))\n")
    features = ["--features", f"{file}:mean", "--device", "cpu"]
    call = ["-p", tiny_world.__file__, "study", "distribution", str(directory), *features]
    shown = CliRunner().invoke(cli, [*call, "--count", "8", "--json"])
    found = {row["schedule"]: row for row in json.loads(shown.stdout)}
    assert set(found) == {"only-itc", "turn"}
    assert all((row["n"], row["n_reference"]) == (6, 8) for row in found.values())
    itself = ["--reference", str(directory / "samples"), "--by", "steps"]
    (row,) = json.loads(CliRunner().invoke(cli, [*call, *itself, "--json"]).stdout)
    assert row["fid"] == pytest.approx(0, abs=1e-6)
    plain = CliRunner().invoke(cli, [*call, *itself])
    assert plain.exit_code == 0, plain.output
    assert "FID" in plain.stdout
    assert f"reference: {directory / 'samples'}, 12 pictures" in plain.stdout
    wrong = CliRunner().invoke(cli, [*call, "--by", "colour"])
    assert wrong.exit_code == 2
    assert "cells have no column 'colour'" in wrong.stderr
