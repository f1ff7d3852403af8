"""The explorer over HTTP: the token, drawings as events, the line of jobs, closed tabs, and many tabs at once."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from explorer import TOKEN, Gated, drawn, events, visitor
from guidelens.plugins import PluginManager
from guidelens_explore.catalogue import catalogue
from PIL import Image

REQUEST = {
    "prompt": "a red circle",
    "schedules": ["only-itc", "turn"],
    "steps": 3,
    "seed": 1,
    "scale": 2.0,
    "generator": "tiny",
}
GATED = {**REQUEST, "generator": "gated"}


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with visitor(address) as client:
        yield client


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    Gated.gate.clear()
    Gated.steps = 0
    yield Gated.gate
    Gated.gate.set()


def picture(url: str) -> np.ndarray:
    head, _, content = url.partition(";base64,")
    assert head == "data:image/png"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_only_the_link_opens_it(address: str) -> None:
    with httpx.Client(base_url=address) as stranger:
        assert "open the link" in stranger.get("/").text
        for answer in (
            stranger.get("/"),
            stranger.get("/?token=wrong"),
            stranger.get("/api/options"),
            stranger.post("/api/draw", json=REQUEST),
            stranger.post("/api/share", json=REQUEST),
        ):
            assert answer.status_code == 403
        opened = stranger.get("/", params={"token": TOKEN})
        assert opened.status_code == 303
        assert opened.headers["location"] == "/"  # the token leaves the address bar
        assert "HttpOnly" in opened.headers["set-cookie"]
        assert "SameSite=strict" in opened.headers["set-cookie"]
        assert stranger.get("/").status_code == 200


def test_other_sites_and_names_are_refused(client: httpx.Client) -> None:
    elsewhere = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert client.post("/api/draw", json=REQUEST, headers=elsewhere).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/").text
    assert "//" not in page.replace("<!DOCTYPE html>", "")
    for name in ("app.js", "stage.js", "curve.js", "charts.js", "explore.css", "colours.css"):
        assert client.get(f"/static/{name}").status_code == 200
    assert client.get("/static/explore.html").status_code == 404
    assert client.get("/static/server.py").status_code == 404


def test_options(client: httpx.Client) -> None:
    options = client.get("/api/options").json()
    assert options["defaults"]["generator"] == "tiny"
    assert options["defaults"]["guidance"] == "tiny-vl"
    assert "a red circle" in options["examples"]
    names = [schedule["name"] for schedule in options["schedules"]]
    assert {"only-itc", "turn", "shift"} <= set(names)
    assert "curve" not in names  # it needs points
    assert "none" not in names  # it is there anyway
    turn = next(schedule for schedule in options["schedules"] if schedule["name"] == "turn")
    assert (turn["weights"]["cap"][0], turn["weights"]["cap"][-1]) == (1.0, 0.0)
    assert {"gated", "broken"} <= {generator["name"] for generator in options["generators"]}


def test_examples_are_prompts_of_the_generator() -> None:
    plugins = PluginManager.load(environment={})
    assert catalogue(plugins, generator="things", guidance="things")["examples"][0] == "a camel in the desert"
    assert catalogue(plugins)["examples"] != catalogue(plugins, generator="things")["examples"]


def test_a_drawing(client: httpx.Client) -> None:
    told = drawn(client, REQUEST)
    assert [name for name, _ in told if name != "waiting"] == ["loading", "start", *["step"] * 4, "done"]
    start = next(data for name, data in told if name == "start")
    assert [column["name"] for column in start["columns"]] == ["unguided", "only-itc", "turn"]
    assert start["columns"][0]["weights"] == {}
    assert start["columns"][2]["weights"] == {"cap": [1.0, 0.5, 0.0], "itc": [0.0, 0.5, 1.0]}
    assert start["size"] == [8, 8]
    assert set(start["colours"]) == {"itc", "cap", ""}
    steps = [data for name, data in told if name == "step"]
    assert [step["index"] for step in steps] == [0, 1, 2, 3]
    unguided, itc, turn = steps[1]["views"]
    assert unguided["losses"] == unguided["maps"] == {}
    assert list(itc["losses"]) == list(itc["norms"]) == ["itc"]
    assert list(itc["maps"]) == [""]
    assert list(turn["cosines"]) == ["cap|itc"]
    assert set(turn["maps"]) == {"", "itc", "cap"}
    assert picture(turn["picture"]).shape == (8, 8, 3)
    assert picture(turn["maps"]["itc"]).shape == (8, 8, 4)
    assert steps[0]["views"][2]["losses"]["itc"] is None  # inactive there
    for view in steps[-1]["views"]:
        assert 0 <= view["scores"]["bright"] <= 1
    same = [picture(view["picture"]) for view in steps[0]["views"]]
    assert (same[0] == same[1]).all()  # the same noise, and no guidance yet
    different = [picture(view["picture"]) for view in steps[-1]["views"]]
    assert (different[0] != different[1]).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": " "}, "empty"),
        ({"schedules": ["shif"]}, "did you mean 'shift'"),
        ({"schedules": ["itm"]}, "needs the objective 'itm'"),
        ({"generator": "broken"}, "ValueError: its weights are gone"),
        ({"generator": "tiny:speed=2"}, "has no option 'speed'"),
    ],
)
def test_a_failure_is_one_line_in_the_page(client: httpx.Client, change: dict[str, Any], said: str) -> None:
    name, data = drawn(client, {**REQUEST, **change})[-1]
    assert name == "error"
    assert said in data["message"]
    assert "\n" not in data["message"]
    assert drawn(client, REQUEST)[-1][0] == "done"  # and the next drawing works


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedules": []}, "choose one to 5 schedules; 0 are chosen"),
        ({"schedules": [f"blend:itc={i}" for i in range(1, 7)]}, "6 are chosen"),
        ({"schedules": "shift"}, "schedules must be a list"),
        ({"seed": -1}, "the seed must be a whole number from 0 on, got -1"),
        ({"steps": 0}, "steps"),
        ({"steps": 100_000}, "at most 1000 steps"),
        ({"scale": "much"}, "scale"),
        ({"sampler": "heun"}, "sampler must be one of ddpm, ddim"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"prompt": 3}, "prompt must be a text"),
    ],
)
def test_a_wrong_request_is_refused_at_once(client: httpx.Client, change: dict[str, Any], said: str) -> None:
    answer = client.post("/api/draw", json={**REQUEST, **change})
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_what_is_no_request(client: httpx.Client) -> None:
    json_type = {"content-type": "application/json"}
    assert client.post("/api/draw", content=b"{", headers=json_type).status_code == 400
    assert client.post("/api/draw", content=b"[]", headers=json_type).status_code == 400
    assert client.post("/api/draw", data={"prompt": "x"}).status_code == 415
    large = {"prompt": "x" * 70_000}
    assert client.post("/api/draw", json=large).status_code == 413
    assert client.post("/api/schedule", json={"schedule": 1}).status_code == 400


def test_a_schedule_by_name(client: httpx.Client) -> None:
    known = client.post("/api/schedule", json={"schedule": "curve:itc=0@0/1@1"}).json()
    assert known["name"] == "curve:itc=0@0/1@1"
    assert known["weights"]["itc"][::24] == [0.0, 0.5, 1.0]
    wrong = client.post("/api/schedule", json={"schedule": "curve:itc=0"})
    assert wrong.status_code == 400
    assert "is not a point" in wrong.json()["error"]


def test_jobs_wait_in_line_and_a_closed_tab_gives_up_its_place(
    client: httpx.Client, gate: threading.Event
) -> None:
    with client.stream("POST", "/api/draw", json=GATED) as first:
        heard = events(first.iter_lines())
        assert next(name for name, _ in heard if name != "waiting") == "loading"
        with client.stream("POST", "/api/draw", json=REQUEST) as second:
            ahead_of_second = events(second.iter_lines())
            assert next(ahead_of_second) == ("waiting", {"ahead": 1})
            with client.stream("POST", "/api/draw", json=REQUEST) as third:
                ahead_of_third = events(third.iter_lines())
                assert next(ahead_of_third) == ("waiting", {"ahead": 2})
                second.close()
                assert next(ahead_of_third) == ("waiting", {"ahead": 1})
                first.close()  # its tab is closed: it ends at its next event
                gate.set()
                assert list(ahead_of_third)[-1][0] == "done"
    assert Gated.steps < 2 * 3  # the first drawing did not go on to its end


def test_twenty_tabs_at_once(address: str) -> None:
    """Every other tab is closed while it waits or draws; all others get the same pictures as alone."""

    def tab(number: int) -> list[str]:
        request = {**REQUEST, "seed": number % 3}
        with visitor(address) as client:
            if number % 2:
                with client.stream("POST", "/api/draw", json=request) as answer:
                    next(events(answer.iter_lines()))
                return []
            told = drawn(client, request)
        assert told[-1][0] == "done"
        return [view["picture"] for view in told[-2][1]["views"]]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(tab, range(20)))
    for number in range(0, 20, 2):
        assert found[number] == found[number % 6]  # the same seed
    with visitor(address) as client:
        assert drawn(client, REQUEST)[-1][0] == "done"
