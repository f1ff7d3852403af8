"""Component spellings, option checks against factories' signatures, and building."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import pytest
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins.components import ComponentInfo
from guidelens.plugins.requirements import is_installed, pip_command, requirements_of
from guidelens.plugins.spelling import format_component, nearest, parse_component
from guidelens.plugins.values import options_of
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from nowhere import Unseen  # type: ignore[import-not-found]


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("shift", "shift", {}),
        (" shift ", "shift", {}),
        ("blend:itc=0.5,cap=0.5", "blend", {"itc": "0.5", "cap": "0.5"}),
        ("x:a = 1 , b= 2", "x", {"a": "1", "b": "2"}),
        ("x:path=C:\\models\\a=b.pt", "x", {"path": "C:\\models\\a=b.pt"}),
        ("x:a=", "x", {"a": ""}),
        ("x:t='a cat, a dog',n=1", "x", {"t": "a cat, a dog", "n": "1"}),
        ("x:t=\"say 'hi', now\" , n=1", "x", {"t": "say 'hi', now", "n": "1"}),
        ("x:t='it''s, fine'", "x", {"t": "it's, fine"}),
        ("x:t=it's", "x", {"t": "it's"}),
        ("x:t=''", "x", {"t": ""}),
        ("dist/x:a=1", "dist/x", {"a": "1"}),
    ],
)
def test_parse(text: str, name: str, options: dict[str, str]) -> None:
    assert parse_component(text) == (name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no name"),
        (":a=1", "has no name"),
        ("x:", "not key=value"),
        ("x:a", "'a' is not key=value"),
        ("x:a=1,", "not key=value"),
        ("x:=1", "not key=value"),
        ("x:a=1,b", "'b' is not key=value"),
        ("x:a=cat,dog,b=1", "'dog' is not key=value"),
        ("x:a=1,a=2", "the option 'a' twice"),
        ("x:a='b", "not closed"),
        ("x:a='b'c", "a comma must follow"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_component(text)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.text(max_size=12), max_size=4))
def test_written_spellings_are_read_back(options: dict[str, str]) -> None:
    assert parse_component(format_component("name", options.items())) == ("name", options)


def test_nearest() -> None:
    assert nearest("shfit", ["itc", "shift"]) == "shift"
    assert nearest("SHIFT", ["itc", "shift"]) == "shift"
    assert nearest("zzz", ["itc", "shift"]) is None


def everything(
    count: int,
    rate: float = 0.5,
    on: bool = False,
    text: str = "t",
    path: Path = Path("p"),
    mode: Literal["fast", "slow", 2] = "fast",
    maybe: int | None = None,
    either: Union[str, int] = 1,  # noqa: UP007  # the old spelling is read too
    old: Optional[float] = None,  # noqa: UP045  # likewise
    unseen: Unseen = 3,
    bare=1.5,  # type: ignore[no-untyped-def]
    code: Callable[[], int] | None = None,
) -> Unseen:
    raise NotImplementedError


def _info(factory: Callable[..., Any], *, requires: tuple[str, ...] = (), dist: str = "") -> ComponentInfo:
    return ComponentInfo("schedule", "thing", "plug", dist, "a thing", factory, requires)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("rate=2", "rate", 2.0),
        ("rate=-1e-3", "rate", -0.001),
        ("on=true", "on", True),
        ("on=No", "on", False),
        ("text=12", "text", "12"),
        ("path=a/b.pt", "path", Path("a/b.pt")),
        ("mode=slow", "mode", "slow"),
        ("mode=2", "mode", 2),
        ("maybe=none", "maybe", None),
        ("maybe=7", "maybe", 7),
        ("either=7", "either", 7),
        ("either=seven", "either", "seven"),
        ("old=1.5", "old", 1.5),
        ("unseen=4", "unseen", 4),
        ("bare=3", "bare", 3.0),
        ("code=none", "code", None),
    ],
)
def test_values_follow_the_annotation(text: str, key: str, value: object) -> None:
    given = dict([text.split("=")])
    component = _info(everything).configure({"count": "3", **given})
    assert component.options == {"count": 3, key: value}
    assert type(component.options[key]) is type(value)


def test_home_is_expanded_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert _info(everything).configure({"count": "1", "path": "~/a"}).options["path"] == Path("/somewhere/a")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"schedule 'thing' cannot do without count=\(int\)"),
        ({"count": "1.5"}, "option 'count': expected int, not '1.5'"),
        ({"count": "x"}, "expected int, not 'x'"),
        ({"count": "1", "rate": "nan"}, "expected float, not 'nan'"),
        ({"count": "1", "on": "maybe"}, "expected true|false, not 'maybe'"),
        ({"count": "1", "mode": "fats"}, r"expected fast\|slow\|2, not 'fats' \(did you mean 'fast'\?\)"),
        ({"count": "1", "maybe": "x"}, "expected int or none, not 'x'"),
        ({"count": "1", "code": "x"}, "from Python only"),
        ({"cuont": "1"}, r"no option 'cuont' \(did you mean 'count'\?\); it has count, rate, on"),
        ({"count": "1", "zzz": "1"}, "no option 'zzz'; it has count"),
    ],
)
def test_bad_options(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _info(everything).configure(given)


def test_dashes_stand_for_underscores() -> None:
    def factory(label_smoothing: float = 0.0) -> None: ...

    assert _info(factory).configure({"label-smoothing": "0.1"}).options == {"label_smoothing": 0.1}


def test_free_options_are_checked_and_sorted() -> None:
    def factory(first: int = 0, **weights: float) -> None: ...

    component = _info(factory).configure({"itc": "1", "cap-x": "0.25", "first": "2"})
    assert list(component.options.items()) == [("first", 2), ("cap-x", 0.25), ("itc", 1.0)]
    assert component.spec == "thing:first=2,cap-x=0.25,itc=1.0"
    with pytest.raises(UsageError, match="option 'itc': expected float, not 'x'"):
        _info(factory).configure({"itc": "x"})


def test_one_choice_has_one_spelling() -> None:
    info = _info(everything)
    spellings = [
        info.configure({"mode": "slow", "count": "3", "rate": "0.50", "on": "off"}).spec,
        info.configure({"on": "false", "rate": "0.5", "count": "3", "mode": "slow"}).spec,
        info.configure({"count": "3", "mode": "slow"}).spec,
    ]
    assert set(spellings) == {"thing:count=3,mode=slow"}
    assert info.configure({"count": "3", "text": "a, b"}).spec == "thing:count=3,text='a, b'"


def test_factories_of_every_shape() -> None:
    @dataclass
    class Data:
        rate: float = 1.0

    class Callable_:
        def __call__(self, rate: float = 1.0) -> None: ...

    def two(rate: float, other: int, /) -> None: ...

    assert [o.name for o in options_of(Data)] == ["rate"]
    assert options_of(Data)[0].annotation is float
    assert options_of(Callable_())[0].annotation is float
    assert [o.name for o in options_of(partial(everything, 3, text="x"))][:3] == ["rate", "on", "text"]
    assert options_of(partial(everything, count=3))[0].default == 3
    assert options_of(two) == ()


def test_options_describe_themselves() -> None:
    described = {option.name: option.type_name for option in options_of(everything)}
    assert described["count"] == "int"
    assert described["on"] == "true|false"
    assert described["mode"] == "fast|slow|2"
    assert described["maybe"] == "int or none"
    assert described["unseen"] == "int"
    assert [option.name for option in options_of(everything) if option.required] == ["count"]


class _Flat:
    def weights(self, progress: float) -> dict[str, float]:
        return {"itc": 1.0}


def test_build_runs_the_factory_late() -> None:
    made: list[float] = []

    def factory(rate: float = 1.0) -> _Flat:
        made.append(rate)
        return _Flat()

    component = _info(factory).configure({"rate": "2"})
    assert made == []
    assert isinstance(component.build(), _Flat)
    assert made == [2.0]


def test_missing_requirement_names_the_command() -> None:
    info = _info(_Flat, requires=("json", "lavis_of_nowhere.models"))
    assert info.missing == ("lavis_of_nowhere.models",)
    with pytest.raises(GuidelensError, match="pip install lavis-of-nowhere") as caught:
        info.configure({}).build()
    assert not isinstance(caught.value, UsageError)


def test_undeclared_missing_module_names_the_command() -> None:
    def factory() -> object:
        import cv2_of_nowhere  # type: ignore[import-not-found]

        return cv2_of_nowhere

    with pytest.raises(GuidelensError, match="could not import 'cv2_of_nowhere': pip install cv2-of-nowhere"):
        _info(factory).configure({}).build()


def test_install_command_uses_what_the_distribution_asks_for() -> None:
    command = pip_command(*requirements_of(("lavis", "torch"), "guidelens"))
    assert command.startswith('pip install "guidelens[lavis]" "torch>=')
    assert "python_version < '3.12'" in command
    assert pip_command(*requirements_of(("open_clip",))) == "pip install open-clip-torch"
    assert pip_command(*requirements_of(("diffusers",), "guidelens")) == 'pip install "guidelens[diffusers]"'


def test_is_installed_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "explodes_on_import.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_installed("explodes_on_import.sub")
    assert not is_installed("surely_not_here")


def test_a_product_that_breaks_the_contract_is_refused() -> None:
    with pytest.raises(GuidelensError, match="returned a dict, which lacks weights"):
        _info(dict).configure({}).build()
    generator = ComponentInfo("generator", "g", "plug", "", "", object)
    with pytest.raises(GuidelensError, match="lacks image_shape, alphas_cumprod, prediction"):
        generator.configure({}).build()
    prompts = ComponentInfo("prompts", "p", "plug", "", "", lambda: ["a"])
    assert prompts.configure({}).build() == ["a"]
