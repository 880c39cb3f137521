"""Four rooms on a map: what is left for levels to do where distances are learned?

Question: the table four_rooms has a third level whose latents say how far a goal is, but as if all doors were open. Do
more levels reach more goals where every level learns a map on which distances are ticks (QRL, arXiv 2304.01203)?
Ours: level 1 is trained with such a map, and then the others on it, which are wider than those of four_rooms; planners
measure all distances on maps. Searches are those of four_rooms, but for fewer iterations of the third level's.
Number to expect: results/four_rooms_map/.
Command: python launch.py table four_rooms_map --scale=cpu --seeds=3
"""

from configs.tables import four_rooms

BOTTOM = {"bottom.distance": 0.25}
UPPER = {**BOTTOM, "middle.distance": 1.0, "top.distance": 1.0}
WIDER = {"middle.hidden": 256, "top.hidden": 256, "search.top.iterations": 4}
LONGER = {"train.batch_size": 32, "train.num_steps": 2_500, "train.warmup_steps": 125, "train.checkpoint_every": 2_500}
ROWS = ("one level", "one level and the cost of level 3", "two levels", "three levels")


def get_table() -> dict:
    """The table."""
    table = four_rooms.get_table()
    done, flops = (lambda rows, row, column=column: rows[row][column] for column in ("success", "flops"))
    scales = table["scales"]
    for name, wider in {"smoke": {}, "cpu": {**WIDER, **LONGER}, "gpu": {}}.items():
        scales[name]["overrides"] = {**scales[name]["overrides"], **UPPER, **wider}
        begin = scales[name]["begins"]["level 1"]
        begin["overrides"] = {**begin["overrides"], **BOTTOM}
    scales["cpu"]["about"] = (
        "frames of 32x32, 1,000 episodes of 128 frames, three levels of 64 numbers, 3,000 steps of 16 clips of 64 "
        "frames for level 1 and 2,500 of 32 for those above; 50 tasks a seed"
    )
    return table | {
        "title": "Four rooms on learned maps",
        "number": "FourRooms by depth",
        "about": "Goals behind two doors, reached by planning with one to three levels on maps of learned distances.",
        "rows": {name: table["rows"][name] for name in ROWS},
        "conclusions": [
            {
                "text": "three levels reach at least 96 % of the goals",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: done(rows, "three levels") >= 0.96,
            },
            {
                "text": "three levels reach more goals than one, at no more compute",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: (
                    done(rows, "three levels") > done(rows, "one level")
                    and flops(rows, "three levels") <= flops(rows, "one level")
                ),
            },
            {
                "text": "plans of three levels help beyond the cost of the third",
                "source": "H-JEPA, cost ladder",
                "holds": lambda rows: done(rows, "three levels") > done(rows, "one level and the cost of level 3"),
            },
        ],
    }
