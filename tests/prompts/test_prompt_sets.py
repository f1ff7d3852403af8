"""Published prompt sets: their formats, in tiny files of our own wording; fetching, with a local server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from guidelens import Fact, GuidelensError, Prompt, UsageError
from guidelens.cli.main import cli
from guidelens.metrics.facts import FactsMetric
from guidelens.metrics.questions import YesNoModel
from guidelens.plugins import PluginManager
from guidelens.testing import check_prompt_set
from guidelens.weights import WeightsFile
from guidelens_prompt_files.published import SETS


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load(environment={})


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path / "cache"))
    for name in ("GUIDELENS_PROMPTS", "GUIDELENS_OFFLINE", "GUIDELENS_MIRROR", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def read(tmp_path: Path, plugins: PluginManager) -> Callable[..., list[Prompt]]:
    def read(name: str, filename: str, text: str) -> list[Prompt]:
        (tmp_path / filename).write_text(text, encoding="utf-8")
        prompts = list(plugins.build("prompts", f"{name}:path={tmp_path / filename}"))
        check_prompt_set(prompts)
        return prompts

    return read


def lines(*entries: object) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def test_partiprompts(read) -> None:  # type: ignore[no-untyped-def]
    text = (
        'Prompt\tCategory\tChallenge\tNote\nthe word "GO"\tArts\tBasic\t\na cat\tAnimals\tBasic\tSee "Cats"\n'
    )
    assert read("partiprompts", "p.tsv", text) == [
        Prompt('the word "GO"', "Arts"),
        Prompt("a cat", "Animals"),
    ]


def test_coco_has_pictures(read) -> None:  # type: ignore[no-untyped-def]
    text = "id\timage_id\tcaption\tfile_name\n7\t9\tA cat  naps.\t9.jpg\n8\t9\t\t9.jpg\n"
    assert read("coco", "c.tsv", text) == [Prompt("A cat naps.", picture="9.jpg")]


COCO_CATEGORIES = {1: "person", 18: "dog", 34: "frisbee", 63: "couch"}


def coco_files(folder: Path, captions: list[str], *objects: tuple[int, int, float, int]) -> Path:
    """Write captions of one picture, and annotated objects: how many, category, area of each, and whether a crowd."""
    images = [{"id": 7, "file_name": "000000000007.jpg", "height": 4, "width": 4}]
    listed = [{"id": i, "image_id": 7, "caption": text} for i, text in enumerate(captions)]
    path = folder / "captions_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": listed}))
    instances = [
        {
            "id": 1,
            "image_id": 7,
            "category_id": category,
            "area": area,
            "iscrowd": crowd,
            "bbox": [0, 0, 1, 1],
        }
        for number, category, area, crowd in objects
        for _ in range(number)
    ]
    categories = [{"id": id, "name": name, "supercategory": "thing"} for id, name in COCO_CATEGORIES.items()]
    content = {"images": images, "annotations": instances, "categories": categories}
    (folder / "instances_val2017.json").write_text(json.dumps(content))
    return path


def test_coco_facts_are_the_mentioned_objects(plugins: PluginManager, tmp_path: Path) -> None:
    """In order of mention, by other words too; a stated number is a fact only if the annotations agree."""
    captions = ["Two dogs on a sofa  near three men.", "A frisbee.", "Something blue."]
    path = coco_files(tmp_path, captions, (2, 18, 9.0, 0), (2, 1, 50.0, 0), (1, 63, 99.0, 0), (1, 34, 1.0, 0))
    first, second, third = plugins.build("prompts", f"coco:path={path}")
    check_prompt_set([first, second, third])
    assert first == Prompt(
        "Two dogs on a sofa near three men.",
        picture="000000000007.jpg",
        facts=(
            Fact("object", "dog"),
            Fact("object", "couch"),
            Fact("object", "person"),
            Fact("count", "dog", number=2, needs=(0,)),
        ),
    )
    assert second.facts == (Fact("object", "frisbee"),)
    assert third.facts == ()


def test_coco_facts_of_the_whole_scene(plugins: PluginManager, tmp_path: Path) -> None:
    """Unnamed objects follow by size; crowds and more than ten are not counted."""
    path = coco_files(
        tmp_path, ["A dog."], (1, 18, 5.0, 0), (11, 34, 1.0, 0), (1, 1, 90.0, 1), (2, 63, 20.0, 0)
    )
    (prompt,) = plugins.build("prompts", f"coco:path={path},objects=all")
    assert [fact.subject for fact in prompt.facts if fact.kind == "object"] == [
        "dog",
        "person",
        "couch",
        "frisbee",
    ]
    counts = [fact for fact in prompt.facts if fact.kind == "count"]
    assert counts == [
        Fact("count", "dog", number=1, needs=(0,)),
        Fact("count", "couch", number=2, needs=(2,)),
    ]


def test_coco_annotations_are_asked_for(plugins: PluginManager, tmp_path: Path) -> None:
    """By the metric ``facts``, of a model that says yes to everything but dogs."""
    path = coco_files(tmp_path, ["Two dogs on a couch"], (2, 18, 9.0, 0), (1, 63, 3.0, 0))
    (prompt,) = plugins.build("prompts", f"coco:path={path}")
    asked: list[str] = []

    def probabilities(images: torch.Tensor, texts: list[list[str]]) -> list[list[float]]:
        asked.extend(text for row in texts for text in row)
        return [[0.0 if "dog" in text else 1.0 for text in row] for row in texts]

    model = YesNoModel(Answering(), "toy")
    model.probabilities = probabilities  # type: ignore[method-assign, assignment]
    (found,) = FactsMetric(model).score(torch.zeros(1, 3, 8, 8), [prompt])
    assert asked == ["a dog", "a couch", "two dogs"]
    assert found["fact_recall@toy"] == 0.5
    assert found["fact_recall_main@toy"] == found["fact_count@toy"] == 0.0


class Answering:
    objectives = frozenset({"itm"})


def test_coco_files_that_do_not_fit(
    plugins: PluginManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = coco_files(tmp_path, ["A dog."], (1, 18, 5.0, 0))
    with pytest.raises(
        UsageError, match=r"instances_val2017\.json does not have the format of COCO's captions"
    ):
        plugins.build("prompts", f"coco:path={tmp_path / 'instances_val2017.json'}")
    with pytest.raises(UsageError, match=r"format of COCO's instances: KeyError: 'categories'"):
        plugins.build("prompts", f"coco:path={path},instances={path}")
    (tmp_path / "instances_val2017.json").unlink()
    (prompt,) = plugins.build("prompts", f"coco:path={path}")
    assert not prompt.facts
    assert "no instances_val2017.json beside the captions" in caplog.text
    with pytest.raises(UsageError, match="instances= needs path=captions_SPLIT"):
        plugins.build("prompts", "coco:instances=a.json")
    with pytest.raises(UsageError, match="holds no caption"):
        plugins.build("prompts", f"coco:path={coco_files(tmp_path, [' '])}")


def test_geneval_facts_follow_the_prompt(read) -> None:  # type: ignore[no-untyped-def]
    include = [{"class": "wine glass", "count": 1}, {"class": "bus", "count": 1, "position": ["left of", 0]}]
    position = {"tag": "position", "include": include, "prompt": "a photo of a bus left of a wine glass"}
    counting = {
        "tag": "counting",
        "include": [{"class": "computer mouse", "count": 3}],
        "exclude": [{"class": "computer mouse", "count": 4}],
        "prompt": "a photo of three computer mice",
    }
    colors = {
        "tag": "colors",
        "include": [{"class": "cow", "count": 1, "color": "red"}],
        "prompt": "a red cow",
    }
    first, second, third = read("geneval", "g.jsonl", lines(position, counting, colors))
    assert first.facts == (
        Fact("object", "bus"),
        Fact("object", "wine glass"),
        Fact("relation", "bus", "left of", "wine glass", needs=(0, 1)),
    )
    assert second.category == "counting"
    assert second.facts[1] == Fact("count", "computer mouse", number=3, needs=(0,))
    assert third.facts == (Fact("object", "cow"), Fact("attribute", "cow", "red", needs=(0,)))


def test_geneval2(read) -> None:  # type: ignore[no-untyped-def]
    entry = {
        "prompt": "two stone owls behind a lamp",
        "atom_count": 4,
        "vqa_list": [
            ["How many owls are in the image?", "two"],
            ["Are the owls stone?", "Yes"],
            ["Are there any owls in the image?", "Yes"],
            ["Are the owls behind the lamp?", "Yes"],
            ["How many lamps are in the image?", "one"],
            ["Are there any lamps in the image?", "Yes"],
        ],
        "skills": ["count", "attribute", "object", "position", "count", "object"],
    }
    (prompt,) = read("geneval2", "g2.jsonl", lines(entry))
    assert prompt.category == "4 atoms"
    assert prompt.facts == (
        Fact("object", "owl", question="Are there any owls in the image?"),
        Fact("object", "lamp", question="Are there any lamps in the image?"),
        Fact("count", "owl", number=2, needs=(0,)),
        Fact("attribute", "owl", "stone", question="Are the owls stone?", needs=(0,)),
        Fact("relation", "owl", "behind", "lamp", question="Are the owls behind the lamp?", needs=(0, 1)),
        Fact("count", "lamp", number=1, needs=(1,)),
    )


DSG = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
zoo_1,Two owls on a lamp,owls,1,0,entity,whole,entity - whole (owls),Are there owls?
zoo_1,Two owls on a lamp,"owls, ==2",2,1,other,count,"other - count (owls, ==2)",Are there two owls?
zoo_1,Two owls on a lamp,lamp,3,0,entity,whole,entity - whole (lamp),Is there a lamp?
zoo_1,Two owls on a lamp,"owls, lamp, on",4,"1,3",relation,spatial,"relation - spatial (owls, lamp, on)",Are they on it?
zoo_1,Two owls on a lamp,"owls, a, b",5,1,attribute,state,"attribute - state (owls, a, b)",Are the owls a and b?
zoo_1,Two owls on a lamp,photo,6,0,global,-,global - - (photo),Is this a photo?
zoo_2,Two owls on a lamp,owls,1,0,entity,whole,entity - whole (owls),Are there owls?
sea_3,A whale,whale,1,0,entity,whole,entity - whole (whale),Is there a whale?
"""


