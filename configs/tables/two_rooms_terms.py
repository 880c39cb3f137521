"""What is each term against collapse good for? Flat planning in two rooms, without one of them at a time.

Question: without variance, covariance, time similarity or inverse dynamics, eb_jepa's flat planner fell from 97 % to
47, 46, 61 and 1 % (there after 200 steps, random walls).
Ours: level 1 of the model of the table two_rooms, trained alone without each, and planned in as its flat row is.
Command: python launch.py table two_rooms_terms --scale=cpu --seeds=3
"""

from configs.tables.two_rooms import FLAT, SCALES

TERMS = {  # published success at the end, %
    "variance": ("std", 47.0),
    "covariance": ("cov", 46.0),
    "time similarity": ("time", 61.0),
    "inverse dynamics": ("inverse", 1.0),
}


def get_table() -> dict:
    """The table."""
    percent = {"unit": "%", "better": "higher", "digits": 1, "scale": 100.0}
    ablations = {
        f"without {term}": {
            "overrides": {**FLAT, "model.levels": ("bottom",), f"model.level.bottom.{field}": 0.0},
            "published": {"terminal": published},
            "source": "eb_jepa, ablations",
        }
        for term, (field, published) in TERMS.items()
    }
    return {
        "title": "Two rooms without a term of the loss",
        "paper": "eb_jepa (facebookresearch/eb_jepa, 2026)",
        "number": "its ablations",
        "about": "Goals in the other room, reached by flat planning in latents learned without one of the terms.",
        "setting": "random walls, there after 200 steps, by MPPI",
        "command": "plan",
        "published_columns": {"terminal": {"title": "eb_jepa (%)", "better": "higher", "digits": 0}},
        "columns": {
            "terminal": {
                "title": "there at the end",
                "about": "share of the tasks whose goal was reached, after the last of 200 steps",
                "path": ("terminal_success",),
                "published": "terminal",
                **percent,
            },
            "far": {
                "title": "farthest quarter",
                "about": "goals reached at any time, of the quarter whose shortest path is longest",
                "path": ("farthest", "success"),
                **percent,
            },
            "order": {
                "title": "order",
                "about": "rank correlation of the shortest path's length from start to goal with the latent distance",
                "path": ("cost_rank_correlation",),
                "unit": "",
                "better": "higher",
                "digits": 2,
            },
        },
        "rows": {
            "all terms": {"overrides": FLAT, "published": {"terminal": 97.0}, "source": "eb_jepa, MPPI"},
            **ablations,
        },
        "conclusions": [
            {
                "text": f"the planner is worse without {term}",
                "source": "eb_jepa, ablations",
                "holds": lambda rows, term=term: rows["all terms"]["terminal"] > rows[f"without {term}"]["terminal"],
            }
            for term in TERMS
        ],
        "scales": SCALES,
    }
