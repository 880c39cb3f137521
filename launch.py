"""The door: every verb of the codebase. `python launch.py` lists them."""

import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

VERBS = {
    "record": "--config=configs/X.py --workdir=DIR    experience -> RLDS data set",
    "train": "--config=configs/X.py --workdir=DIR    data set -> checkpoints and metrics; goes on where it stopped",
    "eval": "--workdir=DIR                          checkpoint -> metrics",
    "imagine": "--workdir=DIR                          checkpoint -> futures as video, pictures and an HTML report",
}
NEEDS_CONFIG = ("record", "train")


def main(argv: list[str]) -> int:
    """Runs one verb; returns the exit status."""
    verb = argv[1] if len(argv) > 1 else ""
    if verb not in VERBS:
        print(_usage(verb), file=sys.stderr)
        return 0 if verb in ("-h", "--help", "help") else 2
    from world_models.errors import UserError

    sys.argv = [argv[0], *argv[2:]]  # where config_flags looks for the fields to override
    try:
        path = _run(verb, sys.argv)
    except (UserError, flags.Error) as error:
        print(f"launch.py {verb}: {_last_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"launch.py {verb}: interrupted. {error}", file=sys.stderr)
        return 130
    print(path)
    return 0


def _run(verb: str, argv: list[str]) -> pathlib.Path:
    """Reads the flags of a verb and calls it; returns the path of what it made."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    if verb in NEEDS_CONFIG:
        config_flags.DEFINE_config_file("config", None, "Experiment config.", flag_values=values)
    else:
        flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.", flag_values=values)
    workdir = pathlib.Path(_given(argv, "workdir", verb))
    if verb in NEEDS_CONFIG:
        _check_config_file(_given(argv, "config", verb))
    else:
        from experiments.workdir import load_config

        config_flags.DEFINE_config_dict("config", load_config(workdir), flag_values=values)
    try:
        rest = values(argv)[1:]
    except (AttributeError, KeyError) as error:
        raise flags.Error(f"The config has no field {error}: see the config file for those that it has.") from error
    if rest:
        raise flags.Error(f"{rest[0]!r} is no flag: fields of the config are set as --config.some.field=value.")

    if verb == "record":
        from experiments.record import record
        from experiments.workdir import dataset_of

        return record(values.config, pathlib.Path(dataset_of(values.config, workdir)))
    from experiments import runtime

    runtime.setup()
    if verb == "train":
        from experiments.train import train

        return train(values.config, workdir)
    from experiments.loading import load

    run = load(workdir, values.step, values.config)
    if verb == "eval":
        from experiments.evaluate import evaluate

        return evaluate(run)
    from experiments.imagine import imagine

    return imagine(run)


def _last_line(error: Exception) -> str:
    """The sentence of an error; flags wrap a failing config file's in a whole traceback."""
    return str(error).strip().splitlines()[-1]


def _given(argv: list[str], name: str, verb: str) -> str:
    """The value of a flag that a verb cannot do without."""
    for i, word in enumerate(argv):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            value = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
            if value:
                return value
    raise flags.Error(f"--{name} is missing. Usage: launch.py {verb} {VERBS[verb]}")


def _check_config_file(value: str) -> None:
    path = value.partition(":")[0]
    if not os.path.exists(path):
        there = ", ".join(sorted(str(p) for p in pathlib.Path("configs").glob("*.py") if p.name != "__init__.py"))
        raise flags.Error(f"--config={value} is no file; configs here: {there}.")


def _usage(verb: str) -> str:
    lines = [f"{verb!r} is no verb." if verb and verb not in ("-h", "--help", "help") else __doc__.splitlines()[0]]
    lines += [f"  python launch.py {name:8}{text}" for name, text in VERBS.items()]
    return "\n".join([*lines, "Any field of a config is set by --config.some.field=value."])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
