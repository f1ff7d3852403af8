"""Servers that send too much, too little, too slowly, or something else: one line each, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
from file_server import CONTENT, World
from guidelens.errors import GuidelensError
from guidelens.weights import download

UNSTATED = {"size": None, "sha256": None}


def refused(world: World, message: str, **changes: Any) -> None:
    with pytest.raises(GuidelensError, match=message) as caught:
        world.fetch(**changes)
    assert "\n" not in str(caught.value)
    assert not world.path.exists()


def test_no_more_is_written_than_was_published(world: World) -> None:
    world.behaviour.headers = {"Content-Length": ""}
    refused(world, "sends more than the 300,000 bytes that were stated", size=300_000)
    assert not world.part.exists()


def test_no_more_is_written_than_any_file_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", 300_000)
    world.behaviour.headers = {"Content-Length": ""}
    refused(world, "sends more than 300,000 bytes", **UNSTATED)


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "deflate, gzip"])
@pytest.mark.parametrize("changes", [{}, UNSTATED], ids=["published", "unstated"])
def test_packed_answers_are_refused(world: World, coding: str, changes: dict[str, Any]) -> None:
    world.behaviour.headers = {"Content-Encoding": coding}
    refused(world, f"sends the file packed with {coding.lower()}, which was not asked for", **changes)


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xml"])
def test_pages_are_not_weights(world: World, kind: str) -> None:
    world.behaviour.headers = {"Content-Type": kind}
    refused(world, "answers with a web page", **UNSTATED)
    assert world.fetch().verified, "where a published hash tells, the server may call it what it likes"


@pytest.mark.parametrize("content", [b"", b"Not found\n", b"x" * 1023])
def test_a_few_bytes_are_not_weights(world: World, content: bytes) -> None:
    world.behaviour.content = content
    refused(world, "gave [0-9,]+ bytes, too few to be a file of weights", **UNSTATED)
    assert not world.part.exists()


def test_a_rest_without_validator_is_not_joined_unhashed(world: World) -> None:
    def forget(number: int) -> None:
        world.behaviour.validators = number != 2

    world.behaviour.cuts = [300_000]
    world.behaviour.on_request = forget
    done = world.fetch(**UNSTATED)
    assert world.path.read_bytes() == CONTENT
    assert (done.verified, done.sha256) == (False, world.behaviour.sha256)
    assert [request.get("range") for request in world.behaviour.seen] == [None, "bytes=300000-", None]


def test_a_byte_per_connection_ends(world: World) -> None:
    world.behaviour.cuts = [1] * 100
    refused(world, "ended after 5 of 700,000 bytes")
    assert world.pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_byte_now_and_then_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_WINDOW", 0.05)
    monkeypatch.setattr(download, "SLOWEST", 1e6)
    world.behaviour.drip = 0.01
    refused(world, "stalls: [0-9]+ bytes in 0 s")
    assert len(world.pauses) == download.RETRIES


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e5", "12, 13", "0x10"])
def test_malformed_lengths_are_one_line(world: World, length: str) -> None:
    world.behaviour.headers = {"Content-Length": length}
    refused(world, "states a malformed length")


@pytest.mark.parametrize(
    "stated", ["bytes " + "9" * 5000 + "-1/2", "bytes a-b/c", "", "bytes 300000-1/" + "9" * 5000]
)
def test_malformed_ranges_start_over(world: World, stated: str) -> None:
    def only_once(number: int) -> None:
        world.behaviour.headers = {"Content-Range": stated} if number == 2 else {}

    world.behaviour.cuts = [300_000]
    world.behaviour.on_request = only_once
    world.fetch()
    assert world.path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target",
    [
        "ftp://example.org/net.pt",
        "file:///etc/passwd",
        "data:,x",
        "javascript:alert(1)",
        "FTP://example.org/x",
    ],
)
def test_redirects_to_other_schemes_are_refused(world: World, target: str) -> None:
    world.behaviour.redirect = target
    refused(
        world,
        "redirects to .*, which is not an http address|Redirection to url .* is not allowed",
        url=f"{world.address}/moved",
    )


@pytest.mark.parametrize("target", ["http://[::1", "http://example.org:port/x", "http://exa\tmple.org/x y"])
def test_malformed_redirects_are_one_line(world: World, target: str) -> None:
    world.behaviour.redirect = target
    refused(world, "malformed|cannot reach|redirects", url=f"{world.address}/moved")


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html>" + b"x" * 3000,
        b'{"error": "no such file"}' + b" " * 3000,
        "Datei nicht gefunden \N{WHITE SMILING FACE} ".encode() * 300,
        b"\r\n\tnot found" * 300,
    ],
)
def test_text_is_not_weights(world: World, content: bytes) -> None:
    world.behaviour.content = content
    refused(world, "answers with text .*, not with a file of weights", **UNSTATED)
    assert not world.part.exists()
    assert world.fetch(**UNSTATED, filename="vocab.txt").size == len(content), "a table of words is text"


def test_long_reasons_are_cut(world: World) -> None:
    world.behaviour.redirect = f"http://127.0.0.1:{'9' * 5000}/x"
    with pytest.raises(GuidelensError) as caught:
        world.fetch(url=f"{world.address}/moved")
    assert len(str(caught.value)) < 700
