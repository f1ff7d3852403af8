"""The results of a check as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .record import CheckRecord

_FIELDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "ms per guided step": lambda v: _ms(v["guided"]),
    "ms per picture": lambda v: _ms(v["per_picture"]),
    "ms unguided": lambda v: _ms(v["unguided"]),
    "forward TFLOP/s": lambda v: f"{v['forward_rate'] / 1e12:.3g}" if "forward_rate" in v else "",
    "engine alone": lambda v: f"{v['engine_share']:.1%}",
    "peak GB": lambda v: f"{v['peak_bytes'] / 1e9:.2f}",
    "beside": lambda v: _beside(v.get("against")),
}


def markdown(record: CheckRecord) -> str:
    """Return the page: machine, settings, and a table per part."""
    machine, settings = record.machine, record.identity
    lines = ["# GPU check", ""]
    lines += _table(("", ""), [(name, str(value)) for name, value in {**machine, **settings}.items()])
    lines += _table(
        ("case", "result", "seconds", "remark"),
        [
            (name, result.state, f"{result.seconds:.1f}", result.message or _remark(result.values))
            for name, result in record.results.items()
            if not _is_speed(name)
        ],
    )
    lines += _table(
        ("benchmark", *_FIELDS),
        [
            (name.partition("/")[2], *(field(result.values) for field in _FIELDS.values()))
            if result.state == "ok"
            else (name.partition("/")[2], result.message, *[""] * (len(_FIELDS) - 1))
            for name, result in record.results.items()
            if _is_speed(name)
        ],
    )
    for name, result in record.results.items():
        if "shares" in result.values:
            lines += [f"{name}: {result.values['kernels']} kernels, {result.values['launches']} launches", ""]
            shares = result.values["shares"].items()
            lines += _table(
                ("kernel", "share"), [(f"`{kernel}`", f"{share:.1%}") for kernel, share in shares]
            )
    return "\n".join(lines)


def _is_speed(name: str) -> bool:
    return name.startswith("bench/") and "kernels" not in name


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head, rows = list(head), [list(row) for row in rows]
    if not rows:
        return []
    return [*map(_row, [head, ["---"] * len(head), *rows]), ""]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _remark(values: Mapping[str, Any]) -> str:
    return ", ".join(_listed(values))


def _listed(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, float):
            yield f"{name} {value:.3g}"
        elif value is not None and not isinstance(value, dict | list):
            yield f"{name} {value}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"


def _beside(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return ""
    words = [f"{against['name']} takes {against['times_as_long']:.2f} times as long"]
    words += [f"{_ms(against['step'])} ms", f"first step {against['first']:.1f} s"]
    if against["pays_after"] is not None:
        words.append(f"pays after {against['pays_after']} steps of a picture")
    return ", ".join(words)
