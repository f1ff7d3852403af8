"""Networks on loan: precision there and back."""

from __future__ import annotations

import pytest
import torch
from guidelens import networks
from guidelens.errors import UsageError
from guidelens.networks import own_precision, place, resolve_dtype
from torch import nn


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)  # its running statistics are float32 buffers
        self.register_buffer("table", torch.linspace(0, 1, 5, dtype=torch.float64))


def test_a_higher_precision_is_undone_by_a_lower_one_and_tables_keep_their_digits() -> None:
    network, cpu = Buffered().eval(), torch.device("cpu")
    before = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    place(network, cpu, torch.float32)
    place(network, cpu, torch.float64)
    assert network.norm.running_mean is not None
    assert network.norm.running_mean.dtype == torch.float64
    place(network, cpu, torch.float32)
    assert {name: tensor.dtype for name, tensor in network.state_dict().items()} == before
    network.norm(torch.zeros(1, 3, 2, 2))


def test_tables_stay_behind_where_the_device_has_no_float64(monkeypatch) -> None:
    """The meta device stands in for an Apple GPU, to which moving a float64 tensor is an error."""
    monkeypatch.setattr(networks, "WITHOUT_FLOAT64", ("meta",))
    network = Buffered().eval()
    table = network.table.clone()
    place(network, torch.device("cpu"), torch.float64)
    place(network, torch.device("meta"), torch.float32)
    assert network.table.device.type == "cpu"
    assert torch.equal(network.table, table)
    rest = [tensor for name, tensor in network.state_dict().items() if name != "table"]
    assert {tensor.device.type for tensor in rest} == {"meta"}


def test_float64_is_refused_where_the_device_has_none() -> None:
    assert resolve_dtype("float64", torch.device("cpu")) == torch.float64
    assert resolve_dtype("bf16", torch.device("mps")) == torch.bfloat16
    with pytest.raises(UsageError, match="mps has no float64; use --device cpu"):
        resolve_dtype("float64", torch.device("mps"))


def test_a_network_may_handle_reduced_precision_itself() -> None:
    cpu, layer = torch.device("cpu"), nn.Linear(2, 2)
    with own_precision(cpu) as dtype:
        assert dtype is None
    with torch.autocast("cpu", torch.float16):
        with own_precision(cpu) as dtype:
            assert dtype == torch.float16
            assert layer(torch.zeros(1, 2)).dtype == torch.float32
        assert layer(torch.zeros(1, 2)).dtype == torch.float16
        with own_precision(torch.device("meta")) as dtype:
            assert dtype is None
