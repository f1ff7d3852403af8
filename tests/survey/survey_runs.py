"""A run's directory, made by hand."""

from __future__ import annotations

import json
from pathlib import Path

from guidelens.runs.config import FORMAT, ModelId, RunSettings
from guidelens.sampling import Sampling
from PIL import Image
from PIL.PngImagePlugin import PngInfo

VERSIONS = {"python": "3", "guidelens": "0", "torch": "2", "numpy": "2", "plugins": {}}
SCHEDULES = ("itc", "itm", "cap", "shift")
PROMPTS = ("a red circle", "two green squares", "a cross above a circle")


def make_run(
    directory: Path,
    schedules: tuple[str, ...] = SCHEDULES,
    prompts: tuple[str, ...] = PROMPTS,
    seeds: int = 2,
    size: int = 8,
) -> Path:
    """Write what a comparison leaves behind: config.json, results.jsonl and samples/."""
    (directory / "samples").mkdir(parents=True)
    rows = []
    for p, prompt in enumerate(prompts):
        for s, schedule in enumerate(schedules):
            for seed in range(seeds):
                key = f"{p:02d}{s:02d}{seed:02d}abcdefabcdef12"
                picture = Image.new("RGB", (size, size), (60 * s, 40 * p, 100 * seed))
                picture.putpixel((1, 1), (s, p, seed))
                note = PngInfo()
                note.add_text("schedule", schedule)
                picture.save(directory / "samples" / f"{key}.png", pnginfo=note)
                rows.append(
                    {
                        "key": key,
                        "prompt": prompt,
                        "category": "",
                        "reference": None,
                        "facts": [],
                        "schedule": schedule,
                        "seed": seed,
                        "generator": "g",
                        "guidance": "v",
                        "steps": 10,
                        "sampler": "ddpm",
                        "scale": 1.0,
                        "image": f"samples/{key}.png",
                        "metrics": {},
                        "metric_errors": {},
                        "scored": [],
                        "losses": {},
                        "gradient_norms": {},
                        "cosines": {},
                        "conflicts": {},
                        "nonfinite_steps": 0,
                        "seconds": 0.1,
                        "telemetry": f"telemetry/{'0' * 20}.npz",
                        "versions": VERSIONS,
                        "threads": 1,
                        "device": "cpu",
                    }
                )
    (directory / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {"name": "g", "fingerprint": "f"}
    config = {
        "guidelens_format": FORMAT,
        "settings": RunSettings(
            ModelId(**model), ModelId(**model), (3, size, size), Sampling(steps=10)
        ).as_dict(),
        "schedules": [],
        "prompts": [],
        "perturbed": [],
        "notes": [],
        "seeds": [],
        "metrics": [],
        "device": "cpu",
        "batch_size": 1,
        "commands": [],
        "plugins": None,
        "versions": VERSIONS,
        "batches": [],
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory
