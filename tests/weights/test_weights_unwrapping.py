"""Checkpoints as training programs write them: the network under its own names, or one line that says why not."""

from __future__ import annotations

import argparse
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights import check_finite, convert, read_state
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Table = dict[str, Tensor]
ANCHORS = ("stem.weight",)


def network(seed: int = 0) -> Table:
    generator = torch.Generator().manual_seed(seed)
    names = ("stem.weight", "stem.bias", "blocks.0.lin.weight", "blocks.1.lin.weight", "head.weight")
    return {name: torch.randn(4, 3, generator=generator) for name in names}


def named(change: Callable[[str], str], table: Table | None = None) -> Table:
    return {change(name): tensor for name, tensor in (table or network()).items()}


def optimizer() -> dict[str, Any]:
    module = nn.Linear(2, 2)
    adam = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    adam.step()
    return adam.state_dict()


PREFIXES: dict[str, Callable[[str], str]] = {
    "bare": lambda name: name,
    "DataParallel": lambda name: f"module.{name}",
    "twice": lambda name: f"module.module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "compile of DDP": lambda name: f"_orig_mod.module.{name}",
    "DDP of compile": lambda name: f"module._orig_mod.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name.replace('lin', '_fsdp_wrapped_module.lin')}",
    "activation checkpointing": lambda name: name.replace("lin", "_checkpoint_wrapped_module.lin"),
    "Fabric": lambda name: f"_forward_module.{name}",
    "Lightning": lambda name: f"model.{name}",
    "Lightning, deeper": lambda name: f"model.diffusion_model.{name}",
    "own name": lambda name: f"my_denoiser.{name}",
    "part": lambda name: f"module.{name}" if name.startswith("blocks") else name,
    "part, other": lambda name: f"model.{name}" if "blocks.1" in name else name,
    "part, inner": lambda name: name if "blocks.1" in name else f"model.{name}",
}


@pytest.mark.parametrize("dress", PREFIXES)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, dress: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    wrapped = named(PREFIXES[dress])
    save_file(wrapped, path) if suffix == ".safetensors" else torch.save(wrapped, path)
    found = read_state(path, "x", anchors=ANCHORS)
    assert found.tensors.keys() == network().keys()
    for name, tensor in network().items():
        assert torch.equal(found.tensors[name], tensor), name
    assert (found.renamed > 0) == (dress != "bare")


CONTAINERS: dict[str, Any] = {
    "model": {"model": network(), "step": 3, "optimizer": optimizer()},
    "state_dict": {"state_dict": network(), "epoch": 1, "lr_schedulers": [{"last_epoch": 1}]},
    "model_state_dict": {"model_state_dict": network(), "optimizer_state_dict": optimizer(), "loss": 0.5},
    "ema": {"ema": network(), "optimizer": optimizer()},
    "params_ema": {"params_ema": network()},
    "state_dict.model": {"state_dict": {"model": network(), "step": torch.tensor(4)}},
    "module": {"module": network(), "optimizer": None, "global_steps": 10},
    "0": [network(), optimizer(), 4, 1000],
    "net.params": {"net": {"params": network()}, "rng": torch.get_rng_state(), "scaler": {"scale": 65536.0}},
    "state_dict.model of Lightning": {
        "state_dict": {f"model.{name}": tensor for name, tensor in network().items()}
        | {"loss.discriminator.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.0.0",
        "hyper_parameters": {"lr": 1e-4},
        "callbacks": {},
        "optimizer_states": [optimizer()],
    },
    "model beside a list that does not fit": {
        "model": network(),
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": list(network(1).values())[1:]},
    },
    "model twice": {"model": (same := network()), "state_dict": same},
    "average": named(lambda name: f"module.{name}") | {"n_averaged": torch.tensor(3)},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dress", CONTAINERS)
def test_the_network_is_found_in_a_container(tmp_path: Path, dress: str, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save(CONTAINERS[dress], path, _use_new_zipfile_serialization=zipped)
    found = read_state(path, "x", anchors=ANCHORS)
    assert {name: t.tolist() for name, t in found.tensors.items()} == {
        name: t.tolist() for name, t in network().items()
    }
    assert found.key == ("" if dress == "average" else dress.split(" ")[0])


def lit_ema(module: str) -> Table:
    """The averages as latent diffusion's LitEma stores them: without dots, and with counters."""
    flat = {f"model_ema.{module}{name.replace('.', '')}": t for name, t in network(1).items()}
    return flat | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}


@pytest.mark.parametrize(
    ("payload", "keys"),
    [
        ({"model": network(), "ema": network(1)}, ("model", "ema")),
        ({"params": network(), "params_ema": network(1)}, ("params", "params_ema")),
        (
            {"state_dict": named("net.{}".format) | named("ema_model.{}".format, network(1))},
            ("net", "ema_model"),
        ),
        ({"a": {"raw": network(), "ema": network(1)}}, ("a.raw", "a.ema")),
        ([network(), optimizer(), 0, 0, network(1)], ("0", "4")),
        (
            {"model": network(), "ema": {"decay": 0.9, "shadow_params": list(network(1).values())}},
            ("model", "ema.shadow_params"),
        ),
        (
            {
                "model": network(),
                "ema": named("ema_model.{}".format, network(1)) | named("online_model.{}".format, network(2)),
            },
            ("model", "ema.ema_model", "ema.online_model"),
        ),
        (
            {"state_dict": named("model.diffusion_model.{}".format) | lit_ema("diffusion_model")},
            ("model.diffusion_model", "model_ema"),
        ),
    ],
    ids=["plain", "params", "prefixes", "nested", "list", "list of averages", "ema-pytorch", "LitEma"],
)
def test_where_several_fit_the_user_chooses(tmp_path: Path, payload: Any, keys: tuple[str, ...]) -> None:
    path = tmp_path / "a.pt"
    torch.save(payload, path)
    with pytest.raises(
        UsageError, match=r"a.pt holds named tensors in .*, .*; choose with key=NAME"
    ) as caught:
        read_state(path, "x", anchors=ANCHORS)
    assert "4" in keys or f"{keys[1]} is the moving average" in str(caught.value)
    for number, key in enumerate(keys):
        tensors = read_state(path, "x", anchors=ANCHORS, key=key).tensors
        assert {n: t.tolist() for n, t in tensors.items()} == {
            n: t.tolist() for n, t in network(number).items()
        }
    with pytest.raises(UsageError, match=r"holds no named tensors in 'emma'; it has them in"):
        read_state(path, "x", anchors=ANCHORS, key="emma")


def test_names_without_dots_are_no_average_by_themselves(tmp_path: Path) -> None:
    """A wrapped network with parameters at its top: ``module.logit_scale``."""
    net = {"stem.weight": torch.ones(3), "logit_scale": torch.ones(1), "proj": torch.ones(2)}
    torch.save({"state_dict": named("module.{}".format, net)}, tmp_path / "a.pt")
    assert read_state(tmp_path / "a.pt", "x", anchors=ANCHORS).tensors.keys() == net.keys()


def test_averages_that_cannot_be_named_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": network(), "ema": {"shadow_params": [torch.ones(2), torch.ones(3)]}}, path)
    assert read_state(path, "x", anchors=ANCHORS).key == "model"
    assert "taking model; ema.shadow_params is a moving average without names" in caplog.text
    torch.save({"decay": 0.9, "shadow_params": list(network().values())}, path)
    with pytest.raises(GuidelensError, match=r"shadow_params is a moving average .*model\.state_dict\(\)"):
        read_state(path, "x", anchors=ANCHORS)


def test_another_network_beside_it_is_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"G": network(), "D": {"conv.weight": torch.ones(2)}, "emb": torch.ones(3)}, path)
    assert read_state(path, "x", anchors=ANCHORS).key == "G"
    with pytest.raises(UsageError, match="in G, D; choose with"):
        read_state(path, "x")


