"""A table of toy rows, and what its members would have measured."""

import json

from experiments.runs.recording import record
from experiments.tables import definition
from experiments.tables import members as plan
from experiments.tables.run import table
from experiments.tools.launchers.runner import make_runner

TOY = """
    def get_table():
        seen = lambda *offsets: {"model.context_offsets": offsets}
        return {
            "title": "Toy & Co", "paper": "Nobody 2020", "number": "Table 7", "question": "Why?", "about": "About.",
            "setting": "ImageNet",
            "command": "imagine",
            "published_columns": {"fid": {"title": "FID", "better": "lower"}},
            "columns": {
                "psnr": {"title": "PSNR", "unit": "dB", "about": "how", "better": "higher",
                         "path": ("psnr", "imagined", 2), "published": ("fid",)},
                "copy": {"title": "copy", "unit": "dB", "about": "a baseline", "better": "higher",
                         "path": ("psnr", "copy_last", 2), "baseline_for": "psnr"},
            },
            "rows": {
                "one": {"overrides": seen(1), "published": {"fid": 30.0}, "source": "page 3"},
                "two": {"overrides": seen(2, 1), "published": {"fid": 20.0}, "source": "page 3", "unverified": True},
                "three": {"overrides": seen(3, 2, 1) | {"model.condition": 18},
                          "published": {"fid": 10.0}, "source": "page 3"},
                "ours": {"overrides": {"model.context_noise": 0.5}},
            },
            "conclusions": [
                {"text": "two beat one", "kind": "paper", "source": "page 4",
                 "holds": lambda rows: rows["two"]["psnr"] > rows["one"]["psnr"]},
                {"text": "three beat two", "kind": "ours",
                 "holds": lambda rows: rows["three"]["psnr"] > rows["two"]["psnr"]},
            ],
            "headline": lambda rows: f"two reach {rows['two']['psnr']:.0f} dB",
            "scales": {"smoke": {"about": "toy data", "config": "configs/car_unet.py:debug"},
                       "paper": {"about": "ImageNet, which is not here"}},
        }
"""


def edited(folder, *changes):
    """The toy table with some text changed, loaded."""
    path = folder / "toy.py"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return definition.load("toy", folder)


def planned(tables, root, data, seeds=3):
    found = definition.load("toy", tables)
    return found, plan.make(found, "smoke", root, dict.fromkeys(found.rows, str(data)), range(seeds))


def measured(member, psnr, **provenance):
    """Writes what measuring a member would have written."""
    member.result.parent.mkdir(parents=True, exist_ok=True)
    origin = {"revision": "abc", "device": "1 x toy", "date": "2026-01-01T00:00:00", **provenance}
    content = {
        "horizon": [1, 2, 3],
        "psnr": {"imagined": [0.0, psnr, 0.0], "copy_last": [0.0, psnr / 2, 0.0]},
        "provenance": origin,
    }
    member.result.write_text(json.dumps(content))


def made(name, workdir, *, parallel="local", slurm_options=(), runner=None, **request):
    """Makes a table as `launch.py table` does; returns the path of its Markdown."""
    return table(name, workdir, runner=runner or make_runner(parallel, slurm_options), record=record, **request)
