"""The spin of OpenMP's threads: a default of ours, before torch is loaded, and the user's setting wins."""

from __future__ import annotations

import os

import pytest
from guidelens.threads import SPIN_COUNT, shorten_spinning
from plugin_worlds import run_python

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (SPIN_COUNT, None)),
        ({"GOMP_SPINCOUNT": "5"}, ("5", None)),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, "ACTIVE")),
    ],
)
def test_the_users_setting_wins(
    given: dict[str, str], expected: tuple[str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    shorten_spinning()
    assert tuple(map(os.environ.get, NAMES)) == expected


def test_it_is_set_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    code = "import guidelens, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    assert run_python(code).split() == [SPIN_COUNT, "False"]
