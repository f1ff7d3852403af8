"""The built-in study ``judges``: all guides and judges that docs/metrics.md promises, paired."""

from __future__ import annotations

import pytest
from guidelens.plugins import PluginManager
from guidelens.studies.expand import expand
from guidelens.studies.run import find_study, plugin_component_cache


@pytest.mark.slow
def test_guides_and_judges() -> None:
    plugins = PluginManager.load(environment={})
    study = expand(find_study("judges", plugins), plugins, plugin_component_cache(plugins, "cpu"))
    guides = {(m["schedule"], m["guidance"]) for m in study.members}
    assert len(guides) == 6
    columns = [column for item in study.metrics for column in item.columns]
    assert "alignment" in columns
    assert {f"{o}@{m}" for o, m in guides} <= set(columns)
    assert len(study.members) == 6 * 18 * 2
