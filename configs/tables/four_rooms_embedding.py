"""Four rooms with temporal-distance embeddings: do more levels help where distances are learned?

Ours: one model of three levels a seed, trained end to end first, so that level 1 learns what the embeddings above it
need; then its upper levels go on alone on a level 1 that no longer changes, since predictions of latents that still do
may go through walls. They are wider than those of four_rooms. The upper levels' costs are distances of
temporal-distance embeddings (the QRL objective, arXiv 2304.01203); level 1 alone has none. Searches are those of
four_rooms, but for fewer iterations of the third level's.
Number to expect: results/four_rooms_embedding/.
Command: python launch.py table four_rooms_embedding --scale=cpu --seeds=3
"""

from configs.tables import four_rooms

WHOLE = "end to end"
EMBEDDING = {"model.detach_lower": False, "model.level.middle.distance": 1.0, "model.level.top.distance": 1.0}
CPU = {
    "model.level.middle.hidden": 256,
    "model.level.top.hidden": 256,
    "eval.search.top.iterations": 4,
    "train.batch_size": 32,
}
FIRST = {"train.num_steps": 4_500, "train.optimizer.warmup_steps": 225, "runtime.checkpoint_every": 4_500}
GO_ON = {"train.num_steps": 2_500, "train.optimizer.warmup_steps": 125, "runtime.checkpoint_every": 2_500}
ROWS = ("one level", "one level and the cost of level 3", "two levels", "three levels")


def get_table() -> dict:
    """The table."""
    table = four_rooms.get_table()
    done, flops = (lambda rows, row, column=column: rows[row][column] for column in ("success", "flops"))
    scales = table["scales"]
    for name, (embedding, first, go_on) in {
        "smoke": (EMBEDDING, {}, {}),
        "cpu": ({**EMBEDDING, **CPU}, FIRST, GO_ON),
        "gpu": (EMBEDDING, {}, {}),
    }.items():
        scale = scales[name]
        (level_1,) = scale["pretraining"].values()
        whole = {field: value for field, value in level_1["overrides"].items() if field not in four_rooms.FIRST}
        scale["pretraining"] = {WHOLE: {**level_1, "overrides": {**whole, **embedding, **first}}}
        scale["overrides"] = {**scale["overrides"], **embedding, **go_on}
    scales["cpu"]["about"] = (
        "frames of 32x32, 1,000 episodes of 128 frames, three levels of 64 numbers, 4,500 steps of 32 clips of 64 "
        "frames and 2,500 more for those above level 1; 50 tasks a seed"
    )
    scales["gpu"]["about"] = (
        "frames of 112x112, 4,000 episodes of 401 frames, a ViT of 192 x 12, three levels of 192 numbers, 50,000 steps "
        "of 64 clips and as many more for those above level 1; 500 tasks a seed"
    )
    return table | {
        "title": "Four rooms with temporal-distance embeddings",
        "number": "FourRooms by depth",
        "question": "Where the upper levels learn embeddings whose distances are numbers of steps (the QRL objective), "
        "do more levels still have a higher success rate? In the table four_rooms, latents of the third level measure "
        "distance as if all doors were open.",
        "about": "Tasks with goals behind two doors, solved by planning with one to three levels, whose costs above "
        "level 1 are distances of a temporal-distance embedding.",
        "headline": lambda rows: (
            "/".join(f"{done(rows, row):.0f}" for row in ("one level", "two levels", "three levels"))
            + " % with 1/2/3 levels (H-JEPA 41/81/96 %)"
        ),
        "rows": {name: {**table["rows"][name], "init_from": WHOLE} for name in ROWS},
        "conclusions": [
            {
                "text": "three levels have a success rate of at least 96 %",
                "kind": "ours",
                "source": "the published success rate of three levels",
                "holds": lambda rows: done(rows, "three levels") >= 96,
            },
            {
                "text": "three levels have a higher success rate than one, at no more compute",
                "kind": "paper",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: (
                    done(rows, "three levels") > done(rows, "one level")
                    and flops(rows, "three levels") <= flops(rows, "one level")
                ),
            },
            {
                "text": "plans of three levels help beyond the cost of the third",
                "kind": "paper",
                "source": "H-JEPA, cost ladder",
                "holds": lambda rows: done(rows, "three levels") > done(rows, "one level and the cost of level 3"),
            },
        ],
    }
