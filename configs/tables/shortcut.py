"""How few denoising steps a frame needs: shortcut models, which know the size of a step, against flow matching.

Ours: both predict clean latents under the same weights of noise levels and are trained once a seed; the rows of one
process differ only in `config.eval.sampler.num_steps`.
Command: python launch.py table shortcut --scale=cpu --seeds=3
"""

from configs.tables._car_world import columns, scales

STEPS = (1, 2, 4, 16, 64)
SOURCE = "README of the authors' code (FID of 50,000 images, DiT-B)"
PUBLISHED = {1: {"faces": 20.5, "imagenet": 40.3}, 4: {"faces": 13.8, "imagenet": 28.3}}
PROCESSES = {
    "shortcut": {"process": "shortcut", "data_std": 0.5, "max_steps": 64, "self_share": 0.25},
    "flow": {"process": "flow", "data_std": 0.5, "prediction": "clean", "loss": "clean", "weight": "ramp"},
}
SAMPLERS = {
    "shortcut": {"process": "shortcut", "temperature": 1.0},
    "flow": {"process": "flow", "order": 1, "temperature": 1.0},
}


def get_table() -> dict:
    """The table."""
    rows = {}
    for process, training in PROCESSES.items():
        for n in STEPS:
            overrides = {"diffusion": training, "eval.sampler": {"num_steps": n, **SAMPLERS[process]}}
            rows[f"{process} n={n}"] = {"overrides": overrides}
    for n, numbers in PUBLISHED.items():
        rows[f"shortcut n={n}"] |= {"published": numbers, "source": SOURCE}
    found = columns(1, 16)
    found["frechet_clips"] = {**found["frechet_clips"], "published": ("faces", "imagenet")}
    distance = lambda rows, row: rows[row]["frechet_clips"]
    return {
        "title": "Shortcut models and flow matching by number of denoising steps",
        "paper": "Shortcut models, Frans et al. 2024, arXiv 2410.12557; Dreamer 4, Hafner et al. 2025, 2509.24527",
        "number": "FID by number of steps; Dreamer 4, Table 2",
        "question": "Are frames of one to four steps better where the network is told the size of a step?",
        "about": "One video transformer trained as a shortcut model or by flow matching, rolled out with n denoising "
        "steps a frame.",
        "setting": "CelebA and ImageNet-256, images alone; with 128 steps the FIDs are 6.9 and 15.5",
        "command": "imagine",
        "published_columns": {
            "faces": {"title": "FID, CelebA", "unit": "Inception-v3", "better": "lower"},
            "imagenet": {"title": "FID, ImageNet", "unit": "Inception-v3", "better": "lower"},
        },
        "columns": found,
        "rows": rows,
        "conclusions": [
            {
                "text": "four steps of a shortcut model are better than one: clips are nearer to real ones",
                "kind": "paper",
                "source": "Shortcut models, README of the authors' code",
                "holds": lambda rows: distance(rows, "shortcut n=4") < distance(rows, "shortcut n=1"),
            },
            {
                "text": "with four steps a shortcut model's clips are nearer to real ones than flow matching's",
                "kind": "paper",
                "source": "Dreamer 4, Table 2, read in transcriptions",
                "holds": lambda rows: distance(rows, "shortcut n=4") < distance(rows, "flow n=4"),
            },
            {
                "text": "flow matching with four steps is worse than with 64",
                "kind": "paper",
                "source": "Dreamer 4, Table 2, read in transcriptions",
                "holds": lambda rows: distance(rows, "flow n=4") > distance(rows, "flow n=64"),
            },
            {
                "text": "with one step a shortcut model's clips are nearer to real ones than flow matching's",
                "kind": "ours",
                "holds": lambda rows: distance(rows, "shortcut n=1") < distance(rows, "flow n=1"),
            },
        ],
        "headline": lambda rows: (
            "distance of clips: "
            + ", ".join(
                f"{row} {distance(rows, row):.3f}" for row in ("shortcut n=1", "shortcut n=4", "flow n=4", "flow n=64")
            )
        ),
        "curve": ("psnr_changed", "imagined"),
        "curve_title": "PSNR over changed pixels (dB)",
        "scales": scales("images of CelebA and ImageNet with DiT-B: no such data here"),
    }
