"""Prompts from files and standard input, and choosing some of them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from guidelens.contracts import Fact, Prompt
from guidelens.errors import GuidelensError, UsageError
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
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GUIDELENS_PROMPTS", str(tmp_path))
    with pytest.raises(GuidelensError, match=r"drawbench is not on this machine: run .*drawbench:path=FILE"):
        plugins.build("prompts", "drawbench")
    write("drawbench.csv", DRAWBENCH)
    assert len(plugins.build("prompts", "drawbench")) == 3
    write("coco_captions.tsv", COCO)
    assert len(plugins.build("prompts", "coco")) == 2


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


@pytest.mark.parametrize(
    ("delimiter", "said"),
    [(";", "semicolons"), ("|", "vertical bars"), ("\t", "tabs"), ("^", "'^'"), ("~", "'~'")],
)
def test_any_delimiter_of_a_csv_is_found_and_reported(write, caplog, delimiter: str, said: str) -> None:  # type: ignore[no-untyped-def]
    rows = [["id", "Prompt", "category"], ["1", "a cat, asleep", "x"], ["2", f'"a {delimiter} b"', ""]]
    path = write("a.csv", "\n".join(delimiter.join(row) for row in rows))
    assert read_prompts(path) == [Prompt("a cat, asleep", "x"), Prompt(f"a {delimiter} b")]
    assert f"a.csv: columns are separated by {said}" in caplog.text


def test_a_comma_needs_no_message(write, caplog) -> None:  # type: ignore[no-untyped-def]
    assert read_prompts(write("a.csv", "prompt,category\nx,y\n")) == [Prompt("x", "y")]
    assert read_prompts(write("a.csv", "prompt\na; b\n")) == [Prompt("a; b")]
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["a.jsonl", "a.dat", "a"])
def test_json_lines_are_never_drawn_as_text(write, name: str) -> None:  # type: ignore[no-untyped-def]
    path = write(name, '{"tag": "x", "prompt": "a bench", "category": "k"}\n\n{"prompt": "a cat"}\n')
    assert read_prompts(path) == [Prompt("a bench", "k"), Prompt("a cat")]
    with pytest.raises(UsageError, match=r"a\.txt holds JSON objects.*rename it to end in \.jsonl"):
        read_prompts(write("a.txt", '{"prompt": "a bench"}\n'))
    assert read_prompts(write("b.txt", "{a} sign\n")) == [Prompt("{a} sign")]


def test_json_lines_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"prompt": "a cat"}\n'))
    assert read_prompts("-") == [Prompt("a cat")]


def test_json_objects_hold_their_values(write) -> None:  # type: ignore[no-untyped-def]
    path = write("a.json", '{"0": {"caption": "a b", "foil": "b a", "picture": "1.jpg"}, "1": "c"}')
    assert read_prompts(path) == [Prompt("a b", foil="b a", picture="1.jpg"), Prompt("c")]


def test_facts_are_read_from_json(write) -> None:  # type: ignore[no-untyped-def]
    path = write("a.json", '[{"prompt": "a dog", "facts": [{"kind": "object", "subject": "dog"}]}]')
    assert read_prompts(path)[0].facts == (Fact("object", "dog"),)
    with pytest.raises(UsageError, match=r"a\.json: entry 1: fact 0: unknown kind 'x'"):
        read_prompts(write("a.json", '[{"prompt": "a", "facts": [{"kind": "x"}]}]'))


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        (
            "a.jsonl",
            '{"prompt": "a"}\n{"words": "b"}\n',
            "",
            r"entry 2 has no text 'prompt' or .*; it has 'words'",
        ),
        ("a.jsonl", '{"prompt": "a"}\nb\n', "", "line 2: it is not JSON"),
        ("a.jsonl", "[1]\n", "", "entry 1 is neither text nor an object with a text, but list"),
        ("a.json", "3", "", "must hold a JSON list, or an object"),
        ("a.json", '[{"prompt": "a", "category": 3}]', "", "category must be text, not 3"),
        ("a.json", '[{"prompt": 3}]', "", "entry 1 has no text"),
    ],
)
def test_mistakes_in_json_are_named(write, name, text, column, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        read_prompts(write(name, text), column)
