"""Dreamer 4's Table 2 as far as a small model carries it: each row adds one thing to the one before.

Ours: shortcuts come after the losses that they are defined with here, and not before. Left out: batches of alternating
lengths, which are no option yet; attention over time to other tokens of past frames, which this transformer never has;
and more tokens a frame, which are another tokenizer. Operations are counted, in place of seconds, which depend on what
else a machine does.
Command: python launch.py table dreamer_steps --scale=cpu --seeds=3
"""

from configs.tables._car_world import columns, cost, scales

SOURCE = "Dreamer 4, Table 2"
READ = "Dreamer 4, Table 2, read in transcriptions"
START, FEWER, CLEAN, LOSS, RAMP, SHORTCUT, TIME, GROUPED, REGISTERS = (
    "diffusion forcing in 64 steps",
    "+ four steps",
    "+ clean latents as output",
    "+ loss of clean latents",
    "+ ramp weight",
    "+ shortcuts",
    "+ attention over time in one of four blocks",
    "+ grouped queries",
    "+ registers",
)
OLD = {"model.time_every": 1, "model.network.kv_heads": 0, "model.registers": 0}
FLOW = {"process": "flow", "data_std": 0.5, "prediction": "velocity", "loss": "velocity", "weight": "uniform"}
SHORTCUTS = {"process": "shortcut", "data_std": 0.5, "max_steps": 64, "self_share": 0.25}


def get_table() -> dict:
    """The table."""
    sampler = lambda process, n: {"process": process, "num_steps": n, "temperature": 1.0}
    flow = lambda n: {**sampler("flow", n), "order": 1}
    added = {
        START: {"diffusion": FLOW, "eval.sampler": flow(64)},
        FEWER: {"eval.sampler": flow(4)},
        CLEAN: {"diffusion": {**FLOW, "prediction": "clean"}},
        LOSS: {"diffusion": {**FLOW, "prediction": "clean", "loss": "clean"}},
        RAMP: {"diffusion": {**FLOW, "prediction": "clean", "loss": "clean", "weight": "ramp"}},
        SHORTCUT: {"diffusion": SHORTCUTS, "eval.sampler": sampler("shortcut", 4)},
        TIME: {"model.time_every": 4},
        GROUPED: {"model.network.kv_heads": 2},
        REGISTERS: {"model.registers": 4},
    }
    rows, whole = {}, {}
    for row, what in added.items():
        whole = {**whole, **what}
        rows[row] = {"overrides": whole}
    # Where a row has all that the paper's has; the second and third row are from transcriptions alone.
    rows[START] |= {"published": {"speed": 0.8, "fvd": 306.0}, "source": SOURCE}
    rows[FEWER] |= {"published": {"speed": 9.1, "fvd": 875.0}, "source": READ, "unverified": True}
    rows[SHORTCUT] |= {"published": {"speed": 9.1, "fvd": 102.0}, "source": READ, "unverified": True}
    found = columns(1, 16)
    found["frechet_clips"] = {**found["frechet_clips"], "published": ("fvd",)}
    found["step"] = cost("step_flops", "training step", "matrix products of loss and gradient of a batch")
    found["frame"] = cost("frame_flops", "imagined frame", "matrix products of all denoising steps and decoding")
    found["frame"]["published"] = ("speed",)
    distance = lambda rows, row: rows[row]["frechet_clips"]
    nearer = lambda one, other: lambda rows: distance(rows, one) < distance(rows, other)
    return {
        "title": "From diffusion forcing to Dreamer 4, one thing at a time",
        "paper": "Dreamer 4, Hafner et al. 2025, arXiv 2509.24527",
        "number": "Table 2",
        "question": "What does each part of the recipe give, and what does it cost?",
        "about": "One video transformer, to which each row adds one thing; distances of clips beside operations.",
        "setting": "Minecraft at 360x640, every row trained for 48 hours; 1,024 videos of 384 frames without context",
        "command": "imagine",
        "published_columns": {
            "speed": {"title": "frames/s on one H100", "better": "higher"},
            "fvd": {"title": "FVD", "unit": "I3D", "better": "lower"},
        },
        "columns": found,
        "rows": rows,
        "conclusions": [
            {"text": text, "kind": "paper", "source": READ, "holds": holds}
            for text, holds in (
                ("four steps of plain flow matching are worse than 64", nearer(START, FEWER)),
                ("a loss of the clean latents is better than one of the velocity", nearer(LOSS, CLEAN)),
                ("the ramp weight is better than a uniform one", nearer(RAMP, LOSS)),
                ("the whole recipe is better than where it began", nearer(REGISTERS, START)),
            )
        ]
        + [
            {
                "text": "shortcuts are better than none with four steps, beside the other losses, too",
                "kind": "ours",
                "source": f"{READ}, where they come before these losses",
                "holds": nearer(SHORTCUT, RAMP),
            },
        ],
        "headline": lambda rows: (
            f"distance of clips {distance(rows, START):.3f} with 64 steps, {distance(rows, FEWER):.3f} with four, "
            f"{distance(rows, REGISTERS):.3f} at the end"
        ),
        "curve": ("psnr_changed", "imagined"),
        "curve_title": "PSNR over changed pixels (dB)",
        "scales": scales(
            "Minecraft at 360x640 with 1.6 B parameters: no such data here",
            overrides={"eval.cost": True, **OLD},
            smoke={"model.network.depth": 4},
        ),
    }
