"""DIAMOND's question: does EDM drift less than DDPM over long imagined futures, at few denoising steps?

Ours: all are trained once a seed; the rows of one process differ only in `config.eval.sampler.num_steps`. DDPM
predicts the noise and is sampled as DDIM; its one-step mode starts in the middle of the schedule, as in the released
baseline. Two processes came after the paper: DDPM that predicts the velocity, and flow matching that predicts the clean
frame.
Number to expect: results/drift/.
Command: python launch.py table drift --scale=cpu --seeds=3
"""

STEPS = (1, 2, 3, 5, 10)
SOURCE = "DIAMOND, figure 3 and section 3.1"
DDPM = {
    "process": "ddpm",
    "data_std": 0.5,
    "offset_noise": 0.3,
    "num_levels": 1000,
    "beta_low": 1e-4,
    "beta_high": 0.02,
    "prediction": "noise",
}
EDM = {
    "process": "edm",
    "sigma_data": 0.5,
    "offset_noise": 0.3,
    "sigma_mean": -0.4,
    "sigma_std": 1.2,
    "sigma_low": 2e-3,
    "sigma_high": 20.0,
}
VELOCITY = {**DDPM, "prediction": "velocity"}
FLOW = {"process": "flow", "data_std": 0.5, "prediction": "clean", "loss": "clean", "weight": "ramp"}
EULER = {"process": "edm", "order": 1, "sigma_min": 2e-3, "sigma_max": 5.0, "rho": 7.0, "initial_noise": "sigma_max"}
DDIM = {"process": "ddpm", "eta": 0.0}
PROCESSES = (
    ("EDM", EDM, EULER),
    ("DDPM", DDPM, DDIM),
    ("velocity", VELOCITY, DDIM),
    ("flow", FLOW, {"process": "flow", "order": 1, "temperature": 1.0}),
)


def get_table() -> dict:
    """The table."""
    rows = {}
    for name, process, sampler in PROCESSES:
        for n in STEPS:
            overrides = {"diffusion": process, "eval.sampler": {"num_steps": n, **sampler}}
            rows[f"{name} n={n}"] = {"overrides": overrides}
    paper_like = {"model.target": "frame", "model.context_noise": 0.0, "eval.every": 1_000_000}
    about = "mean absolute error of all pixels, in thousandths of the range, {} ahead, mean over held-out contexts"
    drift = {"unit": "1/1000", "better": "lower", "scale": 1000.0, "digits": 1, "range": (0.0, 1000.0)}
    return {
        "title": "Drift of diffusion processes by number of denoising steps",
        "paper": "DIAMOND, Alonso et al. 2024, arXiv 2405.12399",
        "number": "Figure 3",
        "question": "Does EDM drift less than DDPM over long imagined futures, at few denoising steps?",
        "about": "One network trained as EDM, as DDPM that predicts the noise or the velocity, or by flow matching, "
        "and rolled out with n denoising steps a frame.",
        "setting": "The paper shows curves only: Breakout, 100,000 frames of an expert, 1,000 steps ahead",
        "command": "imagine",
        "published_columns": {},
        "columns": {
            **{
                f"drift_{h}": {
                    "title": f"drift {h}",
                    "about": about.format("1 frame" if h == 1 else f"{h} frames"),
                    "path": ("drift", "imagined", h),
                    **drift,
                }
                for h in (1, 8, 32)
            },
            "copy_32": {
                "title": "persistence (copy-last-frame) at 32",
                "about": "the same error of repeating the last context frame, which needs no model",
                "path": ("drift", "copy_last", 32),
                "baseline_for": "drift_32",
                **drift,
            },
        },
        "rows": rows,
        "conclusions": [
            {
                "text": "one step of EDM drifts less than ten of DDPM, 32 frames ahead",
                "kind": "paper",
                "source": SOURCE,
                "holds": lambda rows: rows["EDM n=1"]["drift_32"] < rows["DDPM n=10"]["drift_32"],
            },
            {
                "text": "EDM drifts less than DDPM at every number of steps, 32 frames ahead",
                "kind": "paper",
                "source": SOURCE,
                "holds": lambda rows: all(
                    rows[f"EDM n={n}"]["drift_32"] < rows[f"DDPM n={n}"]["drift_32"] for n in STEPS
                ),
            },
            {
                "text": "DDPM drifts less with ten steps than with one, 32 frames ahead",
                "kind": "paper",
                "source": SOURCE,
                "holds": lambda rows: rows["DDPM n=10"]["drift_32"] < rows["DDPM n=1"]["drift_32"],
            },
            *(
                {
                    "text": f"EDM drifts less than {title} at every number of steps, 32 frames ahead",
                    "kind": "ours",
                    "holds": lambda rows, name=name: all(
                        rows[f"EDM n={n}"]["drift_32"] < rows[f"{name} n={n}"]["drift_32"] for n in STEPS
                    ),
                }
                for name, title in (("velocity", "DDPM that predicts the velocity"), ("flow", "flow matching"))
            ),
        ],
        "headline": lambda rows: (
            f"drift at 32 frames: EDM {rows['EDM n=1']['drift_32']:.0f}/1000 in one step, DDPM "
            f"{rows['DDPM n=10']['drift_32']:.0f}/1000 in ten"
        ),
        "curve": ("drift", "imagined"),
        "curve_title": "drift: mean absolute error (0..1)",
        "scales": {
            "smoke": {
                "about": "stand-in data, CarRacing at 32x32, 6 episodes of 40 steps, two training steps: only shows "
                "that the table runs",
                "config": "configs/car_unet.py:debug",
                "overrides": {
                    "record.max_episode_steps": 40,
                    "eval.imagine.num_contexts": 2,
                    "eval.imagine.horizon": 32,
                },
            },
            "cpu": {
                "about": "stand-in data, CarRacing-v3 at 32x32 driven by configs/car_unet.py:drive, 1.3 M parameters, "
                "300 steps of 32; 16 contexts of 8 held-out episodes",
                "config": "configs/car_unet.py",
                "overrides": {**paper_like, "eval.imagine.num_contexts": 16, "eval.imagine.horizon": 32},
            },
            "gpu": {
                "about": "stand-in policy: Breakout at 64x64 under random actions, DIAMOND's published size, 20,000 "
                "steps of 32; 256 contexts",
                "config": "configs/atari_diamond.py",
                "overrides": {
                    **paper_like,
                    "data.clip_length": 5,
                    "train.num_steps": 20_000,
                    "eval.imagine.num_contexts": 256,
                    "eval.imagine.horizon": 128,
                },
            },
            "paper": {
                "about": "Breakout, 100,000 frames of an expert given by --data, 120,000 steps of 32, 1,000 steps "
                "ahead; the data are not public",
                "config": "configs/atari_diamond.py",
                "overrides": {
                    **paper_like,
                    "data.clip_length": 5,
                    "train.num_steps": 120_000,
                    "eval.imagine.num_contexts": 400,
                    "eval.imagine.horizon": 1000,
                },
            },
        },
    }
