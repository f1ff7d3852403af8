"""``.pt`` to safetensors: same names and values, shared tensors once, and no code run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights import convert
from safetensors import safe_open
from safetensors.torch import load_file


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(3, 4, generator=generator),
        "a.half": torch.randn(5, generator=generator).half(),
        "a.bf16": torch.randn(2, 2, generator=generator).bfloat16(),
        "steps": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }


def saved(payload: Any, path: Path, **options: Any) -> Path:
    torch.save(payload, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_names_dtypes_and_values_stay(tmp_path: Path, zipped: bool) -> None:
    state = tensors()
    path = saved(state, tmp_path / "in.pt", _use_new_zipfile_serialization=zipped)
    out = tmp_path / "out.safetensors"
    done = convert(path, out)
    loaded = load_file(out)
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert done.tensors["a.bf16"] == ("bfloat16", (2, 2))
    assert done.by_dtype()["float32"] == ["a.weight", "empty"]
    assert (done.size, done.sha256) == (out.stat().st_size, hashlib.sha256(out.read_bytes()).hexdigest())
    assert done.shared == {}
    assert json.loads(json.dumps(done.to_dict()))["tensors"]["a.weight"] == {
        "dtype": "float32",
        "shape": [3, 4],
    }


def test_shared_tensors_are_stored_once_and_views_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    state = {"first": base, "same": base, "row": base[1], "turned": base.T, "part": torch.arange(100.0)[3:5]}
    out = tmp_path / "out.safetensors"
    done = convert(saved(state, tmp_path / "in.pt"), out)
    assert done.shared == {"same": "first"}
    with safe_open(str(out), "pt") as file:
        metadata = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads(metadata["shared"]) == done.shared
    assert set(stored) == {"first", "row", "turned", "part"}
    for name, tensor in stored.items():
        assert torch.equal(tensor, state[name])
    assert out.stat().st_size < 1000, "a view brings its own numbers, not all of its storage"


def test_the_table_may_lie_in_an_entry(tmp_path: Path) -> None:
    state = tensors()
    out = tmp_path / "out.safetensors"
    assert convert(saved({"model": state, "epoch": 3}, tmp_path / "in.pt"), out).key == "model"
    assert load_file(out).keys() == state.keys()
    both = saved({"model": state, "ema": {"x": torch.ones(1)}, "epoch": 3}, tmp_path / "both.pt")
    with pytest.raises(UsageError, match="in model, ema; choose with --key"):
        convert(both, out, force=True)
    assert convert(both, out, key="ema", force=True).tensors == {"x": ("float32", (1,))}
    with pytest.raises(UsageError, match=r"no named tensors in 'epoch'; it has them in model, ema"):
        convert(both, out, key="epoch", force=True)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path, out = saved(tensors(), tmp_path / "in.pt"), tmp_path / "out.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"out.safetensors exists; --force overwrites it"):
        convert(path, out)
    assert out.read_bytes() == b"precious"
    convert(path, out, force=True)
    assert load_file(out).keys() == tensors().keys()
    assert {p.name for p in tmp_path.iterdir()} == {"in.pt", "out.safetensors"}


def test_code_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    path = saved({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(GuidelensError, match="more than plain tensors"):
        convert(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_bad_requests_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(GuidelensError, match="there is no checkpoint"):
        convert(tmp_path / "absent.pt", out)
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        convert(tmp_path / "absent.pt", tmp_path / "out.pt")
    (tmp_path / "in.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"is safetensors already"):
        convert(tmp_path / "in.safetensors", out)
    (tmp_path / "rubbish.pt").write_bytes(b"rubbish")
    with pytest.raises(GuidelensError, match=r"cannot read .*rubbish.pt as a PyTorch checkpoint: ."):
        convert(tmp_path / "rubbish.pt", out)
    for payload in ([1], {}, {"a": 1}, {3: torch.ones(1)}):
        with pytest.raises(GuidelensError, match=r"no named tensors|no table of named tensors"):
            convert(saved(payload, tmp_path / "other.pt"), out)
    with pytest.raises(GuidelensError, match="cannot write"):
        convert(saved(tensors(), tmp_path / "in.pt"), tmp_path / "absent" / "out.safetensors")
    assert not out.exists()
