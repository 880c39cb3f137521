"""How much does each term against collapse add to the success rate? Two rooms without one of them at a time.

Ours: level 1 of the model of the table two_rooms, trained alone without each, and planned in as its flat row is.
Command: python launch.py table two_rooms_terms --scale=cpu --seeds=3
"""

from configs.tables._columns import FARTHEST, FINAL_STEP, SPEARMAN
from configs.tables.two_rooms import FLAT, SCALES

TERMS = {  # published final-step success rate, %
    "variance": ("std", 47.0),
    "covariance": ("cov", 46.0),
    "time similarity": ("time", 61.0),
    "inverse dynamics": ("inverse", 1.0),
}


def get_table() -> dict:
    """The table."""
    ablations = {
        f"without {term}": {
            "overrides": {**FLAT, "model.levels": ("bottom",), f"model.level.bottom.{field}": 0.0},
            "published": {"terminal": published},
            "source": "EB-JEPA, ablations",
        }
        for term, (field, published) in TERMS.items()
    }
    return {
        "title": "Two rooms without a term of the loss",
        "paper": "EB-JEPA, arXiv 2602.03604 (facebookresearch/eb_jepa)",
        "number": "its ablations",
        "question": "How much does each term against collapse add to the success rate?",
        "about": "Tasks with goals in the other room, solved by flat planning in latents learned without one term.",
        "setting": "random walls, final-step success rate after 200 steps, by MPPI",
        "command": "plan",
        "published_columns": {"terminal": {"title": "EB-JEPA", "unit": "%", "better": "higher"}},
        "columns": {
            "terminal": {**FINAL_STEP, "published": ("terminal",)},
            "far": FARTHEST,
            "spearman": SPEARMAN,
        },
        "rows": {
            "all terms": {"overrides": FLAT, "published": {"terminal": 97.0}, "source": "EB-JEPA, MPPI"},
            **ablations,
        },
        "conclusions": [
            {
                "text": f"the planner is worse without {term}",
                "kind": "paper",
                "source": "EB-JEPA, ablations",
                "holds": lambda rows, term=term: rows["all terms"]["terminal"] > rows[f"without {term}"]["terminal"],
            }
            for term in TERMS
        ],
        "headline": lambda rows: (
            f"all terms {rows['all terms']['terminal']:.0f} %, without one "
            + "/".join(f"{rows[f'without {term}']['terminal']:.0f}" for term in TERMS)
            + " %"
        ),
        "scales": SCALES,
    }
