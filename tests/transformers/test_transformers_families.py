"""Every family keeps the contract of guidance models: the conformance kit on a tiny random model of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from guidelens.testing import check_guidance_model

pytest.importorskip("transformers")

from tiny_families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_family_conforms(family: str, folder_of: Callable[[str], Path]) -> None:
    from guidelens_transformers import load_guidance

    model = load_guidance(folder_of(family))
    report = check_guidance_model(model)
    assert not [check.name for check in report.skipped if "reads" not in check.name]
