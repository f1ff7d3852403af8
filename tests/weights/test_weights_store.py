"""The cache: files placed by hand, recorded hashes, what a component is told, and what a plugin may register."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from file_server import CONTENT, World
from guidelens import hookimpl
from guidelens.errors import GuidelensError
from guidelens.plugins import PluginManager
from guidelens.weights import WeightsFile, locate, remove, require, status, store, verify, weights_home
from guidelens.weights.store import WeightsCorrupt, WeightsMissing, format_size


def place(world: World, content: bytes = CONTENT) -> None:
    world.path.parent.mkdir(parents=True, exist_ok=True)
    world.path.write_bytes(content)


def test_a_file_placed_by_hand_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    place(world)
    assert status(world.file).state == "changed"
    assert locate(world.file) == world.path
    assert (status(world.file).state, status(world.file).verified) == ("present", True)
    monkeypatch.setattr(store, "sha256_of", lambda *_: pytest.fail("read again"))
    assert locate(world.file) == world.path


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_a_wrong_file_is_not_used(world: World, wrong: bytes) -> None:
    place(world, wrong)
    with pytest.raises(WeightsCorrupt, match=r"is not net.pt as published.*run `guidelens weights rm net`"):
        locate(world.file)
    assert world.path.read_bytes() == wrong


def test_a_file_that_changes_after_it_was_verified(world: World) -> None:
    world.fetch()
    place(world, CONTENT[:-1] + b"?")
    with pytest.raises(WeightsCorrupt):
        locate(world.file)


def test_a_hash_that_is_published_later_counts(world: World) -> None:
    """The record of an unverified download does not stand for a hash that the plugin knows now."""
    world.behaviour.content = CONTENT[::-1]
    world.fetch(sha256=None)
    assert locate(replace(world.file, sha256=None)) == world.path
    with pytest.raises(WeightsCorrupt):
        locate(world.file)


def test_an_unhashed_file_of_another_origin_is_not_taken_for_ours(world: World) -> None:
    world.fetch(sha256=None)
    moved = replace(world.file, sha256=None, url="https://elsewhere.invalid/net.pt")
    with pytest.raises(
        WeightsCorrupt, match=r"came from http://127.* not from https://elsewhere.invalid/net.pt"
    ):
        locate(moved)
    assert locate(replace(moved, sha256=world.behaviour.sha256)) == world.path  # the hash tells


def test_absent_weights_are_asked_for_in_one_line(world: World, cache: Path) -> None:
    other = WeightsFile("vocab", "vocab.txt", "https://weights.invalid/vocab.txt")
    place(world)
    assert require("blip", [world.file]) == [world.path]
    with pytest.raises(WeightsMissing) as caught:
        require("blip", [world.file, other], instead="give blip:vocab=FILE")
    message = str(caught.value)
    assert "\n" not in message
    assert "net.pt" not in message
    assert "run `guidelens weights fetch vocab`" in message
    assert str(cache / "weights" / "vocab" / "vocab.txt") in message
    assert message.endswith("or give blip:vocab=FILE")
    world.path.unlink()
    with pytest.raises(
        WeightsMissing,
        match=r"needs net.pt \(700 kB\), vocab.txt, not on this machine: run `guidelens weights fetch net vocab`",
    ):
        require("blip", [world.file, other])


def test_what_several_components_lack_is_asked_for_at_once(world: World) -> None:
    other = WeightsFile("vocab", "vocab.txt", "https://weights.invalid/vocab.txt")
    both = [
        lambda: require("unet", [world.file]),
        lambda: require("blip", [world.file, other], instead="read"),
    ]
    with pytest.raises(
        WeightsMissing, match=r"unet needs net.pt .*; blip needs .*weights fetch net vocab`.*or read"
    ):
        store.build_all(*both)
    place(world)
    with pytest.raises(WeightsMissing, match=r"^blip needs vocab.txt, not .*fetch vocab`"):
        store.build_all(*both)
    assert store.build_all(both[0], lambda: 3) == [[world.path], 3]


def test_verify_reads_all_and_tells_progress(world: World) -> None:
    with pytest.raises(GuidelensError, match="run `guidelens weights fetch net`"):
        verify(world.file)
    world.fetch()
    seen: list[Any] = []
    assert verify(world.file, lambda done, total: seen.append((done, total))).verified
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_remove_leaves_nothing(world: World) -> None:
    assert remove(world.file) == 0
    world.fetch()
    world.part.write_bytes(b"part")
    world.part.with_name("net.pt.part.json").write_text("{}")
    assert remove(world.file) > len(CONTENT)
    assert world.left() == set()
    assert status(world.file).state == "absent"


def test_what_is_being_fetched_is_not_removed(world: World) -> None:
    world.fetch()
    with store.locked(world.path), pytest.raises(Exception, match="another process is fetching"):
        remove(world.file)
    assert world.path.exists()


def test_a_damaged_record_means_reading_again(world: World) -> None:
    world.fetch()
    world.path.with_name("net.pt.json").write_text("{torn")
    assert locate(world.file) == world.path
    assert status(world.file).state == "present"


def test_the_cache_is_the_users_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUIDELENS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert weights_home().name == "weights"
    assert "guidelens" in weights_home().parts
    monkeypatch.setenv("GUIDELENS_CACHE", "~/weights-here")
    assert weights_home() == Path.home() / "weights-here" / "weights"


@pytest.mark.parametrize(
    ("size", "text"),
    [(5, "5 bytes"), (1000, "1 kB"), (231_508, "232 kB"), (999_600, "1 MB"), (2_211_383_297, "2.21 GB")],
)
def test_sizes_are_written_as_publishers_do(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "A b"}, "lower-case"),
        ({"filename": "../net.pt"}, "not a plain file name"),
        ({"filename": ".hidden"}, "not a plain file name"),
        ({"url": "ftp://a/b"}, r"not an http\(s\) address"),
        ({"url": "https://host"}, r"not an http\(s\) address"),
        ({"url": ""}, "url or hub"),
        ({"hub": "a/b/c"}, "url or hub"),
        ({"url": "", "hub": "repo/file"}, "owner/repository/path"),
        ({"size": 0}, "not positive"),
        ({"sha256": "ABC"}, "64 lower-case hex digits"),
    ],
)
def test_a_slip_in_a_description_is_named(fields: dict[str, Any], message: str) -> None:
    good = {"name": "net", "filename": "net.pt", "url": "https://a.org/net.pt"}
    with pytest.raises(ValueError, match=message):
        WeightsFile(**{**good, **fields})


def test_hub_places() -> None:
    file = WeightsFile("v", "vocab.txt", hub="google-bert/bert-base-uncased/vocab.txt")
    assert file.address == "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"
    assert file.origin == "hub:google-bert/bert-base-uncased/vocab.txt"


# -- plugins


def plugin_naming(*files: WeightsFile) -> Any:
    class Plugin:
        @hookimpl
        def register_weights(self, register: Any) -> None:
            for file in files:
                register(file)

    return Plugin()


def test_plugins_name_files() -> None:
    file = WeightsFile("acme-net", "net.pt", "https://acme.invalid/net.pt")
    manager = PluginManager.load([plugin_naming(file), plugin_naming(file)], environment={})
    found = {named.name: named for _, named in manager.weights()}
    assert found["acme-net"] is file
    assert {"blip-base", "imagenet256-uncond", "bert-base-uncased-vocab"} <= found.keys()
    assert len(found) == len(manager.weights())


def test_two_files_of_one_name_are_refused() -> None:
    mine = WeightsFile("blip-base", "net.pt", "https://acme.invalid/net.pt")
    good = WeightsFile("acme-net", "net.pt", "https://acme.invalid/net.pt")
    manager = PluginManager.load([plugin_naming(good, mine)], environment={})
    with pytest.raises(Exception, match=r"another WeightsFile is called 'blip-base' in plugin 'blip'"):
        manager.weights()  # the user asked for this plugin, so its failure is an error


def test_what_is_no_weights_file_is_refused() -> None:
    manager = PluginManager.load([plugin_naming("net.pt")], environment={})  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"failed in register_weights"):
        manager.weights()


def test_the_published_facts() -> None:
    """Against what the issue's design states, and what each publisher's page lists."""
    known = {file.name: file for _, file in PluginManager.load(environment={}).weights()}
    imagenet = known["imagenet256-uncond"]
    assert (imagenet.filename, imagenet.size) == ("256x256_diffusion_uncond.pt", 2_211_383_297)
    assert imagenet.sha256 == "a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1"
    assert known["blip-base"].filename == "model_base_capfilt_large.pth"
    assert all(file.licence and file.citation and file.component for file in known.values())
    unhashed = [file.name for file in known.values() if file.sha256 is None]
    assert "blip-base" in unhashed, "Salesforce states no hash; one that is added needs a source"
