"""A run's directory, made by hand."""

from __future__ import annotations

import json
from pathlib import Path

from guidelens.runs.store import FORMAT
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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
                key = f"{p:02d}{s:02d}{seed:02d}abcdef"
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
                        "losses": {},
                        "gradient_norms": {},
                        "cosines": {},
                        "nonfinite_steps": 0,
                        "seconds": 0.1,
                    }
                )
    (directory / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "guidelens_format": FORMAT,
        "settings": {"eta": 0.0, "steps": 10, "objective_scales": {}},
        "schedules": [],
        "prompts": [],
        "perturbed": [],
        "notes": [],
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory
