"""The page, its charts, the grid of pictures and the trajectory."""

from __future__ import annotations

import html.parser
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from guidelens.comparison import compare
from guidelens.errors import UsageError
from guidelens.report import page as page_module
from guidelens.report.charts import Line, line_chart
from guidelens.report.grid import draw_grid, fit, wrap
from guidelens.report.page import render_page, render_sweep
from guidelens.report.trajectory import animation_format, encode_trajectory
from guidelens.sampling import Sampling
from guidelens.svg import element, number, short
from PIL import Image, ImageFont
from tiny_world import Brightness, TinyGenerator, TinyGuidance, Weights

NASTY = "<script>alert(\"x\")</script> & 'q' http://example.org/a.png"
PROMPTS = ["a red circle above a dot", NASTY, "something unscorable"]

NO_STEPS: dict[str, Any] = {"losses": {}, "gradient_norms": {}, "cosines": {}}


class Reader(html.parser.HTMLParser):
    """Collects the elements of a page and checks that they nest."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    schedules = [Weights("itc", {"itc": 1.0}), Weights("<shift>", {"cap": 1.0}, {"itc": 1.0})]
    compare(
        PROMPTS,
        sampling=Sampling(steps=4),
        out=out,
        generator=TinyGenerator(),
        guidance=TinyGuidance(),
        schedules=schedules,
        metrics=[Brightness()],
        seeds=2,
        device="cpu",
        command="guidelens compare --out 'my <run>'",
    )
    return out


@pytest.fixture(scope="module")
def page(directory: Path) -> Reader:
    return read((directory / "index.html").read_text(encoding="utf-8"))


def rows_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


def test_page_shows_every_cell_with_scores_and_details(directory: Path, page: Reader) -> None:
    identifiers = {attributes.get("id") for _, attributes in page.elements}
    targets = [attributes.get("popovertarget") for attributes in page.all("button")]
    rows = rows_of(directory)
    assert len(rows) == 12
    for row in rows:
        assert f"d-{row['key']}" in identifiers
        assert targets.count(f"d-{row['key']}") == 2  # opens and closes
    text = " ".join(page.text)
    assert all(f"{row['metrics']['bright']:.2f}" in text for row in rows if "bright" in row["metrics"])
    assert page.text.count("metric failed") == 4
    assert "Metric brightness failed on 4 pictures: RuntimeError: cannot read the picture of" in text


def test_page_leads_with_the_pictures_and_its_question(directory: Path, page: Reader) -> None:
    assert "2 schedules on 3 prompts" in page.text
    text = (directory / "index.html").read_text(encoding="utf-8")
    assert text.index('id="pictures"') < text.index('class="headline"') < text.index("Table of scores")
    same = [str(button["data-same"]) for button in page.all("button") if "data-same" in button]
    assert sorted(same) == sorted(2 * [f"{prompt}-0-{seed}" for prompt in range(3) for seed in range(2)])


def with_key(row: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a row under another key; its files are named after the key."""
    return {
        name: value.replace(row["key"], key) if isinstance(value, str) else value
        for name, value in row.items()
    }


def test_page_shows_four_seeds_and_folds_the_rest(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "step_series", lambda directory, row: NO_STEPS)
    copy = tmp_path / "run"
    shutil.copytree(directory, copy)
    rows = rows_of(copy)
    more = [with_key(rows[0], f"{seed:020x}") | {"seed": seed} for seed in range(2, 6)]
    for row in more:
        shutil.copy(copy / rows[0]["image"], copy / "samples" / f"{row['key']}.png")
    lines = [json.dumps(row) for row in [*rows, *more]]
    (copy / "results.jsonl").write_text("\n".join(lines) + "\n")
    text = render_page(copy)
    (folded,) = re.findall(r"<summary>2 more</summary>.*?</details>", text, re.DOTALL)
    assert f'data-key="{5:020x}"' in folded
    assert f'data-key="{3:020x}"' not in folded


def test_a_sweep_has_a_row_for_each_value(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "step_series", lambda directory, row: NO_STEPS)
    runs = {"scale 0.3": tmp_path / "scale=0.3", "scale 3": tmp_path / "scale=3"}
    for run in runs.values():
        shutil.copytree(directory, run)
    for row in rows_of(runs["scale 3"]):
        key = row["key"]
        (runs["scale 3"] / f"samples/{key}.png").rename(runs["scale 3"] / f"samples/{key[::-1]}.png")
    table = runs["scale 3"] / "results.jsonl"
    changed = [with_key(row, row["key"][::-1]) for row in rows_of(runs["scale 3"])]
    table.write_text("\n".join(map(json.dumps, changed)) + "\n")
    page = read(render_sweep(runs, tmp_path))
    assert page.text.count("scale 0.3") >= 3 * 1 + 1  # beside each prompt, and over the tables
    regions = [region.get("aria-label") for region in page.all("div")]
    assert {"Table of scores, scale 0.3", "Table of scores, scale 3"} <= set(regions)
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))


def test_page_asks_nobody_for_anything(directory: Path, page: Reader) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    text = (directory / "index.html").read_text(encoding="utf-8")
    outside = text.replace("http://example.org/a.png", "")
    assert not re.search(r"https?:|//cdn|@import|url\(", outside)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_page_escapes_what_users_write(directory: Path, page: Reader) -> None:
    assert len(page.all("script")) == 1
    assert not page.all("shift")
    assert NASTY in page.text
    assert any("my <run>" in text for text in page.text)
    assert "<shift>" in page.text


def test_page_is_accessible(page: Reader) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(image.get("alt") for image in page.all("img"))
    assert all(
        svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg.get("aria-label"))
        for svg in page.all("svg")
    )
    assert len(page.all("h1")) == 1
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert any(m.get("name") == "viewport" for m in page.all("meta"))
    # Without scripts the filters would do nothing, so they show only where scripts run.
    assert all("hidden" in form for form in page.all("form"))