def whole_module(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def deflated(path: Path) -> None:
    torch.save(network(), path.with_suffix(".plain"))
    with (
        zipfile.ZipFile(path.with_suffix(".plain")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))


def saves(payload: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(payload, path)


def writes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def save_arrays(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=np.ones(3))
    path.with_suffix(".npz").rename(path)


def outside() -> Tensor:
    """A sparse tensor with an index beyond its shape."""
    return torch.sparse_coo_tensor([[0, 9], [0, 0]], [1.0, 2.0], (3, 3), check_invariants=False)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "optimizer": (saves(optimizer()), r"state of an optimizer.*ema_\*\.pt"),
    "numpy scalar": (
        saves({"model": network(), "best": np.float64(1)}),
        "a NumPy object .*its state dict alone",
    ),
    "numpy array": (saves({"model": network(), "best": np.ones(2)}), "a NumPy object"),
    "Lightning": (
        saves({"state_dict": network(), "hyper_parameters": argparse.Namespace(lr=1)}),
        r"settings of its training program \(argparse.Namespace\).*checkpoint\['state_dict'\]",
    ),
    "module": (whole_module, "a whole module .*save its state dict alone"),
    "path": (saves({"model": network(), "at": Path("x")}), "pathlib.*could run code"),
    "deflated": (deflated, r"data\.pkl is compressed.*take the file as it was published"),
    "nearly empty": (
        saves(
            {
                "stem.weight": torch.sparse_coo_tensor(
                    [[0], [1]], [1.0], (10**5, 10**6), check_invariants=False
                )
            }
        ),
        "stem.weight repeats .* 400,000,000,000 bytes .a sparse tensor",
    ),
    "indices outside": (
        saves({"stem.weight": outside()}),
        "size is inconsistent with indices",
    ),
    "surrogate": (
        saves({"stem.weight": torch.ones(1), "a\ud800": torch.ones(2)}),
        r"the name 'a\\ud800' of a tensor",
    ),
    "meta": (saves({"stem.weight": torch.ones(3, device="meta")}), "is a meta tensor"),
    "complex": (saves({"stem.weight": torch.ones(3, dtype=torch.complex64)}), "is complex"),
    "expanded": (saves({"stem.weight": torch.ones(1).expand(10**12)}), "repeats a few stored numbers"),
    "list": (saves([1, 2]), "holds no table of named tensors, but a list"),
    "tensor": (saves(torch.ones(3)), "no table of named tensors, but a Tensor"),
    "nothing": (saves({}), "it is empty"),
    "settings": (saves({"lr": 1, "name": "run"}), "it holds 'lr', 'name'"),
    "numbered": (saves({3: torch.ones(1)}), "no table of named tensors"),
    "web page": (writes(b"\n<!DOCTYPE html><html></html>"), "it is a web page"),
    "LFS": (writes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"), "git lfs pull"),
    "gzip": (writes(b"\x1f\x8b\x08" + bytes(40)), "gunzip"),
    "Keras": (writes(b"\x89HDF\r\n\x1a\n" + bytes(40)), "HDF5"),
    "arrays": (save_arrays, "zip archive of NumPy arrays"),
    "empty": (writes(b""), "it is empty"),
    "directory": (Path.mkdir, "is a directory"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_not_a_network_is_named(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    make, message = REFUSED[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse rows are in beta
        make(path)
    with pytest.raises(GuidelensError, match=message) as caught:
        read_state(path, f"{path} as a network", anchors=ANCHORS)
    told = str(caught.value)
    assert str(path) in told
    assert "\n" not in told
    with pytest.raises(GuidelensError) as caught:
        convert(path, tmp_path / "out.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_quantised_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"stem.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, path)
        with pytest.raises(GuidelensError, match=r"stem\.weight is quantised"):
            read_state(path, "x", anchors=ANCHORS)


def test_the_bytes_decide_and_not_the_suffix(tmp_path: Path) -> None:
    save_file(network(), tmp_path / "a.pt", metadata={"made": "here"})
    found = read_state(tmp_path / "a.pt", "x", anchors=ANCHORS)
    assert (found.format, dict(found.metadata)) == ("safetensors", {"made": "here"})
    torch.save(network(), tmp_path / "b.safetensors")
    assert read_state(tmp_path / "b.safetensors", "x", anchors=ANCHORS).format == "torch"
    with pytest.raises(UsageError, match=r"a\.pt is safetensors already"):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")


def test_expanded_tensors_are_converted_whole(tmp_path: Path) -> None:
    state = {
        "row": torch.arange(3.0).expand(4, 3),
        "same": torch.ones(1).expand(1000),
        "plain": torch.ones(2),
    }
    torch.save(state, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    for name, tensor in load_file(tmp_path / "out.safetensors").items():
        assert torch.equal(tensor, state[name])


SPARSE: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": Tensor.to_sparse,
    "csr": Tensor.to_sparse_csr,
    "csc": Tensor.to_sparse_csc,
    "bsr": lambda tensor: tensor.to_sparse_bsr((2, 2)),
    "repeated": lambda tensor: torch.sparse_coo_tensor(
        [[0, 0], [1, 1]], [1.0, 2.0], (4, 6), check_invariants=False
    ),
}


@pytest.mark.parametrize("layout", SPARSE)
def test_sparse_tensors_become_dense(tmp_path: Path, layout: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # compressed layouts are in beta
        sparse = SPARSE[layout](torch.eye(4, 6))
        torch.save({"stem.weight": sparse, "half": torch.eye(3).half().to_sparse()}, tmp_path / "a.pt")
        dense = sparse.to_dense()
    assert torch.equal(read_state(tmp_path / "a.pt", "x", anchors=ANCHORS).tensors["stem.weight"], dense)
    convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    stored = load_file(tmp_path / "out.safetensors")
    assert torch.equal(stored["stem.weight"], dense)
    assert torch.equal(stored["half"], torch.eye(3).half())


def test_conversion_writes_the_chosen_entry_under_its_own_names(tmp_path: Path) -> None:
    torch.save({"model": network(), "ema": named("module.{}".format, network(1))}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="choose with --key"):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    done = convert(tmp_path / "a.pt", tmp_path / "out.safetensors", key="ema")
    assert (done.key, done.renamed, done.to_dict()["renamed"]) == ("ema", 5, 5)
    assert load_file(tmp_path / "out.safetensors").keys() == network().keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers(value: float, dtype: torch.dtype) -> None:
    state = {
        "fine": torch.full((4,), 1e4, dtype=dtype),
        "count": torch.tensor(3),
        "bad": torch.ones(6, dtype=dtype),
    }
    check_finite({"fine": state["fine"], "count": state["count"]}, "a.pt")
    state["bad"][2:4] = value
    with pytest.raises(
        GuidelensError, match=r"a\.pt holds NaN or infinite weights: 2 of 6 numbers of bad; its"
    ):
        check_finite(state, "a.pt")
    state["worse"] = state["bad"]
    with pytest.raises(GuidelensError, match="of bad, and 1 other tensors too"):
        check_finite(state, "a.pt")


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.ones(2, dtype=torch.float16))
        self.register_buffer("size", torch.tensor(224))
        self.names = ["a", "b"]
        self.counts = [1, 2]
        self.table = {"a": 1}

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(x * self.scale) + len(self.names) + self.counts[0] + self.table["a"] + self.size


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.blocks = nn.Sequential(Inner(), nn.LayerNorm(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


@pytest.mark.parametrize("way", ["script", "trace"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_read_without_being_run(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Outer()
    program = torch.jit.script(model) if way == "script" else torch.jit.trace(model, torch.ones(1, 2))
    program.save(str(tmp_path / "a.pt"))
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch, "load", None)
    found = read_state(tmp_path / "a.pt", "x", anchors=ANCHORS)
    assert found.format == "torchscript"
    assert found.tensors.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def torchscript(path: Path, program: bytes, numbers: bytes = bytes(16)) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/constants.pkl", b"\x80\x02).")
        archive.writestr("a/data/0", numbers)
    return path


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"cos\nsystem\n(S'touch sprung'\ntR.", "it names os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "it names __builtin__.eval"),
        (b"ctorch\nload\n(S'x'\ntR.", "it names torch.load"),
        (b"cbuiltins\ngetattr\n.", "it names builtins.getattr"),
        (b"\x80\x02", "damaged"),
        (b"c__torch__\nA\n)\x81q\x00}(X\x01\x00\x00\x00aq\x01h\x00ub.", "contain one another"),
        (b"c__torch__\nA\n)\x81}(X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
         b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00(J\xff\xff\xff\x7fJ\xff\xff\xff\x7f"
         b"t(J\xff\xff\xff\x7fK\x01t\x89NtRub.", "damaged"),
    ],
    ids=["system", "eval", "load", "getattr", "cut", "circle", "reaches too far"],
)  # fmt: skip
def test_a_hostile_torchscript_archive_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        GuidelensError, match=f"cannot read x: its TorchScript archive is damaged.*{reason}|{reason}"
    ):
        read_state(torchscript(tmp_path / "a.pt", program), "x", anchors=ANCHORS)
    assert not Path("sprung").exists()
