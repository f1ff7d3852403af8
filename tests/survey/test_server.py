"""The pages: whole sessions, resuming, going back, double clicks, blinding, and attempts to get in."""

from __future__ import annotations

import asyncio
import io
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guidelens.errors import GuidelensError, UsageError
from guidelens_survey.limits import Buckets, Limits
from guidelens_survey.store import SurveyFile
from PIL import Image
from sessions import Client, first, read, walk

fastapi = pytest.importorskip("fastapi")
import uvicorn  # noqa: E402
from guidelens.serving import gate, is_loopback  # noqa: E402
from guidelens.serving.gate import ImpatientProtocol  # noqa: E402
from guidelens_survey import server  # noqa: E402
from guidelens_survey.server import create_app  # noqa: E402

BASE = "http://127.0.0.1"
FREE = Limits(1e6, 10**6, 1e6, 10**6, 1e6, 10**6)


def client_of(survey: SurveyFile, base: str = BASE, **options: Any) -> Client:
    return Client(create_app(survey, **{"limits": FREE, **options}), base)


@pytest.fixture
def survey(make: Callable[..., SurveyFile]) -> SurveyFile:
    return make()


@pytest.fixture
def client(survey: SurveyFile) -> Iterator[Client]:
    with client_of(survey) as client:
        yield client


def personal(survey: SurveyFile, index: int = 0) -> str:
    return f"/r/{[r for r in survey.raters() if r.source == 'personal'][index].code}"


def at_first_item(client: Client, survey: SurveyFile) -> Any:
    """Consent and read the instructions; return the first screen."""
    page = client.get(personal(survey))
    for _ in range(2):
        form = read(page.text)
        page = client.post(form.action, data=form.hidden)
    return page


@pytest.mark.parametrize("design", ["pairwise", "rating", "forced-choice"])
def test_a_whole_session(make: Callable[..., SurveyFile], design: str) -> None:
    survey = make(design=design, repeats=1, checks=1)
    with client_of(survey) as client:
        text = walk(client, "/")
    (rater,) = [r for r in survey.raters() if r.source == "open"]
    assert rater.completion in text
    assert rater.finished is not None
    votes = survey.votes()
    assert len(votes) == 8 * 2
    assert {v["item"] for v in votes} == {item.id for item in survey.items(rater.seat)}


def test_votes_say_what_was_chosen(client: Client, survey: SurveyFile) -> None:
    """Answers follow the picture that was sent, not the place in some other order."""
    given: dict[tuple[str, ...], str] = {}

    def choose(form: Any) -> dict[str, str]:
        if form.images:
            given[tuple(form.images)] = max(form.images)
        return {name: str(1 + form.images.index(max(form.images))) for name in form.radios}

    walk(client, personal(survey), choose)
    images = survey.images()
    items = {item.id: item for item in survey.items()}
    for vote in survey.votes():
        item = items[vote["item"]]
        picked = max(item.tokens)
        assert item.shown[vote["answer"] - 1] == images[picked]["condition"]
        assert images[picked]["prompt"] == item.prompt


def test_a_rater_resumes_where_they_stopped(client: Client, survey: SurveyFile) -> None:
    page = at_first_item(client, survey)
    for _ in range(3):
        form = read(page.text)
        page = client.post(form.action, data={**form.hidden, **first(form)})
    with client_of(survey) as elsewhere:  # another browser, and a server that was started again
        again = elsewhere.get(personal(survey))
    assert again.url.path == page.url.path
    assert again.url.path.endswith("/4")


def test_the_open_link_resumes_by_its_cookie(client: Client, survey: SurveyFile) -> None:
    form = read(client.get("/").text)
    page = client.post(form.action, data=form.hidden)
    again = client.post(form.action, data=form.hidden)  # a double click makes one rater
    assert again.url == page.url
    assert client.get("/").url == page.url
    assert len([r for r in survey.raters() if r.source == "open"]) == 1


def test_open_raters_get_the_seats_that_are_free(survey: SurveyFile) -> None:
    taken = []
    for _ in range(6):
        with client_of(survey) as client:
            form = read(client.get("/").text)
            client.post(form.action, data=form.hidden)
        taken = [r.seat for r in survey.raters() if r.source == "open"]
    assert taken == [0, 1, 2, 3, 0, 1]


def test_a_survey_gets_full(survey: SurveyFile) -> None:
    """With ten times the planned raters who answered; who only joined takes no place."""
    raters = [survey.join(f"visit {i}") for i in range(60)]
    assert None not in raters
    for rater in raters[:40]:
        assert rater is not None
        (item, *_) = survey.items(rater.seat)
        survey.vote(rater, item, dict.fromkeys(("realism", "alignment"), 1))
    assert survey.join("visit 0") is not None
    with client_of(survey) as client:
        form = read(client.get("/").text)
        assert client.post(form.action, data=form.hidden).status_code == 410


def test_a_double_click_stores_one_answer(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    other = {name: values[-1] for name, values in form.radios.items()}
    page = client.post(form.action, data={**form.hidden, **first(form)})
    again = client.post(form.action, data={**form.hidden, **other})
    assert page.url == again.url
    assert [(v["answer"], v["revised"]) for v in survey.votes()] == [(1, 0), (1, 0)]


def test_back_by_one_changes_the_answer_and_no_further(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    second = client.post(form.action, data={**form.hidden, **first(form)})
    back = client.get(read(second.text).links["back"])
    form = read(back.text)
    assert form.checked == first(form)
    assert "back" not in form.links
    third = client.post(form.action, data={**form.hidden, "realism": "2", "alignment": "0"})
    assert third.url == second.url
    assert {v["question"]: (v["answer"], v["revised"]) for v in survey.votes()} == {
        "realism": (2, 1),
        "alignment": (0, 1),
    }
    now = read(third.text)
    client.post(now.action, data={**now.hidden, **first(now)})
    client.post(form.action, data={**form.hidden, **first(form)})  # the old form again: too late
    assert [v["answer"] for v in survey.votes() if v["revised"]] == [0, 2]
    assert client.get(f"{personal(survey)}/1").url.path.endswith("/3")


def test_an_unanswered_question_is_asked_again(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    for answers in (
        {},
        {"realism": "1"},
        {"realism": "1", "alignment": "7"},
        {"realism": "1", "alignment": "x"},
    ):
        page = client.post(form.action, data={**form.hidden, **answers})
        assert page.status_code == 422
        assert "Please answer every question." in page.text
        assert "realism" not in answers or read(page.text).checked["realism"] == "1"
    assert survey.votes() == []


def test_nobody_gets_ahead_or_past_consent(client: Client, survey: SurveyFile) -> None:
    start = personal(survey)
    for path in ("", "/1", "/3", "/thanks", "/instructions"):
        assert client.get(start + path).url.path == f"{start}/consent"
    at_first_item(client, survey)
    for path in ("/2", "/9", "/99999", "/999999", "/-1", "/0", "/x", "/thanks"):
        assert client.get(start + path).url.path == f"{start}/1"


def test_no_answer_reveals_a_condition(client: Client, survey: SurveyFile, run: Path) -> None:
    """Names, sizes and headers of pictures are the same for all; pages name no condition, key or seed."""
    pages: list[Any] = []

    def look(form: Any) -> dict[str, str]:
        pages.extend(client.get(address) for address in form.images)
        return first(form)

    text = walk(client, personal(survey), look)
    heads = {tuple(sorted(page.headers.items())) for page in pages}
    assert len(heads) == 1
    (head,) = heads
    assert {"etag", "last-modified"}.isdisjoint(dict(head))
    assert len({len(page.content) for page in pages}) == 1
    originals = {p.name: p.read_bytes() for p in (run / "samples").iterdir()}
    for page in pages:
        assert page.content not in originals.values()
        picture = Image.open(io.BytesIO(page.content))
        picture.load()
        assert picture.info == {}
    page = at_first_item(client, survey)
    for shown in (text, page.text):
        assert not re.search(r"\b(itc|itm|cap|shift|abcdef|samples|real|repeat|check)\b", shown)


def test_pictures_are_the_studys(survey: SurveyFile, run: Path) -> None:
    for token, about in survey.images().items():
        picture = Image.open(io.BytesIO(survey.image(token) or b""))
        original = Image.open(run / "samples" / f"{about['key']}.png")
        assert picture.tobytes() == original.convert("RGB").tobytes()


@pytest.mark.parametrize(
    "path",
    [
        "/i/../../etc/passwd", "/i/%2e%2e%2fsurvey.db", "/i/..%2F..%2Fetc%2Fpasswd", "/i/' OR 1=1 --", "/i/%00",
        "/static/../server.py", "/static/%2e%2e%2f__init__.py", "/static/base.html.j2", "/r/' OR '1'='1",
        "/r/%25", "/join/x", "/docs", "/openapi.json", "/survey.db", "/samples/000000abcdef.png",
    ],
)  # fmt: skip
def test_nothing_but_the_survey_is_reached(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert b"root:" not in answer.content


def test_injected_text_is_text(make: Callable[..., SurveyFile], run: Path) -> None:
    nasty = '<script>alert("x")</script>'
    survey = make(title=nasty, contact=nasty, consent=nasty, questions=[f"taste={nasty}"])
    with client_of(survey) as client:
        pages = [client.get(personal(survey)), at_first_item(client, survey)]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;" in page.text


def test_injected_sql_changes_nothing(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    for value in ("1); DROP TABLE vote; --", "1 OR 1=1", "1'", "\N{ARABIC-INDIC DIGIT ONE}", "1" * 5000):
        page = client.post(form.action, data={**form.hidden, "realism": value, "alignment": "1"})
        assert page.status_code in (400, 422)
    assert survey.votes() == []


def test_forms_are_signed_for_rater_screen_and_moment(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    answers = first(form)
    others = personal(survey, 1)
    attempts = [
        (form.action, {**form.hidden, "signature": "0" * 64}),
        (form.action, {**form.hidden, "signature": "é"}),
        (form.action, {k: v for k, v in form.hidden.items() if k != "signature"}),
        (form.action, {**form.hidden, "shown": "1.0"}),
        (form.action, {**form.hidden, "revise": "1"}),
        (form.action[:-1] + "2", form.hidden),
        (f"{others}/1", form.hidden),
        (f"{others}/consent", form.hidden),
    ]
    for action, hidden in attempts:
        assert client.post(action, data={**hidden, **answers}).status_code == 403, (action, hidden)
    assert survey.votes() == []


def test_forms_of_other_sites_are_refused(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    data = {**form.hidden, **first(form)}
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.post(form.action, data=data, headers=headers).status_code == 403
    assert survey.votes() == []
    ours = {"origin": BASE, "sec-fetch-site": "same-origin"}
    assert client.post(form.action, data=data, headers=ours).status_code == 200
    assert len(survey.votes()) == 2


def test_joining_needs_ones_own_cookie(survey: SurveyFile) -> None:
    with client_of(survey) as mine, client_of(survey) as theirs:
        form = read(mine.get("/").text)
        theirs.get("/")
        assert theirs.post(form.action, data=form.hidden).status_code == 403
    assert not [r for r in survey.raters() if r.source == "open"]


@pytest.mark.parametrize("agree", ["", "0", None])
def test_nobody_takes_part_without_agreeing(client: Client, survey: SurveyFile, agree: str | None) -> None:
    for start in ("/", personal(survey)):
        form = read(client.get(start).text)
        data = {name: value for name, value in {**form.hidden, "agree": agree}.items() if value is not None}
        page = client.post(form.action, data=data)
        assert page.status_code == 422
        assert "Please tick the box" in page.text
    assert [r for r in survey.raters() if r.source == "open" or r.consented is not None] == []


def test_one_address_cannot_fill_a_survey(survey: SurveyFile) -> None:
    limits = Limits(join_rate=0.0001, join_burst=5)
    app = create_app(survey, limits=limits)
    codes = []
    for _ in range(60):
        with Client(app, BASE) as visitor:
            form = read(visitor.get("/").text)
            codes.append(visitor.post(form.action, data=form.hidden).status_code if form.action else 429)
    assert codes.count(200) == 5
    assert set(codes) == {200, 429}
    assert survey.join("somebody else") is not None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("host", "[::1"), ("host", "127.0.0.1:port"), ("host", "evil@127.0.0.1"), ("host", "127.0.0.1/x"),
        ("host", "a b"), ("host", ""), ("origin", "http://[::1"), ("origin", "http://127.0.0.1:x"), ("origin", "x"),
    ],
)  # fmt: skip
def test_malformed_hosts_and_origins_are_400(client: Client, header: str, value: str) -> None:
    for method in (client.get, client.post):
        answer = method("/", headers={header: value})
        assert answer.status_code == 400
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_proxy_that_drops_the_host_is_named_once(
    survey: SurveyFile, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(survey, "http://10.0.0.7:8000", local=False) as client:
        form = read(client.get(f"/join/{survey.meta['open']}").text)
        for _ in range(2):
            headers = {"origin": "https://rate.example", "sec-fetch-site": "same-origin"}
            assert client.post(form.action, data=form.hidden, headers=headers).status_code == 403
    (record,) = [r for r in caplog.records if r.name == "guidelens.serving.gate"]
    assert "form from https://rate.example was refused" in record.getMessage()
    assert "names the host '10.0.0.7'" in record.getMessage()
    assert "let the proxy pass the Host header on" in record.getMessage()


@pytest.mark.parametrize("strips", [True, False])
def test_below_a_path_of_a_proxy(survey: SurveyFile, strips: bool) -> None:
    """All addresses have the prefix, whether or not the proxy takes it off on the way."""
    app = create_app(survey, root_path="/rate")

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        assert path.startswith("/rate/"), path
        await app({**scope, "path": path.removeprefix("/rate")} if strips else scope, receive, send)

    with Client(proxy, BASE) as client:
        page = client.get("/rate/")
        assert re.search(r'href="/rate/static/survey.css"', page.text)
        form = read(page.text)
        item = read(client.post(form.action, data=form.hidden).text)
        assert item.action.startswith("/rate/r/")
        assert "Thank you" in walk(client, item.action)
    assert len(survey.votes()) == 16
    with pytest.raises(UsageError, match="root path 'rate': it begins with a slash"):
        create_app(survey, root_path="rate")
    for odd in (
        "//evil.com",
        "/..",
        "/a/../b",
        "/a b",
        '/"><script>',
        "/?x",
        "/a\nb",
        "/" + "a" * 5000,
        "/%2f",
    ):
        with pytest.raises(UsageError, match="its parts are letters, digits") as caught:
            create_app(survey, root_path=odd)
        assert "\n" not in str(caught.value)


def test_a_rater_who_closes_the_page_is_no_error(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": form.action, "raw_path": form.action.encode(), "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "scheme": "http", "root_path": "",
    }  # fmt: skip
    client.loop.run_until_complete(create_app(survey)(scope, receive, send))
    assert sent[0]["status"] == 400
    assert survey.votes() == []


def test_a_form_that_does_not_arrive_is_given_up(
    client: Client, survey: SurveyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    form = read(at_first_item(client, survey).text)

    async def halves() -> Any:
        yield b"shown="
        await asyncio.sleep(30)

    answer = client.post(form.action, content=halves())
    assert answer.status_code == 408


@pytest.mark.parametrize("head", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_connections_that_send_no_whole_head_are_closed(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they send nothing, half a line, or a head without an end, also after a first request."""
    monkeypatch.setattr(gate, "HEAD_SECONDS", 0.2)

    async def empty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def watch() -> None:
        config = uvicorn.Config(empty, port=0, lifespan="off", log_level="error", http=ImpatientProtocol)
        running = uvicorn.Server(config)
        task = asyncio.create_task(running.serve())
        while not running.started:
            await asyncio.sleep(0.01)
        port = running.servers[0].sockets[0].getsockname()[1]
        for before in (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            if before and not head:
                continue  # an idle connection after a request is uvicorn's to close
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(before)
            if before:
                assert b"204" in await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
        running.should_exit = True
        await task

    asyncio.run(watch())


def test_elsewhere_a_link_is_needed(survey: SurveyFile) -> None:
    with client_of(survey, "http://survey.example", local=False) as client:
        assert client.get("/").status_code == 404
        assert client.get("/join/guess").status_code == 404
        assert client.get(f"/join/{survey.meta['open']}").status_code == 200


def test_here_other_names_are_refused(client: Client) -> None:
    """A page elsewhere whose name resolves to this machine gets nothing (DNS rebinding)."""
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "localhost:8000"}).status_code == 200


def test_headers_of_every_answer(client: Client, survey: SurveyFile) -> None:
    token = next(iter(survey.images()))
    paths = ["/", "/nothing", f"/i/{token}", "/static/survey.css", "/static/survey.js", personal(survey)]
    for path in paths:
        head = client.get(path).headers
        policy = head["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert head["x-content-type-options"] == "nosniff"
        assert head["x-frame-options"] == "DENY"
        assert "server" not in head
    assert client.get("/").headers["cache-control"] == "no-store"


def test_pages_obey_their_own_policy(client: Client, survey: SurveyFile) -> None:
    page = at_first_item(client, survey)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://", page.text)


def test_requests_are_limited(survey: SurveyFile) -> None:
    with client_of(survey, limits=Limits(0.001, 5, 0.001, 3)) as client:
        codes = [client.get(f"/r/{'x' * 22}").status_code for _ in range(5)]
        assert codes == [404, 404, 404, 429, 429]
        codes = [client.get(personal(survey) + "/consent").status_code for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        assert client.get(personal(survey, 1) + "/consent").status_code == 200


def test_buckets_fill_again() -> None:
    buckets = Buckets(2.0, 3, remember=2)
    assert [buckets.allow("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [buckets.allow("a", 1.0) for _ in range(3)] == [True, True, False]
    for name in "bc":
        buckets.allow(name, 1.0)
    assert list(buckets._levels) == ["b", "c"]


def test_large_and_broken_forms_are_refused(client: Client, survey: SurveyFile) -> None:
    form = read(at_first_item(client, survey).text)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post(form.action, content=b"a=" + b"b" * 20_000, headers=kind).status_code == 413
    assert client.post(form.action, content=b"\xff\xfe", headers=kind).status_code == 400
    assert client.post(form.action, content=b"a=1&" * 100, headers=kind).status_code == 400


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "192.168.0.2", "example.org", "localhost.evil.example", ""))
    )


def test_a_full_disk_is_said_and_the_answer_can_be_sent_again(
    client: Client, survey: SurveyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = read(at_first_item(client, survey).text)
    data = {**form.hidden, **first(form)}
    with monkeypatch.context() as patch:
        patch.setattr(survey, "vote", broken)
        page = client.post(form.action, data=data)
        assert page.status_code == 503
        assert "could not be stored" in page.text
        assert "content-security-policy" in page.headers
    assert client.post(form.action, data=data).url.path.endswith("/2")
    assert len(survey.votes()) == 2


def broken(*_: object, **__: object) -> int:
    raise GuidelensError("cannot write: database or disk is full")


def test_a_failed_write_stores_nothing_of_a_screen(survey: SurveyFile) -> None:
    """Both questions or none: the second row of a screen is made to fail."""
    rater = survey.join("v")
    assert rater is not None
    item = survey.items(rater.seat)[0]
    survey._db.execute(
        "CREATE TRIGGER full BEFORE INSERT ON vote WHEN NEW.question = 'alignment'"
        " BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    with pytest.raises(sqlite3.IntegrityError):
        survey.vote(rater, item, {"realism": 1, "alignment": 1})
    assert survey.votes() == []
