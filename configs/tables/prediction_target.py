"""What a video model should predict: clean latents, the velocity or the noise, by flow matching or by DDPM.

Ours: all rows denoise a frame in ten steps. In those of flow matching the loss is the squared error of the clean
latents, whatever the output means; in those of DDPM it is that of the output. The past is shown with the same ratio of
signal to noise in all: a signal level of 0.9 in flow matching is level 30 of DDPM's linear schedule.
Command: python launch.py table prediction_target --scale=cpu --seeds=3
"""

from configs.tables._car_world import columns, scales

SOURCE = "Nano World Model, docs/training.md and docs/evaluation.md of its repository (RT-1, one seed, 256 samples)"
PAPER = "Nano World Model, docs/training.md of its repository"
PUBLISHED = {
    "flow velocity": (23.54, 38.10),
    "DDPM clean": (23.37, 42.99),
    "DDPM velocity": (23.07, 42.27),
    "DDPM noise": (21.89, 48.86),
}
TARGETS = ("clean", "velocity", "noise")


def get_table() -> dict:
    """The table."""
    flow = lambda target: {
        "diffusion": {
            "process": "flow",
            "data_std": 0.5,
            "prediction": target,
            "loss": "clean",
            "weight": "uniform",
        },
        "eval.sampler": {"process": "flow", "num_steps": 10, "order": 1, "temperature": 1.0},
    }
    ddpm = lambda target: {
        "diffusion": {
            "process": "ddpm",
            "data_std": 0.5,
            "offset_noise": 0.0,
            "num_levels": 1000,
            "schedule": "linear",
            "beta_low": 1e-4,
            "beta_high": 0.02,
            "prediction": target,
        },
        "eval.sampler": {"process": "ddpm", "num_steps": 10, "eta": 0.0},
        "model.context_level": 30.0,
    }
    rows = {f"{name} {x}": {"overrides": make(x)} for name, make in (("flow", flow), ("DDPM", ddpm)) for x in TARGETS}
    for row, numbers in PUBLISHED.items():
        rows[row] |= {"published": dict(zip(("psnr", "fid"), numbers)), "source": SOURCE}
    found = columns(1, 16)
    found["psnr_16"] = {**found["psnr_16"], "published": ("psnr",)}
    found["frechet_clips"] = {**found["frechet_clips"], "published": ("fid",)}
    return {
        "title": "Prediction targets of a video model",
        "paper": "Nano World Model, arXiv 2605.23993",
        "number": "prediction targets",
        "question": "Should the network predict clean data, the velocity or the noise?",
        "about": "One video transformer whose output means the clean latents, the velocity or the noise, in two "
        "diffusion processes.",
        "setting": "RT-1, a DiT-B/2 in the latents of an image autoencoder, 50,000 steps",
        "command": "imagine",
        "published_columns": {
            "psnr": {"title": "PSNR", "unit": "dB", "better": "higher"},
            "fid": {"title": "FID", "unit": "Inception-v3", "better": "lower"},
        },
        "columns": found,
        "rows": rows,
        "conclusions": [
            {
                "text": f"{row} has a higher PSNR than DDPM noise, 16 frames ahead",
                "kind": "paper",
                "source": PAPER,
                "holds": lambda rows, row=row: rows[row]["psnr_16"] > rows["DDPM noise"]["psnr_16"],
            }
            for row in PUBLISHED
            if row != "DDPM noise"
        ]
        + [
            {
                "text": "in flow matching, too, noise is the worst target, 16 frames ahead",
                "kind": "ours",
                "holds": lambda rows: (
                    min(("flow noise", "flow velocity", "flow clean"), key=lambda row: rows[row]["psnr_16"])
                    == "flow noise"
                ),
            },
        ],
        "headline": lambda rows: (
            "PSNR at 16 frames: " + ", ".join(f"{row['psnr_16']:.1f} dB ({name})" for name, row in rows.items())
        ),
        "curve": ("psnr_changed", "imagined"),
        "curve_title": "PSNR over changed pixels (dB)",
        "scales": scales("RT-1 with a DiT-B/2: no such data here"),
    }
