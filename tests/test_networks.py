"""Networks on loan: precision there and back."""

from __future__ import annotations

import torch
from guidelens.networks import place
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
