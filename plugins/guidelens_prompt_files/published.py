"""The published prompt sets: their files, sources and licences. guidelens ships none of their content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guidelens.contracts import Prompt
from guidelens.prompts import read_prompts
from guidelens.weights import WeightsFile

from .readers import (
    read_aro,
    read_coco,
    read_dsg,
    read_geneval,
    read_geneval2,
    read_lines,
    read_sugarcrepe,
    read_winoground,
)

_RAW = "https://raw.githubusercontent.com"
_SHEET = "https://docs.google.com/spreadsheets/d/1y7nAbmR4FREi6npB1u-Bo3GFdwdOPYJc617rBOxIRHY"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id"


@dataclass(frozen=True)
class PublishedSet:
    """A published prompt set.

    :param name: the name on the command line.
    :param summary: one line for ``guidelens plugins show``.
    :param files: the files of the set, in the order of its prompts.
    :param read: reads a file. It receives the path and the category of the file, and returns the prompts.
    :param categories: the category of each file. Empty if a set has no categories, or if its rows name them.
    """

    name: str
    summary: str
    files: tuple[WeightsFile, ...]
    read: Callable[[Path, str], Sequence[Prompt]]
    categories: tuple[str, ...] = ()

    @property
    def parts(self) -> list[tuple[WeightsFile, str]]:
        """Each file with its category, which is empty text if ``categories`` is empty."""
        return list(zip(self.files, self.categories or ("",) * len(self.files), strict=True))


def _pinned(
    name: str, place: str, size: int, sha256: str, *, licence: str, citation: str, of: str = ""
) -> WeightsFile:
    """Return a file of a GitHub repository, pinned to one commit.

    :param place: OWNER/REPOSITORY/COMMIT/PATH.
    :param of: the prompt set that the file belongs to; default: ``name``.
    """
    return WeightsFile(
        name=name,
        filename=place.rpartition("/")[2],
        url=f"{_RAW}/{place}",
        size=size,
        sha256=sha256,
        licence=licence,
        citation=citation,
        component=f"prompt set {of or name}",
    )


DRAWBENCH = PublishedSet(
    "drawbench",
    "DrawBench, 200 prompts in 11 categories",
    (
        WeightsFile(
            name="drawbench",
            filename="drawbench.csv",
            url=f"{_SHEET}/gviz/tq?tqx=out:csv",
            licence="none stated",
            citation="Saharia et al. (2022), Photorealistic Text-to-Image Diffusion Models, NeurIPS",
            component="prompt set drawbench",
        ),
    ),
    lambda path, category: read_prompts(path),
)

COCO = PublishedSet(
    "coco",
    "captions of COCO pictures (val2014), the 5,000 of MLPerf's text-to-image benchmark",
    (
        _pinned(
            "coco",
            "mlcommons/inference/b66003e10e2db4b8c36a448b0545ec90fcc6e9e9/text_to_image/coco2014/captions/"
            "captions_source.tsv",
            862_324,
            "2eeb95637b30fe5af26dd644bafa7affe4e5472ad0bda32d0feb1bd261280d5e",
            licence="CC-BY-4.0",
            citation="Chen et al. (2015), Microsoft COCO Captions, arXiv:1504.00325",
        ),
    ),
    read_coco,
)

PARTIPROMPTS = PublishedSet(
    "partiprompts",
    "PartiPrompts, 1,632 prompts in 12 categories",
    (
        _pinned(
            "partiprompts",
            "google-research/parti/5a657978134374ce28973948331b319adef164bd/PartiPrompts.tsv",
            123_107,
            "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb",
            licence="Apache-2.0",
            citation="Yu et al. (2022), Scaling Autoregressive Models for Text-to-Image Generation, TMLR",
        ),
    ),
    lambda path, category: read_prompts(path),
)

GENEVAL = PublishedSet(
    "geneval",
    "GenEval, 553 prompts in 6 categories, with facts",
    (
        _pinned(
            "geneval",
            "djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/prompts/evaluation_metadata.jsonl",
            85_209,
            "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
            licence="MIT",
            citation="Ghosh et al. (2023), GenEval: An Object-Focused Framework, NeurIPS",
        ),
    ),
    read_geneval,
)

GENEVAL2 = PublishedSet(
    "geneval2",
    "GenEval 2, 800 prompts of 3 to 10 atoms, with facts",
    (
        _pinned(
            "geneval2",
            "facebookresearch/GenEval2/a6e82d2289e8d418f27f0adee77908b07060eea3/geneval2_data.jsonl",
            423_220,
            "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43",
            licence="CC-BY-NC-4.0",
            citation="Kamath et al. (2025), GenEval 2: Addressing Benchmark Drift, arXiv:2512.16853",
        ),
    ),
    read_geneval2,
)

DSG1K = PublishedSet(
    "dsg1k",
    "DSG-1k, 1,059 prompts from 10 sources, with facts",
    (
        _pinned(
            "dsg1k",
            "j-min/DSG/7330119a39f76ff90e619a8bd3ff321e71aa986b/dsg/data/dsg-1k-anns.csv",
            1_906_040,
            "b7ce06ea8a0478ccfd8fba105ecd26d7d301eb99d5c412987546c4cc8e08917a",
            licence="Apache-2.0",
            citation="Cho et al. (2024), Davidsonian Scene Graph, ICLR",
        ),
    ),
    read_dsg,
)

_COMPBENCH = {
    "color": (11_871, "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d"),
    "shape": (15_935, "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae"),
    "texture": (14_211, "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f"),
    "spatial": (9_213, "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988"),
    "3d_spatial": (7_851, "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9"),
    "non_spatial": (17_750, "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d"),
    "numeracy": (10_863, "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe"),
    "complex": (22_724, "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4"),
}

T2I_COMPBENCH = PublishedSet(
    "t2i-compbench",
    "T2I-CompBench++, the 2,400 validation prompts in 8 categories",
    tuple(
        _pinned(
            f"t2i-compbench-{category.replace('_', '-')}",
            f"Karine-Huang/T2I-CompBench/1b7094991a57f3c22abdd4f6e8ba6c1a15517073/examples/dataset/{category}_val.txt",
            size,
            sha256,
            licence="MIT",
            citation="Huang et al. (2025), T2I-CompBench++, TPAMI",
            of="t2i-compbench",
        )
        for category, (size, sha256) in _COMPBENCH.items()
    ),
    read_lines,
    tuple(_COMPBENCH),
)

_SUGARCREPE = {
    "add_att": (158_863, "012d88d729693d193760e6f3393b06a1cf874380a9db0062e937201199fe044d"),
    "add_obj": (484_593, "1b9d76b93139a937b8dc1ada92a4f05ecc821bb3c291d752428bafadd4bb0682"),
    "replace_att": (176_843, "9fe55fd4c0a9ad1f85d486d9f6d0215b41f867eb025026e7f7b5ce44352545ee"),
    "replace_obj": (361_126, "9d299600639947e9d15281a9ded1382b376cf4ea088a8d08a1314bfe76e81898"),
    "replace_rel": (312_629, "356bcc2fc4c6aed3f4d9fd50acc58489bb1fe70c28791f9368d4cbf9ea39cdc9"),
    "swap_att": (154_665, "7a7ce04e5c4c80412b48c6f0c1347fb1a2f5d54c0be6aa429b64d390e442f8d0"),
    "swap_obj": (57_569, "073cdb8e253d053614e80710834d9773b09dbc1dd0a412f6f9492262caa1dcad"),
}

SUGARCREPE = PublishedSet(
    "sugarcrepe",
    "SugarCrepe, right and wrong captions of COCO pictures (val2017) in 7 categories",
    tuple(
        _pinned(
            f"sugarcrepe-{category.replace('_', '-')}",
            f"RAIVNLab/sugar-crepe/0047054b243992f0fad63d6f64f7544862daf846/data/{category}.json",
            size,
            sha256,
            licence="MIT",
            citation="Hsieh et al. (2023), SugarCrepe: Fixing Hackable Benchmarks, NeurIPS",
            of="sugarcrepe",
        )
        for category, (size, sha256) in _SUGARCREPE.items()
    ),
    read_sugarcrepe,
    tuple(_SUGARCREPE),
)

_ARO = {"relation": "1kX2iCHEv0CADL8dSO1nMdW-V0NqIAiP3", "attribution": "13tWvOrNOLHxl3Rm9cR3geAdHx2qR3-Tw"}

# The authors publish neither sizes nor hashes.
ARO = PublishedSet(
    "aro",
    "ARO, right and wrong captions of Visual Genome pictures: relation and attribution",
    tuple(
        WeightsFile(
            name=f"aro-{category}",
            filename=f"visual_genome_{category}.json",
            url=f"{_DRIVE}={place}",
            licence="MIT",
            citation="Yuksekgonul et al. (2023), When and Why Vision-Language Models Behave like Bags-of-Words, ICLR",
            component="prompt set aro",
        )
        for category, place in _ARO.items()
    ),
    read_aro,
    tuple(_ARO),
)

WINOGROUND = PublishedSet(
    "winoground",
    "Winoground, 400 pairs of pictures and captions of the same words",
    (
        WeightsFile(
            name="winoground",
            filename="examples.jsonl",
            hub="datasets/facebook/winoground/data/examples.jsonl",
            licence="research only, see the hub",
            citation="Thrush et al. (2022), Winoground, CVPR",
            component="prompt set winoground",
        ),
    ),
    read_winoground,
)

SETS = (DRAWBENCH, COCO, PARTIPROMPTS, T2I_COMPBENCH, GENEVAL, GENEVAL2, DSG1K, SUGARCREPE, ARO, WINOGROUND)
"""All published sets."""