def test_page_says_how_to_draw_a_cell_again(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(directory, copy)
    config = json.loads((copy / "config.json").read_text())
    assert config["plugins"] is None  # the models were objects, which no command can name
    (copy / "config.json").write_text(json.dumps({**config, "plugins": ["tiny"]}))
    text = "\n".join(read(render_page(copy)).text)
    words = "guidelens -p tiny generate 'a red circle above a dot' --schedule itc --seed 1 --generator "
    assert words in text
    assert "--steps 4 " in text
    assert "guidelens compare --out 'my <run>'" in text


def test_page_links_to_pictures_when_they_are_too_many(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "INLINE_BYTES", 10)
    sources = [image["src"] for image in read(render_page(directory)).all("img")]
    assert {f"samples/{row['key']}.png" for row in rows_of(directory)} == set(sources)
    assert all((directory / str(source)).exists() for source in sources)


def test_page_of_objects_gives_no_command(tmp_path: Path) -> None:
    result = compare(
        "a",
        sampling=Sampling(steps=2),
        out=tmp_path / "out",
        generator=TinyGenerator(),
        guidance=TinyGuidance(),
        schedules=[Weights("itc", {"itc": 1.0})],
        metrics=(),
        seeds=1,
        device="cpu",
    )
    text = result.page.read_text()
    assert "draw it again" not in text
    assert "No metric scored these pictures." in text


def test_contrast_of_the_palette() -> None:
    """Text colours of both themes reach 4.5 : 1 on page and card (WCAG 2.1 AA)."""
    style = (Path(page_module.__file__).parent / "templates" / "page.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
    for theme in (light, dark.split("}\n}")[0]):
        colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", theme))
        assert {"ink", "soft", "accent", "warn", "good", "bad"} <= colours.keys()
        for name, colour in colours.items():
            if name not in ("paper", "card", "line"):
                for ground in ("paper", "card"):
                    assert contrast(colour, colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_chart_maps_values_to_places_and_leaves_gaps() -> None:
    svg = line_chart([Line([0.0, 1.0, None, 0.5, 0.5], 2)], 'a "label"')
    assert 'aria-label="a &#34;label&#34;"' in svg
    (path,) = re.findall(r'class="line c2" d="([^"]+)"', svg)
    # x from 34 to 216 over five steps, y from 63 (low) up to 5 (high).
    assert path == "M34 63L79.5 5M170.5 34L216 34"


def test_chart_draws_a_lonely_value_as_a_dot_and_survives_extremes() -> None:
    (path,) = re.findall(r'class="line c0" d="([^"]+)"', line_chart([Line([None, 2.0, None])], "x"))
    assert path.endswith("h0")
    assert 'class="line' not in line_chart([Line([None, None])], "x")
    assert "nan" not in line_chart([Line([3.0, 3.0])], "x")
    assert len(line_chart([Line([float(i) for i in range(5000)])], "x")) < 4000


def test_elements_escape_what_they_are_given() -> None:
    drawn = element(
        "text", "<b>", element("tspan"), class_="mid", x=1.0, stroke_width=0.04, id="", title='"&'
    )
    assert drawn == '<text class="mid" x="1" stroke-width="0" title="&#34;&amp;">&lt;b&gt;<tspan/></text>'
    assert [number(value) for value in (-0.01, 12.25, 100.0, -3.06)] == ["0", "12.2", "100", "-3.1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (0.0312, "0.031"),
        (-0.5, "-0.50"),
        (2e5, "2e5"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def pixels_of(image: Image.Image) -> list[tuple[int, int, int]]:
    raw = image.tobytes()
    return [(raw[i], raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 3)]


def row(prompt: str, schedule: str, seed: int) -> dict[str, Any]:
    return {"prompt": prompt, "schedule": schedule, "seed": seed, "key": f"{prompt}-{schedule}-{seed}"}


def test_grid_places_prompts_down_and_schedules_across() -> None:
    colours = {"a": 40, "b": 200}
    levels = {"itc": 10, "cap": 30}

    def load(key: str) -> Image.Image:
        prompt, schedule, seed = key.split("-")
        return Image.new("RGB", (8, 8), (colours[prompt], levels[schedule], int(seed)))

    rows = [row(p, s, n) for p in "ab" for s in ("itc", "cap") for n in range(6)]
    sheet = draw_grid(rows, load)
    seen = {
        pixel: None
        for pixel in pixels_of(sheet)
        if pixel[0] in colours.values() and pixel[1] in levels.values()
    }
    assert list(seen) == [
        (colours[p], levels[s], n) for p in "ab" for pair in ((0, 1), (2, 3)) for s in levels for n in pair
    ]


def test_grid_leaves_missing_cells_blank_and_keeps_pixels_crisp() -> None:
    checkers = Image.new("RGB", (2, 2), (255, 0, 0))
    checkers.putpixel((0, 0), (0, 0, 255))
    sheet = draw_grid([row("a", "itc", 0), row("b", "cap", 0)], lambda key: checkers)
    counts = {colour: count for count, colour in sheet.getcolors(1 << 20)}
    assert counts[0, 0, 255] == 2 * 96 * 96
    assert counts[255, 0, 0] == 2 * 3 * 96 * 96
    with pytest.raises(ValueError, match="no pictures"):
        draw_grid([], lambda key: checkers)


def test_pictures_fit_their_square() -> None:
    tall = fit(Image.new("RGB", (50, 100), (9, 9, 9)), 20)
    assert tall.size == (20, 20)
    assert tall.getpixel((0, 10)) == (255, 255, 255)
    assert tall.getpixel((10, 10)) == (9, 9, 9)


def test_text_wraps_at_words_and_inside_long_ones() -> None:
    font = ImageFont.load_default(16)
    lines = wrap("a red circle and " + "x" * 60, font, 120)
    assert len(lines) > 3
    assert all(font.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == "aredcircleand" + "x" * 60
    assert wrap("", font, 120) == [""]


@pytest.mark.parametrize("kind", ["WEBP", "GIF"])
def test_trajectory_is_an_animation_that_rests_at_the_end(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), (20 * i, 0, 255 - 20 * i)) for i in range(5)]
    with Image.open(io.BytesIO(encode_trajectory(frames, kind))) as animation:
        assert (animation.format, animation.n_frames, animation.size) == (kind, 5, (256, 256))
        animation.seek(4)
        animation.load()
        assert animation.info["duration"] >= 1000
        pixel = animation.convert("RGB").getpixel((100, 100))
        assert pixel == pytest.approx((80, 0, 175), abs=3)


def test_trajectory_formats() -> None:
    assert animation_format(Path("a.WebP")) == "WEBP"
    with pytest.raises(UsageError, match=r"a \.webp or \.gif file, not 'x\.mp4'"):
        animation_format(Path("x.mp4"))
    with pytest.raises(ValueError, match="no frames"):
        encode_trajectory([], "GIF")
