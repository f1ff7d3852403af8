"""What axe-core says against a page that Playwright shows: WCAG 2.2 A and AA, and good practice."""

from __future__ import annotations

from typing import Any

import pytest

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Any, *, without: tuple[str, ...] = ()) -> list[str]:
    """Return a line for each rule that the page breaks; skips the test where axe-core is not installed.

    :param page: of playwright.sync_api, whatever its Content-Security-Policy.
    :param without: rules to leave out.
    """
    script = pytest.importorskip("axe_playwright_python.sync_playwright").Axe().axe_script
    page.evaluate(script)
    found = page.evaluate(
        "options => axe.run(document, options)",
        {
            "runOnly": {"type": "tag", "values": RULES},
            "rules": {rule: {"enabled": False} for rule in without},
            "resultTypes": ["violations"],
        },
    )
    assert found["passes"], "axe looked at nothing"
    return [
        f"{rule['id']}: {rule['help']}: {node['target']} {node['html'][:160]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
