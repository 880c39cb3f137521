"""Four rooms on a map: what is left for levels to do where distances are learned?

Question: the table four_rooms has a third level whose latents say how far a goal is, but as if all doors were open. Do
more levels reach more goals where the upper ones learn maps on which distances are ticks (QRL, arXiv 2304.01203)?
Ours: one model of three levels a seed, trained end to end, so that level 1 learns what the maps above it have to know.
Its upper levels are wider than those of four_rooms. Planners measure on maps; level 1 alone has none. Searches are
those of four_rooms, but for fewer iterations of the third level's.
Number to expect: results/four_rooms_map/.
Command: python launch.py table four_rooms_map --scale=cpu --seeds=3
"""

from configs.tables import four_rooms

MAPS = {"model.detach_lower": False, "middle.distance": 1.0, "top.distance": 1.0}
CPU = {
    "middle.hidden": 256,
    "top.hidden": 256,
    "search.top.iterations": 4,
    "train.batch_size": 32,
    "train.num_steps": 4_500,
    "train.warmup_steps": 225,
    "train.checkpoint_every": 4_500,
}
ROWS = ("one level", "one level and the cost of level 3", "two levels", "three levels")


def get_table() -> dict:
    """The table."""
    table = four_rooms.get_table()
    done, flops = (lambda rows, row, column=column: rows[row][column] for column in ("success", "flops"))
    scales = table["scales"]
    for name in ("smoke", "cpu", "gpu"):
        scale = scales[name]
        del scale["begins"]
        kept = {field: value for field, value in scale["overrides"].items() if field not in four_rooms.ABOVE}
        scale["overrides"] = {**kept, **MAPS, **(CPU if name == "cpu" else {})}
    scales["cpu"]["about"] = (
        "frames of 32x32, 1,000 episodes of 128 frames, three levels of 64 numbers, 4,500 steps of 32 clips of 64 "
        "frames; 50 tasks a seed"
    )
    scales["gpu"]["about"] = (
        "frames of 112x112, 4,000 episodes of 401 frames, a ViT of 192 x 12, three levels of 192 numbers, 50,000 steps "
        "of 64 clips; 500 tasks a seed"
    )
    return table | {
        "title": "Four rooms on learned maps",
        "number": "FourRooms by depth",
        "about": "Goals behind two doors, reached by planning with one to three levels on maps of learned distances.",
        "rows": {
            name: {field: value for field, value in table["rows"][name].items() if field != "begin"} for name in ROWS
        },
        "conclusions": [
            {
                "text": "three levels reach at least 96 % of the goals",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: done(rows, "three levels") >= 96,
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
