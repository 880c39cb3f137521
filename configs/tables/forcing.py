"""What a video model is denoised with in training, judged far beyond the clips that it was trained on.

Ours: clips of 16 frames in training, futures of 64. Teacher forcing takes a second pass over every clip, so it is
trained for as many steps and, in about the same time, for half of them. Two rows go on from the weights of the first
for a seventh of its steps: on frames that the model itself imagines, and on true ones for comparison.
Command: python launch.py table forcing --scale=cpu --seeds=3
"""

from configs.tables._car_world import columns, scales

SOURCE = "Diffusion Forcing, the experiments on video prediction, in pictures"
SELF = "after Self Forcing, Huang et al. 2025, which matches distributions and not frames"
DIFFUSION, TEACHER, HALF, SEQUENCE, SELF_LAST, TEACHER_LAST = (
    "diffusion",
    "teacher",
    "teacher half the steps",
    "sequence",
    "diffusion then self",
    "diffusion then teacher",
)


def get_table() -> dict:
    """The table."""
    last = lambda forcing: {
        "overrides": {
            "model.forcing": forcing,
            "init_from.parts": (),
            "train.optimizer.learning_rate": 2e-4,
        },
        "init_from": DIFFUSION,
    }
    better = lambda one, other: lambda rows: rows[one]["psnr_64"] > rows[other]["psnr_64"]
    nearer = lambda one, other: lambda rows: rows[one]["frechet_clips"] < rows[other]["frechet_clips"]
    phase = lambda steps, warmup: {"train.num_steps": steps, "train.optimizer.warmup_steps": warmup}
    last_phases = lambda *sizes: dict.fromkeys((SELF_LAST, TEACHER_LAST), phase(*sizes))
    return {
        "title": "Diffusion, teacher and self forcing beyond the training horizon",
        "paper": "Diffusion Forcing, Chen et al. 2024, arXiv 2407.01392",
        "number": "the experiments on video prediction",
        "question": "Which noise should the past have in training, for futures four times as long as the clips?",
        "about": "One video transformer whose training differs in the past that frames are denoised with: of any "
        "noise, as a rollout shows it, of the frame's own noise, or imagined by the model.",
        "setting": "The paper shows rollouts in pictures only: DMLab and Minecraft, 1,000 frames",
        "command": "imagine",
        "published_columns": {},
        "columns": columns(1, 16, 64),
        "rows": {
            DIFFUSION: {"overrides": {}},
            TEACHER: {"overrides": {"model.forcing": "teacher"}},
            HALF: {"overrides": {"model.forcing": "teacher"}},
            SEQUENCE: {"overrides": {"model.forcing": "sequence"}},
            SELF_LAST: last("self"),
            TEACHER_LAST: last("teacher"),
        },
        "conclusions": [
            {
                "text": "futures of 64 frames are nearer to real ones after diffusion forcing than after as many steps "
                "of teacher forcing",
                "kind": "paper",
                "source": SOURCE,
                "holds": nearer(DIFFUSION, TEACHER),
            },
            {
                "text": "futures of 64 frames are nearer to real ones after diffusion forcing than with one noise "
                "level for all frames of a clip",
                "kind": "paper",
                "source": SOURCE,
                "holds": nearer(DIFFUSION, SEQUENCE),
            },
            {
                "text": "64 frames ahead diffusion forcing has a higher PSNR than teacher forcing in the same time",
                "kind": "ours",
                "holds": better(DIFFUSION, HALF),
            },
            {
                "text": "64 frames ahead a last phase on the model's own frames raises the PSNR",
                "kind": "ours",
                "source": SELF,
                "holds": better(SELF_LAST, DIFFUSION),
            },
            {
                "text": "and by more than as many steps on true frames",
                "kind": "ours",
                "source": SELF,
                "holds": better(SELF_LAST, TEACHER_LAST),
            },
        ],
        "headline": lambda rows: (
            "PSNR at 64 frames: " + ", ".join(f"{row['psnr_64']:.1f} dB ({name})" for name, row in rows.items())
        ),
        "curve": ("psnr_changed", "imagined"),
        "curve_title": "PSNR over changed pixels (dB)",
        "scales": scales(
            "DMLab and Minecraft, 1,000 frames ahead: no such data here",
            overrides={"eval.imagine.horizon": 64, "eval.distances.length": 64},
            smoke={"record.max_episode_steps": 80},
            cpu={"eval.distances.num_clips": 96},
            rows={
                "smoke": {HALF: phase(1, 0), **last_phases(1, 0)},
                "cpu": {HALF: phase(350, 100), **last_phases(100, 20)},
                "gpu": {HALF: phase(10_000, 1_000), **last_phases(3_000, 300)},
            },
            pretraining=(DIFFUSION,),
        ),
    }
