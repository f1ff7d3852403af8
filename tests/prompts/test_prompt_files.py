"""Prompts from files and standard input, and choosing some of them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.plugins import PluginManager
from guidelens.prompts import read_prompts, select

space = " "
DRAWBENCH = f"""\
Prompts,Category
A red colored car.,Colors
"One cat and two dogs, sitting",Counting
An elephant under the sea.,Gary Marcus et al.{space}
"""
COCO = 'id\timage_id\tcaption\theight\n1\t2\tA city at night. \t640\n3\t4\tThe "large" clock\t10\n'


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load(environment={})


def test_drawbench(write, plugins: PluginManager) -> None:  # type: ignore[no-untyped-def]
    path = write("d.csv", DRAWBENCH)
    prompts = plugins.build("prompts", f"drawbench:path={path}")
    assert prompts[1] == Prompt("One cat and two dogs, sitting", "Counting")
    assert prompts[2].category == "Gary Marcus et al."
    chosen = plugins.build("prompts", f"drawbench:path={path},category=gary marcus et al.+Colors")
    assert [p.category for p in chosen] == ["Colors", "Gary Marcus et al."]


def test_coco(write, plugins: PluginManager) -> None:  # type: ignore[no-untyped-def]
    path = write("c.tsv", COCO)
    assert [p.text for p in plugins.build("prompts", f"coco:path={path}")] == [
        "A city at night.",
        'The "large" clock',
    ]
    assert len(plugins.build("prompts", f"coco:path={path},limit=1,seed=3")) == 1


def test_files_are_found_in_a_folder(
    write,
    plugins: PluginManager,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.delenv("GUIDELENS_PROMPTS", raising=False)
    with pytest.raises(UsageError, match=r"coco: no path.*coco:path=FILE\. COCO captions come from"):
        plugins.build("prompts", "coco")
    monkeypatch.setenv("GUIDELENS_PROMPTS", str(tmp_path))
    with pytest.raises(UsageError, match=r"drawbench\.csv is not there"):
        plugins.build("prompts", "drawbench")
    write("drawbench.csv", DRAWBENCH)
    assert len(plugins.build("prompts", "drawbench")) == 3


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "one, two\n\n  three \n", ["one, two", "three"]),
        ("a.txt", "prompt,category\nx,y\n", ["prompt,category", "x,y"]),
        ("a.csv", "\ufeffPROMPT ,x\n a,1\n,2\nb\n", ["a", "b"]),
        ("a.csv", 'caption\r\n"two\r\nlines"\r\n', ["two lines"]),
        ("a.tsv", "text\tn\nit's 5\" wide\t3\n", ["it's 5\" wide"]),
        ("a.dat", "n\tprompt\n3\tp\n", ["p"]),
        ("a", "n,prompt\n3,p\n", ["p"]),
        ("a", "a cat, a dog\nanother\n", ["a cat, a dog", "another"]),
        ("a.CSV", "prompt\nx\n", ["x"]),
    ],
)
def test_kinds_of_files(write, name: str, text: str, expected: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert [p.text for p in read_prompts(write(name, text))] == expected


def test_a_column_of_ones_own(write) -> None:  # type: ignore[no-untyped-def]
    path = write("a.csv", "id,Sentence,category\n1,s,k\n")
    assert read_prompts(path, "sentence") == [Prompt("s", "k")]
    assert read_prompts(write("a", "Sentence,id\ns,1\n"), "sentence") == [Prompt("s")]


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        ("a.csv", "id,words\n1,x\n", "", r"no column 'prompt' or 'prompts' or .*; it has id, words"),
        ("a.csv", "id,prompt\n1,x\n", "words", r"no column 'words'; it has id, prompt"),
        ("a.csv", "", "", "it has no header"),
        ("a.txt", "x\n", "words", "it has no column 'words'"),
        ("a.txt", "\n \n", "", "holds no prompt"),
        ("a.csv", "prompt\n", "", "holds no prompt"),
        ("a.csv", 'prompt\na\n"b\nc\nd\n', "", r"a\.csv: line 3: a quote is opened and never closed"),
        ("a.tsv", 'id\tprompt\n1\t"b\tc', "", r"a\.tsv: line 2: a quote is opened and never closed"),
        ("a.txt", b"\xff\xfe\xfa", "", "not UTF-16-LE text: byte 0xfa at position 2"),
    ],
)
def test_mistakes_are_told(write, name, text, column, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        read_prompts(write(name, text), column)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(tmp_path / "gone.csv")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("prompt,category\na cat,x\n"))
    assert read_prompts("-") == [Prompt("a cat", "x")]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="standard input holds no prompt"):
        read_prompts("-")


def test_draws_grow_and_do_not_depend_on_order() -> None:
    prompts = [Prompt(f"p{i}", "ab"[i % 2]) for i in range(40)]
    ten, twenty = (select(prompts, limit=n, seed=1) for n in (10, 20))
    assert set(ten) < set(twenty)
    assert ten == sorted(ten, key=prompts.index)
    assert set(select(prompts[::-1], limit=10, seed=1)) == set(ten)
    assert ten != select(prompts, limit=10, seed=2)
    assert ten != select(prompts, limit=10) == prompts[:10]
    assert select(prompts, limit=99, seed=0) == prompts
    assert {p.category for p in select(prompts, categories=["A"], limit=3, seed=0)} == {"a"}
    with pytest.raises(UsageError, match="has no category 'c'; it has 'a', 'b'"):
        select(prompts, categories=["c"])
    with pytest.raises(UsageError, match="limit must be at least 1"):
        select(prompts, limit=0)
