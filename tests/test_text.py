"""One decoder for all text: encodings, surrogates, line ends, spreadsheets."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.prompts import read_prompts
from guidelens.runs.config import LONGEST_PROMPT, as_prompts
from guidelens.text import LONGEST, STDIN, check_characters, decode, read_text, split_lines, without_formula

SENTENCE = "ein blauer Kreis über 赤い四角 🟥"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_encodings_with_their_mark(tmp_path: Path, encoding: str) -> None:
    marked = "" if encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    (tmp_path / "a.txt").write_bytes(f"{marked}{SENTENCE}\n".encode(encoding))
    assert read_text(tmp_path / "a.txt", "x") == f"{SENTENCE}\n"
    assert read_prompts(tmp_path / "a.txt") == [Prompt(SENTENCE)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("caf\u00e9".encode("latin-1"), "cannot read x: it is not UTF-8 text: byte 0xe9 at position 3 (line 1); save"),
        (b"one\ntwo\xff", "byte 0xff at position 7 (line 2)"),
        (b"\xef\xbb\xbfab\x80", "byte 0x80 at position 5 (line 1)"),
        (b"ab\xe2\x82", "byte 0xe2 at position 2"),
        (b"\xed\xa0\x80", "byte 0xed at position 0"),
        (b"\xff\xfea", "not UTF-16-LE text: byte 0x61 at position 2"),
        (b"\xff\xfe\x00\xd8", "not UTF-16-LE text: byte 0x00 at position 2"),
        (b"\x80PNG", "byte 0x80 at position 0"),
        ("ab".encode("utf-16-le"), "a zero at position 1; is it UTF-16 without a mark?"),
    ],
)  # fmt: skip
def test_what_is_not_text_is_named_by_byte_and_position(content: bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode(content, "x")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\udce9", "byte 0xe9 at position 1"), ("ab\ud83d!", "half a character, U+D83D, at position 2")],
)
def test_surrogates_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"prompt 1 of 1 is not UTF-8 text: .*{message.replace('+', '.')}"):
        as_prompts([text])
    with pytest.raises(UsageError, match="the reference of prompt 1 is not UTF-8"):
        as_prompts([Prompt("fine", reference=text)])
    assert check_characters(SENTENCE, "x") == SENTENCE


def test_a_prompt_has_a_length() -> None:
    assert as_prompts(["a" * LONGEST_PROMPT])
    with pytest.raises(UsageError, match="prompt 2 of 2 has 4,000,000 characters; at most 10,000"):
        as_prompts(["a", "b" * 4_000_000])


ODD_ENDS = ("\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "\x1d", "\x1e", "\r")


@pytest.mark.parametrize("odd", ODD_ENDS)
def test_only_line_feeds_end_lines(tmp_path: Path, odd: str) -> None:
    assert split_lines(f"a{odd}b\nc\r\nd") == [f"a{odd}b", "c", "d"]
    (tmp_path / "a.txt").write_bytes(f"a{odd}b\r\nc\n".encode())
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.txt")] == [f"a{odd}b", "c"]


def test_lines() -> None:
    assert split_lines("") == []
    assert split_lines("\n") == [""]
    assert split_lines("a\n\nb\n") == ["a", "", "b"]


def test_standard_input_is_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))

    give(f"{SENTENCE}\n".encode("utf-16"))
    assert read_prompts(STDIN) == [Prompt(SENTENCE)]
    give(b"caf\xe9\n")
    with pytest.raises(
        UsageError, match=r"cannot read standard input: it is not UTF-8 text: byte 0xe9 at position 3"
    ):
        read_prompts(STDIN)


def test_endless_files_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidelens.text.LONGEST", 1 << 20)
    assert LONGEST == 64 << 20
    with pytest.raises(UsageError, match="cannot read the prompts /dev/zero: it is longer than 1 MiB"):
        read_prompts("/dev/zero")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "prompt;category\na; b\n", [("a", "b")]),
        ("a.csv", 'id;prompt\n1;"a;b, c"\n', [("a;b, c", "")]),
        ("a.csv", "prompt\tcategory\na, b\tc\n", [("a, b", "c")]),
        ("a.csv", "prompt,category\na;b,c\n", [("a;b", "c")]),
        ("a", "n;prompt\n3;p\n", [("p", "")]),
        ("a.json", '["a", {"prompt": "b", "category": "c"}]', [("a", ""), ("b", "c")]),
        ("a.jsonl", '"a"\n\n{"Caption": "b\\u2028c", "n": 3}\r\n', [("a", ""), ("b\u2028c", "")]),
        ("a.jsonl", '{"text": "two\\nlines"}', [("two lines", "")]),
    ],
)
def test_tables_and_json(tmp_path: Path, name: str, text: str, expected: list[tuple[str, str]]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(p.text, p.category) for p in read_prompts(tmp_path / name)] == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '"a"\n{"prompt": \n', r"a.jsonl: line 2: it is not JSON"),
        ("a.json", '{"prompt": "a"}', "must hold a JSON list"),
        ("a.json", "[3]", "entry 1 is neither text nor an object with a text, but int"),
        ("a.json", '[{"words": "a"}]', "entry 1 has no text 'prompt' or .*; it has 'words'"),
        ("a.json", '[{"prompt": "a", "category": 3}]', "category must be text, not 3"),
        ("a.json", '["\\ud83d"]', "entry 1 is not UTF-8 text: half a character"),
        ("a.json", "[" * 100_000, "it is not JSON"),
        ("a.jsonl", "", "holds no prompt"),
        ("a.json", "[]", "holds no prompt"),
    ],
)
def test_json_that_holds_no_prompts(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message) as caught:
        read_prompts(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["=cmd|' /C calc'!A0", "+1", "-a dog", "@SUM(1)", "\tx", "\r=1"])
def test_formulas_are_text_in_spreadsheets(value: str) -> None:
    assert without_formula(value) == f"'{value}"


@pytest.mark.parametrize("value", ["a = b", "", " =x", -0.5, 3, None, True])
def test_what_is_no_formula_stays(value: object) -> None:
    assert without_formula(value) == value


@pytest.mark.parametrize("odd", [*ODD_ENDS, "=1+1"])
def test_a_study_of_odd_prompts_can_be_read(tmp_path: Path, odd: str) -> None:
    from guidelens.studies.results import read_members

    row = {
        **dict.fromkeys(("grid", "generator", "guidance", "preset", "sampler", "respacing", "category"), ""),
        **dict.fromkeys(("perturbation", "schedule", "settings", "pair", "clean"), ""),
        "eta": 0.0,
        "steps": 4,
        "scale": 1.0,
        "seed": 0,
        "edits": 0,
        "reference": None,
        "options": {},
        "objective_scales": {},
        "notes": [],
        "key": "0" * 20,
        "prompt": f"a{odd}b",
    }
    (tmp_path / "cells.jsonl").write_text(
        json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )
    assert read_members(tmp_path) == [row]