def test_dsg_prompts_come_once(read) -> None:  # type: ignore[no-untyped-def]
    owls, whale = read("dsg1k", "d.csv", DSG)
    assert (owls.text, owls.category, whale.category) == ("Two owls on a lamp", "zoo", "sea")
    assert [(f.kind, f.subject, f.value, f.object, f.number, f.needs) for f in owls.facts] == [
        ("object", "owls", "", "", 0, ()),
        ("count", "owls", "", "", 2, (0,)),
        ("object", "lamp", "", "", 0, ()),
        ("relation", "owls", "on", "lamp", 0, (0, 2)),
        ("attribute", "owls", "a, b", "", 0, (0,)),
        ("other", "photo", "", "", 0, ()),
    ]
    assert owls.facts[1].question == "Are there two owls?"


def test_winoground_gives_two_pairs(read) -> None:  # type: ignore[no-untyped-def]
    entry = {
        "id": 0,
        "image_0": "ex_0_img_0",
        "image_1": "ex_0_img_1",
        "caption_0": "a dog on a cat",
        "caption_1": "a cat on a dog",
        "collapsed_tag": "Object",
    }
    assert read("winoground", "w.jsonl", lines(entry)) == [
        Prompt("a dog on a cat", "Object", foil="a cat on a dog", picture="ex_0_img_0.png"),
        Prompt("a cat on a dog", "Object", foil="a dog on a cat", picture="ex_0_img_1.png"),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the sets that have several."""
    for published in SETS:
        for file, category in published.parts:
            if published.name == "t2i-compbench":
                (tmp_path / file.filename).write_text(f"a {category} cat\n\nanother one\n")
            if published.name == "sugarcrepe":
                entry = {"filename": "1.jpg", "caption": f"{category} a", "negative_caption": "b"}
                (tmp_path / file.filename).write_text(json.dumps({"0": entry}))
            if published.name == "aro":
                box = {"bbox_x": 1, "bbox_y": 2, "bbox_w": 30, "bbox_h": 40}
                pair = {"true_caption": "the owl is on the lamp", "false_caption": "the lamp is on the owl"}
                (tmp_path / file.filename).write_text(json.dumps([{"image_path": "7.jpg", **pair, **box}]))
    return tmp_path


def test_sets_of_several_files(folder: Path, plugins: PluginManager) -> None:
    compbench = plugins.build("prompts", f"t2i-compbench:path={folder}")
    assert len(compbench) == 16
    assert compbench[8] == Prompt("a 3d_spatial cat", "3d_spatial")
    chosen = plugins.build("prompts", f"sugarcrepe:path={folder},category=swap_att+add_obj")
    assert chosen == [
        Prompt("add_obj a", "add_obj", foil="b", picture="1.jpg"),
        Prompt("swap_att a", "swap_att", foil="b", picture="1.jpg"),
    ]
    aro = plugins.build("prompts", f"aro:path={folder}")
    assert [prompt.category for prompt in aro] == ["relation", "attribution"]
    assert aro[0].picture == "7.jpg#xywh=1,2,30,40"
    (folder / "swap_obj.json").unlink()
    with pytest.raises(GuidelensError, match=r"has no swap_obj\.json"):
        plugins.build("prompts", f"sugarcrepe:path={folder}")


@pytest.mark.parametrize(
    ("name", "filename", "text"),
    [
        ("geneval", "a.jsonl", '{"prompt": "a cat"}\n'),
        (
            "geneval2",
            "a.jsonl",
            '{"prompt": "a", "atom_count": 1, "vqa_list": [["?", "x"]], "skills": ["object"]}',
        ),
        ("dsg1k", "a.csv", "text,item_id\na cat,x_1\n"),
        ("winoground", "a.jsonl", "[]\n"),
    ],
)
def test_files_of_another_format_are_refused(read, name: str, filename: str, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=r"does not have the format of "):
        read(name, filename, text)


@pytest.mark.parametrize("published", SETS, ids=lambda published: published.name)
def test_a_missing_set_says_source_licence_and_command(published, plugins: PluginManager) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(GuidelensError) as caught:
        plugins.build("prompts", published.name)
    message = str(caught.value)
    assert f"run `guidelens weights fetch {published.name}`" in message
    assert published.files[0].origin in message
    assert f"licence: {published.files[0].licence}" in message


def test_every_file_has_a_licence_a_citation_and_a_commit_or_no_hash() -> None:
    for published in SETS:
        for file in published.files:
            assert file.licence
            assert file.citation
            assert file.component == f"prompt set {published.name}"
            assert (file.sha256 is not None) == ("raw.githubusercontent.com" in file.url)


def test_hub_data_sets_have_their_own_place() -> None:
    file = WeightsFile("w", "w.jsonl", hub="datasets/acme/words/data/w.jsonl")
    assert file.hub_place == ("datasets/acme/words", "data/w.jsonl", "main")
    assert file.address.endswith("/datasets/acme/words/resolve/main/data/w.jsonl")


# -- fetching

SHEET = '"Prompts","Category"\n' + "".join(f'"A cat number {n}, asleep.","Counting"\n' for n in range(60))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A local server in place of the publishers; yields the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = SHEET.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/csv; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("GUIDELENS_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_set_without_a_published_hash_is_fetched_and_recorded(
    mirror: list[str], plugins: PluginManager
) -> None:
    shown = CliRunner().invoke(cli, ["weights", "fetch", "drawbench"])
    assert shown.exit_code == 0, shown.output
    assert mirror == ["/spreadsheets/d/1y7nAbmR4FREi6npB1u-Bo3GFdwdOPYJc617rBOxIRHY/gviz/tq?tqx=out:csv"]
    told = " ".join(shown.output.split())
    assert told.index("licence: none stated; cite Saharia") < told.index("was downloaded")
    assert "the hash recorded at first download is" in told
    assert plugins.build("prompts", "drawbench:limit=1") == [Prompt("A cat number 0, asleep.", "Counting")]


def test_a_set_with_a_published_hash_is_verified(mirror: list[str]) -> None:
    shown = CliRunner().invoke(cli, ["weights", "fetch", "t2i-compbench"])
    assert shown.exit_code != 0
    assert len(mirror) == 1
    assert mirror[0].endswith("/examples/dataset/color_val.txt")


def test_from_takes_one_file(tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli, ["weights", "fetch", "aro", "--from", str(tmp_path)])
    assert shown.exit_code == 2, shown.output
