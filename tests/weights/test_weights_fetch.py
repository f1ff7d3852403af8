"""Fetching over HTTP: what a bad connection, a wrong file, a full disk or a second process may do to it."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import file_server
import pytest
from file_server import CONTENT, Behaviour, World, serving
from guidelens.errors import GuidelensError, UsageError
from guidelens.weights import WeightsFile, download, fetch, install, locate, status
from guidelens.weights.fetching import mirrored
from guidelens.weights.store import WeightsCorrupt

WHOLE = {"net.pt", "net.pt.json"}


def assert_whole(world: World) -> None:
    assert world.path.read_bytes() == CONTENT
    assert world.left() == WHOLE


def test_a_file_is_fetched_once(world: World) -> None:
    seen: list[tuple[int, int | None]] = []
    done = fetch(world.file, report=lambda *progress: seen.append(progress))
    assert (done.path, done.how, done.verified, done.size) == (world.path, "downloaded", True, len(CONTENT))
    assert_whole(world)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [now for now, _ in seen] == sorted(now for now, _ in seen)
    assert world.fetch().how == "present"
    assert len(world.behaviour.seen) == 1


def test_cut_connections_are_taken_up_where_they_ended(world: World) -> None:
    world.behaviour.cuts = [300_000, 200_000]
    world.fetch()
    assert_whole(world)
    assert [request.get("range") for request in world.behaviour.seen] == [
        None,
        "bytes=300000-",
        "bytes=500000-",
    ]
    assert world.behaviour.seen[1]["if-range"] == world.behaviour.etag
    assert world.behaviour.sent == len(CONTENT)
    assert world.pauses == [1.0, 1.0], "each time bytes had arrived, so the pauses do not grow"


def test_an_interrupted_fetch_goes_on_in_a_later_one(world: World) -> None:
    def cut_off(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(world.file, report=cut_off)
    here = world.part.stat().st_size
    assert 100_000 < here < len(CONTENT)
    assert status(world.file).state == "unfinished"
    assert locate(world.file) is None
    assert world.fetch().how == "downloaded"
    assert_whole(world)
    assert world.behaviour.seen[1]["range"] == f"bytes={here}-"


def test_a_connection_that_never_lasts_is_given_up(world: World) -> None:
    world.behaviour.cuts = [1000] + [0] * 10
    with pytest.raises(GuidelensError, match=r"ended after 1,000 of 700,000 bytes; 1 kB of it are kept"):
        world.fetch()
    assert world.pauses == [1.0, 2.0, 4.0, 8.0]
    assert world.part.read_bytes() == CONTENT[:1000]
    world.behaviour.cuts = []
    world.fetch()
    assert_whole(world)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_file_is_not_installed(world: World, resumed: bool) -> None:
    if resumed:
        world.path.parent.mkdir(parents=True)
        world.part.write_bytes(b"x" * 1000)
    wrong = "0" * 64
    with pytest.raises(WeightsCorrupt) as caught:
        world.fetch(sha256=wrong)
    message = str(caught.value)
    assert "\n" not in message
    assert f"its sha256 is {world.behaviour.sha256} instead of {wrong}" in message
    assert world.left() == set()


def test_a_part_that_does_not_fit_is_dropped_and_the_file_fetched_whole(world: World) -> None:
    world.path.parent.mkdir(parents=True)
    world.part.write_bytes(b"x" * 1000)  # by hand, without a note of where it came from
    world.fetch()
    assert_whole(world)
    assert [request.get("range") for request in world.behaviour.seen] == ["bytes=1000-", None]


def test_a_part_made_by_hand_saves_its_bytes(world: World) -> None:
    world.path.parent.mkdir(parents=True)
    world.part.write_bytes(CONTENT[:600_000])
    world.fetch()
    assert_whole(world)
    assert world.behaviour.sent == 100_000


def test_a_part_of_unknown_origin_is_not_trusted_without_a_hash(world: World) -> None:
    world.path.parent.mkdir(parents=True)
    world.part.write_bytes(b"x" * 1000)
    done = world.fetch(sha256=None)
    assert not done.verified
    assert_whole(world)
    assert [request.get("range") for request in world.behaviour.seen] == [None]


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_whole_or_too_long(world: World, size: int) -> None:
    world.path.parent.mkdir(parents=True)
    world.part.write_bytes((CONTENT + b"more!")[:size])
    world.fetch()
    assert_whole(world)
    assert len(world.behaviour.seen) == (0 if size == len(CONTENT) else 1)


def test_a_whole_part_of_unstated_size_needs_no_byte_more(world: World) -> None:
    world.path.parent.mkdir(parents=True)
    world.part.write_bytes(CONTENT)
    world.fetch(size=None)
    assert_whole(world)
    assert world.behaviour.sent == 0


def test_a_server_that_refuses_ranges_sends_all_again(world: World) -> None:
    world.behaviour.ranges = False
    world.behaviour.cuts = [300_000]
    world.fetch()
    assert_whole(world)
    assert world.behaviour.sent == 300_000 + len(CONTENT)


@pytest.mark.parametrize("validators", [True, False])
def test_a_file_that_changes_between_attempts(world: World, validators: bool) -> None:
    """With an ETag the server starts over; without one, and without a published hash, so do we."""
    world.behaviour.validators = validators
    old = world.behaviour.content[::-1]
    world.behaviour.content = old
    world.behaviour.cuts = [300_000]

    def change(number: int) -> None:
        if number == 2:
            world.behaviour.content = CONTENT

    world.behaviour.on_request = change
    world.fetch(sha256=None)
    assert world.behaviour.seen[1].get("range") == ("bytes=300000-" if validators else None)
    assert_whole(world)


def test_a_server_that_ignores_if_range_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends the rest of another file, with that file's ETag."""
    world.behaviour.content = CONTENT[::-1]
    world.behaviour.cuts = [300_000]

    def change(number: int) -> None:
        if number == 2:
            world.behaviour.content = CONTENT

    def careless(headers: dict[str, str], behaviour: Behaviour) -> int:
        return int(headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    world.behaviour.on_request = change
    monkeypatch.setattr(file_server, "first_byte", careless)
    world.fetch(sha256=None)
    assert_whole(world)
    assert [request.get("range") for request in world.behaviour.seen] == [None, "bytes=300000-", None]


@pytest.mark.parametrize("claims", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_length_than_published_is_refused_before_it_is_fetched(world: World, claims: int) -> None:
    world.behaviour.claims = claims
    with pytest.raises(
        GuidelensError, match=rf"offers {claims:,} bytes, and not the 700,000 that were published"
    ):
        world.fetch()
    assert not world.path.exists()
    assert len(world.behaviour.seen) == 1


def test_a_truncated_file_of_unstated_size_is_not_taken_for_whole(world: World) -> None:
    """The server announces more than it ever sends."""
    world.behaviour.claims = 800_000
    world.behaviour.ranges = False
    with pytest.raises(GuidelensError, match=r"ended after 700,000 of 800,000 bytes"):
        world.fetch(size=None, sha256=None)
    assert not world.path.exists()


def test_passing_statuses_are_tried_again_and_final_ones_are_not(world: World) -> None:
    world.behaviour.statuses = [500, 503]
    world.fetch()
    assert_whole(world)
    assert world.pauses == [1.0, 7.0], "the second is what the server asked for"


@pytest.mark.parametrize("code", [404, 403])
def test_a_final_status_says_what_to_do(world: World, code: int) -> None:
    world.behaviour.statuses = [code]
    with pytest.raises(GuidelensError) as caught:
        world.fetch()
    message = str(caught.value)
    assert f"{world.file.url} answered {code}" in message
    assert "guidelens weights fetch net --from FILE" in message
    assert str(world.path) in message
    assert world.pauses == []


def test_a_server_that_stays_broken_is_given_up(world: World) -> None:
    world.behaviour.statuses = [500] * 9
    with pytest.raises(GuidelensError, match="answered 500"):
        world.fetch()
    assert world.pauses == [1.0, 2.0, 4.0, 8.0]


def test_redirects_are_followed_and_ranges_with_them(world: World) -> None:
    world.behaviour.redirect = "/elsewhere"
    world.behaviour.cuts = [300_000]
    world.fetch(url=f"{world.address}/moved")
    assert_whole(world)
    assert [request["path"] for request in world.behaviour.seen] == ["/moved", "/elsewhere"] * 2
    assert world.behaviour.seen[3]["range"] == "bytes=300000-"


def test_a_redirect_to_plain_http_is_refused() -> None:
    import urllib.request

    request = urllib.request.Request("https://example.org/net.pt")
    with pytest.raises(
        download.DownloadError, match=r"redirects to http://example\.org/x, which is not encrypted"
    ):
        download._NoDowngrade().redirect_request(request, None, 302, "", {}, "http://example.org/x")


def test_a_hub_token_goes_to_the_hub_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_ENDPOINT", world.address)
    storage = Behaviour(CONTENT, redirect="/blob")
    with serving(storage) as elsewhere:
        world.behaviour.redirect = f"{elsewhere}/blob"
        world.fetch(url="", hub="owner/repo/moved")
        world.path.unlink()
        file = WeightsFile("net", "net.pt", hub="owner/repo/moved", sha256=world.file.sha256)
        fetch(file, mirror=elsewhere)
    assert world.behaviour.seen[0]["path"] == "/owner/repo/resolve/main/moved"
    assert world.behaviour.seen[0]["authorization"] == "Bearer secret"
    assert [request["path"] for request in storage.seen][1:] == ["/owner/repo/resolve/main/moved", "/blob"]
    assert not any("authorization" in request for request in storage.seen)


def test_redirects_in_a_circle_end_in_one_line(world: World) -> None:
    world.behaviour.redirect = "/moved"
    with pytest.raises(GuidelensError, match="infinite loop") as caught:
        world.fetch(url=f"{world.address}/moved")
    assert "\n" not in str(caught.value)


class _Disk:
    """A file that takes ``room`` bytes, half of a block too, and then says that the disk is full."""

    def __init__(self, stream: Any, room: int) -> None:
        self.stream, self.room = stream, room

    def __enter__(self) -> _Disk:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def fileno(self) -> int:
        return int(self.stream.fileno())

    def write(self, block: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written: int = self.stream.write(block[: self.room])
        self.room -= written
        return written


def test_a_full_disk_says_what_is_needed_and_keeps_what_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(path: Path, mode: str, **rest: Any) -> Any:
        stream = open(path, mode, **rest)  # noqa: SIM115 (the download closes it)
        return _Disk(stream, 300_001) if str(path).endswith(".part") else stream

    monkeypatch.setattr(download, "open", small, raising=False)
    with pytest.raises(GuidelensError) as caught:
        world.fetch()
    message = str(caught.value)
    assert f"the disk of {world.path.parent} is full" in message
    kept = world.part.read_bytes()
    assert 0 < len(kept) <= 300_001
    assert CONTENT.startswith(kept)
    assert f"{round((len(CONTENT) - len(kept)) / 1000)} kB more is needed there" in message
    monkeypatch.undo()
    monkeypatch.setenv("GUIDELENS_CACHE", str(world.path.parents[2]))
    world.fetch()
    assert_whole(world)
    assert world.behaviour.seen[1]["range"] == f"bytes={len(kept)}-"


def test_a_disk_with_too_little_room_is_not_filled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(world.path.parents[2].parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(GuidelensError, match=r"is full: 700 kB more is needed there, 1 kB is free"):
        world.fetch()
    assert not world.part.exists()


def test_two_processes_fetch_once(world: World) -> None:
    """One downloads, the other waits and takes what it brought."""
    started, go_on = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        started.set()
        go_on.wait(30)

    world.behaviour.on_request = hold
    code = (
        "import sys\nfrom guidelens.weights import WeightsFile, fetch\nimport logging\n"
        "logging.basicConfig(format='%(message)s')\n"
        "done = fetch(WeightsFile('net', 'net.pt', sys.argv[1], sha256=sys.argv[2]))\nprint(done.how, done.verified)"
    )
    command = [sys.executable, "-c", code, world.file.url, world.behaviour.sha256]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.wait(30)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    waiting = second.stderr.readline()
    go_on.set()
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert "another process is fetching net.pt; waiting for it" in waiting
    assert outputs == ["downloaded True\n", "downloaded True\n"]
    assert len(world.behaviour.seen) == 1
    assert_whole(world)


def test_no_network_tells_the_file_and_the_place(world: World) -> None:
    with pytest.raises(GuidelensError) as caught:
        world.fetch(url="http://weights.invalid/net.pt")
    message = str(caught.value)
    assert "cannot reach http://weights.invalid/net.pt" in message
    assert f"place the file at {world.path}" in message
    assert world.pauses == [], "where no name can be looked up, waiting does not help"


def test_offline_mode_fetches_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDELENS_OFFLINE", "1")
    with pytest.raises(GuidelensError, match=r"GUIDELENS_OFFLINE is set.*--from FILE") as caught:
        world.fetch()
    assert world.file.url in str(caught.value)
    assert world.behaviour.seen == []
    monkeypatch.setenv("GUIDELENS_OFFLINE", "0")
    world.fetch()
    monkeypatch.setenv("GUIDELENS_OFFLINE", "1")
    assert world.fetch().how == "present"


def test_a_mirror_takes_the_place_of_the_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDELENS_MIRROR", f"{world.address}/base/")
    world.fetch(url="https://weights.invalid/some/net.pt")
    assert_whole(world)
    assert world.behaviour.seen[0]["path"] == "/base/some/net.pt"
    assert mirrored("https://a.org/x.pt?sig=1", "http://m.org") == "http://m.org/x.pt?sig=1"
    for wrong in ("m.org", "file:///etc", "https://"):
        with pytest.raises(UsageError, match=r"is not an http\(s\) address"):
            fetch(world.file, mirror=wrong)


def test_bytes_of_one_mirror_are_not_joined_to_those_of_another_unhashed(world: World) -> None:
    world.behaviour.cuts = [1000] + [0] * 9
    with pytest.raises(GuidelensError):
        world.fetch(sha256=None)
    world.behaviour.cuts = []
    count = len(world.behaviour.seen)
    fetch(world.file, mirror=f"{world.address}/mirror")  # with a hash they may be, and are checked
    assert world.behaviour.seen[count]["range"] == "bytes=1000-"
    assert "if-range" not in world.behaviour.seen[count]
    assert_whole(world)


def test_a_file_by_hand_is_verified_and_copied(world: World, tmp_path: Path) -> None:
    by_hand = tmp_path / "download.pt"
    by_hand.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(WeightsCorrupt, match=r"its sha256 is .* instead of .*; it was left alone"):
        install(world.file, by_hand)
    assert world.left() == set()
    by_hand.write_bytes(CONTENT)
    done = install(world.file, by_hand)
    assert (done.how, done.verified) == ("copied", True)
    assert_whole(world)
    assert by_hand.read_bytes() == CONTENT
    install(world.file, world.path)  # the cache's own file
    assert_whole(world)
    with pytest.raises(GuidelensError, match="there is no file"):
        install(world.file, tmp_path / "absent")


def test_a_hub_file_is_taken_from_the_hubs_own_cache(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    cached = tmp_path / "blob"
    asked: list[tuple[Any, ...]] = []

    def look(repo: str, name: str, revision: str, repo_type: str | None) -> str:
        asked.append((repo, name, revision, repo_type))
        return str(cached)

    monkeypatch.setattr(hub, "try_to_load_from_cache", look)
    monkeypatch.setenv("HF_ENDPOINT", world.address)
    cached.write_bytes(b"another file")
    assert world.fetch(url="", hub="owner/repo/sub/net.pt@v2").how == "downloaded"
    assert asked == [("owner/repo", "sub/net.pt", "v2", None)]
    assert world.behaviour.seen[0]["path"] == "/owner/repo/resolve/v2/sub/net.pt"
    world.path.unlink()
    cached.write_bytes(CONTENT)
    assert world.fetch(url="", hub="owner/repo/sub/net.pt@v2").how == "copied"
    assert len(world.behaviour.seen) == 1
    assert_whole(world)


def test_an_unwritable_cache_is_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path / "taken"))
    with pytest.raises(GuidelensError, match=r"cannot write to .*taken"):
        world.fetch()


def test_an_unhashed_file_is_recorded_and_later_changes_are_noticed(world: World) -> None:
    done = world.fetch(sha256=None, size=None)
    assert (done.verified, done.sha256) == (False, hashlib.sha256(CONTENT).hexdigest())
    record = json.loads(world.path.with_name("net.pt.json").read_text())
    assert record["sha256"] == done.sha256
    unhashed = replace(world.file, sha256=None, size=None)
    assert locate(unhashed) == world.path
    world.path.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsCorrupt, match=rf"has changed since it was fetched.*it was {done.sha256}"):
        locate(unhashed)


def test_a_connection_that_breaks_in_the_middle_of_a_block(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = http.client.HTTPResponse.read1
    broken = [True]

    def breaking(self: Any, amount: int | None = None) -> bytes:
        block = read(self, 50_000)
        if broken and world.part.exists() and world.part.stat().st_size >= 200_000:
            broken.clear()
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return block

    monkeypatch.setattr(http.client.HTTPResponse, "read1", breaking)
    world.fetch()
    assert not broken
    assert_whole(world)
    assert int(world.behaviour.seen[1]["range"].removeprefix("bytes=").removesuffix("-")) >= 200_000
