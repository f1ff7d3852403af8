"""Checkpoints in several files: read through their index, and only from its own directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.errors import GuidelensError
from guidelens.weights import convert, read_state, weights_in
from safetensors.torch import load_file, save_file
from torch import Tensor

TENSORS = {f"blocks.{i}.weight": torch.full((2, 3), float(i)) for i in range(5)}
INDEX = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}


def shards(folder: Path, kind: str = "safetensors", tensors: dict[str, Tensor] = TENSORS) -> Path:
    """Write tensors in three parts as transformers does, and return the index."""
    stem = INDEX[kind].split(".")[0]
    weight_map = {}
    for number in range(3):
        part = dict(list(tensors.items())[2 * number : 2 * number + 2])
        file = f"{stem}-0000{number + 1}-of-00003.{kind}"
        save_file(part, folder / file) if kind == "safetensors" else torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / INDEX[kind]
    index.write_text(json.dumps({"metadata": {"total_size": 120}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("kind", INDEX)
def test_the_parts_are_one_network(tmp_path: Path, kind: str) -> None:
    index = shards(tmp_path, kind)
    assert weights_in(tmp_path) == index
    found = read_state(index, f"{index} as a network", anchors=["blocks.0.weight"])
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    for number, source in enumerate((index, tmp_path)):
        convert(source, tmp_path / f"whole{number}.safetensors")
        assert load_file(tmp_path / f"whole{number}.safetensors").keys() == TENSORS.keys()


def test_prefixes_are_removed_in_parts_too(tmp_path: Path) -> None:
    index = shards(tmp_path, "bin", {f"module.{name}": tensor for name, tensor in TENSORS.items()})
    assert read_state(index, "x", anchors=["blocks.0.weight"]).tensors.keys() == TENSORS.keys()


def test_a_part_alone_names_its_index(tmp_path: Path) -> None:
    shards(tmp_path)
    part = tmp_path / "model-00002-of-00003.safetensors"
    with pytest.raises(GuidelensError, match=r"part 2 of 3; give .*model\.safetensors\.index\.json"):
        read_state(part, f"{part} as a network")
    save_file(TENSORS, tmp_path / "model-00001-of-00001.safetensors")
    assert read_state(tmp_path / "model-00001-of-00001.safetensors", "x").tensors.keys() == TENSORS.keys()


def weight_map(**files: Any) -> Callable[[Path], object]:
    return lambda index: index.write_text(json.dumps({"weight_map": files}))


def writes(text: str) -> Callable[[Path], object]:
    return lambda index: index.write_text(text)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing part": (
        lambda index: index.with_name("model-00003-of-00003.safetensors").unlink(),
        "1 of its 3 parts are not in .*: model-00003-of-00003.safetensors; download them there",
    ),
    "above": (
        weight_map(a="../secret.safetensors"),
        "names the part '../secret.safetensors'; parts are files",
    ),
    "absolute": (weight_map(a="/etc/passwd"), "names the part '/etc/passwd'"),
    "backslash": (weight_map(a="..\\a.bin"), "parts are files beside the index"),
    "nothing": (weight_map(a=""), "parts are files beside the index"),
    "dots": (weight_map(a=".."), "parts are files beside the index"),
    "null byte": (weight_map(a="a\0.bin"), "parts are files beside the index"),
    "number": (weight_map(a=3), "has a weight_map from tensor to file name"),
    "empty": (weight_map(), "has a weight_map from tensor to file name"),
    "list": (writes("[]"), "has a weight_map from tensor to file name"),
    "not JSON": (writes("weights"), "it is not JSON"),
    "deep": (writes("[" * 100_000), "it is not JSON"),
    "digits": (writes('{"weight_map": {"a": ' + "9" * 5000 + "}}"), "it is not JSON|weight_map"),
    "other tensor": (
        weight_map(a="model-00001-of-00003.safetensors"),
        "its part model-00001-of-00003.safetensors lacks a",
    ),
    "itself": (weight_map(a="model.safetensors.index.json"), "cannot read .*, a part of "),
    "damaged part": (
        lambda index: index.with_name("model-00002-of-00003.safetensors").write_bytes(b"x" * 99),
        "cannot read .*model-00002-of-00003.safetensors, a part of ",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_with_an_index_is_one_line(tmp_path: Path, kind: str) -> None:
    index = shards(tmp_path)
    make, message = BAD[kind]
    make(index)
    with pytest.raises(GuidelensError, match=message) as caught:
        read_state(index, f"{index} as a network", anchors=["blocks.0.weight"])
    assert "\n" not in str(caught.value)
    with pytest.raises(GuidelensError):
        convert(index, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_code_in_a_part_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    index = shards(tmp_path, "bin")
    torch.save({"a": Trap()}, tmp_path / "pytorch_model-00001-of-00003.bin")
    with pytest.raises(GuidelensError, match="more than plain"):
        read_state(index, "x")
    assert not (tmp_path / "sprung").exists()
