"""The entry point: every command of the codebase. `python launch.py` lists them."""

import os
import pathlib
import shlex
import sys
import traceback

from absl import flags
from ml_collections import config_flags

COMMANDS = {
    "record": "--config=configs/X.py --workdir=DIR    experience -> RLDS data set",
    "train": "--config=configs/X.py --workdir=DIR    data set -> checkpoints and metrics; --sweep for many settings",
    "eval": "--workdir=DIR                          checkpoint -> metrics",
    "imagine": "--workdir=DIR                          checkpoint -> futures (or reconstructions) and an HTML report",
    "plan": "--workdir=DIR                          checkpoint -> episodes solved by planning in the model",
    "table": "NAME [--scale=cpu --seeds=3]           configs and published rows -> the table; --list shows all",
    "report": "[--workdir=runs]                       all tables, runs and futures in a folder -> one static page",
}
NEEDS_CONFIG = ("record", "train")
# Of train, eval, imagine and plan, for a process that is one of several.
TOGETHER = (
    (flags.DEFINE_string, "coordinator", None, "HOST:PORT where the processes meet."),
    (flags.DEFINE_integer, "num_processes", None, "How many processes there are."),
    (flags.DEFINE_integer, "process_id", None, "Which of them this is, from 0."),
)
# Of train, which may be done in other processes than this.
ELSEWHERE = (
    (flags.DEFINE_boolean, "sweep", False, "Train all settings of the config's get_sweep()."),
    (flags.DEFINE_string, "parallel", "local", "Of a sweep: local, local:N or slurm."),
    (flags.DEFINE_integer, "local_processes", None, "Train in so many processes here."),
    (flags.DEFINE_string, "launch", None, "Train on many hosts: slurm, tpu_vm or gke."),
    (flags.DEFINE_integer, "nodes", None, "How many hosts."),
    (flags.DEFINE_string, "launch_options", "", "Options of the launcher, space-separated."),
    (flags.DEFINE_boolean, "dry_run", False, "Only print what --launch would submit."),
)
USAGE = """Any field of a config is set by --config.some.field=value.
train --local_processes=N trains in N processes here; --launch=slurm, tpu_vm or gke on many hosts (--nodes=N
--launch_options='…' --dry_run). Processes started by other means find each other under SLURM, on TPU pods and on GKE,
or by --coordinator=HOST:PORT --num_processes=N --process_id=I of train, eval, imagine and plan."""


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit status. Of several processes only the first prints the path."""
    command = argv[1] if len(argv) > 1 else ""
    if command not in COMMANDS:
        print(_usage(command), file=sys.stderr)
        return 0 if command in ("-h", "--help", "help") else 2
    from experiments.runs import multihost
    from experiments.tools.launchers import last_line
    from world_models.core.errors import UserError

    # Where config_flags looks for the fields to override, and provenance for the command.
    sys.argv = [f"{argv[0]} {command}", *argv[2:]]
    try:
        path = _run(command, sys.argv)
    except (UserError, flags.Error) as error:
        # Flags wrap the sentence of a config file that fails in a whole traceback.
        # In one write, newline included: other processes write to the same place.
        sys.stderr.write(f"launch.py {command}: {last_line(str(error))}\n")
        return multihost.TRY_AGAIN if isinstance(error, multihost.NotTogether) else 1
    except KeyboardInterrupt as error:
        print(f"launch.py {command}: interrupted. {error}", file=sys.stderr)
        return 130
    except Exception:
        if not multihost.several():
            raise
        traceback.print_exc()  # most often another process died
        return multihost.TRY_AGAIN
    if path is not None and multihost.is_main():
        print(path)
    return 0


def _run(command: str, argv: list[str]) -> pathlib.Path | None:
    """Reads the flags of a command and calls it; returns the path of what it made, if it has not been printed."""
    if command == "table":
        return _table(argv)
    if command == "report":
        return _report(argv)
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    if command in NEEDS_CONFIG:
        config_flags.DEFINE_config_file("config", None, "Experiment config.", flag_values=values)
    else:
        flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.", flag_values=values)
    for define, name, default, text in (TOGETHER if command != "record" else ()) + (
        ELSEWHERE if command == "train" else ()
    ):
        define(name, default, text, flag_values=values)
    workdir = pathlib.Path(_given(argv, "workdir", command))
    if command in NEEDS_CONFIG:
        _check_config_file(_given(argv, "config", command))
    else:
        from experiments.runs.workdir import load_config

        config_flags.DEFINE_config_dict("config", load_config(workdir), flag_values=values)
    try:
        words = values(argv)
    except (AttributeError, KeyError) as error:
        raise flags.Error(f"The config has no field {error}: see the config file for those that it has.") from error
    _no_more(words)

    if command == "record":
        from experiments.commands.record import record
        from experiments.runs.workdir import dataset_of

        return record(values.config, pathlib.Path(dataset_of(values.config, workdir)))
    from experiments.runs import multihost, runtime

    runtime.setup(values.config.get("xla_flags", ""))
    if command == "train" and _chosen(values):
        return _elsewhere(values, argv, workdir)
    multihost.start(values.coordinator, values.num_processes, values.process_id)
    if command == "train":
        from experiments.training.loop import train

        return train(values.config, workdir)
    from experiments.runs.loading import load

    run = load(workdir, values.step, values.config)
    if command == "eval":
        from experiments.commands.eval import evaluate

        return evaluate(run)
    if command == "plan":
        from experiments.commands.plan import plan

        return plan(run)
    from experiments.commands.imagine import imagine

    return imagine(run)


def _chosen(values: flags.FlagValues) -> bool:
    """Whether training is to be done in other processes."""
    found = [name for name in ("sweep", "local_processes", "launch", "coordinator") if values[name].present]
    if len(found) > 1:
        raise flags.Error(f"--{found[0]} and --{found[1]} exclude each other.")
    for name in ("nodes", "launch_options", "dry_run"):
        if values[name].present and values.launch is None:
            raise flags.Error(f"--{name} goes with --launch=slurm, tpu_vm or gke.")
    return bool(values.sweep) or values.local_processes is not None or values.launch is not None


def _elsewhere(values: flags.FlagValues, argv: list[str], workdir: pathlib.Path) -> pathlib.Path | None:
    """Trains in other processes, here or on other hosts; None where the path has been printed or there is none."""
    from experiments.tools.launchers import Training, hosts, processes, without

    if values.sweep:
        from experiments.tools.sweep import sweep

        overrides = without(argv[1:], ("config", "workdir", "parallel"), ("sweep",))
        return sweep(_given(argv, "config", "train"), values.config, workdir, overrides, values.parallel)
    words = ["train", *without(argv[1:], ("local_processes", "launch", "nodes", "launch_options"), ("dry_run",))]
    if values.local_processes is not None:
        processes.run([sys.executable, os.path.abspath(__file__), *words], values.local_processes)
        return None
    words, options = tuple(without(words, ("workdir",))), tuple(shlex.split(values.launch_options))
    training = Training(words, pathlib.PurePosixPath(workdir), values.config.train.num_steps, values.nodes, options)
    hosts.launch(values.launch, training, dry_run=values.dry_run)
    return None if values.dry_run else workdir


def _table(argv: list[str]) -> pathlib.Path:
    values = flags.FlagValues()
    words = [
        ("workdir", "runs/tables", "Folder of all tables' data, runs and results."),
        ("scale", "cpu", "One of the table's scales."),
        ("rows", "", "Names of rows, comma-separated; all by default."),
        ("parallel", "local", "local, local:N, slurm, or none to collect only."),
        ("slurm", "", "Options for sbatch, space-separated."),
        ("data", "", "Directory of a data set to use instead of the one that the table records."),
    ]
    for name, default, text in words:
        flags.DEFINE_string(name, default, text, flag_values=values)
    flags.DEFINE_integer("seeds", 1, "How many seeds, from 0.", flag_values=values)
    for name in ("list", "force", "dry_run", "publish"):
        flags.DEFINE_boolean(name, False, "See README.", flag_values=values)
    names = values(argv)[1:]
    from experiments.commands.record import record
    from experiments.runs import runtime
    from experiments.tables import run as table
    from experiments.tools.launchers.runner import make_runner

    if values.list:
        print(table.list_tables())
        return table.definition.FOLDER
    if len(names) != 1:
        raise flags.Error(f"name one table ({', '.join(table.definition.names())}), or --list them.")
    runtime.setup()
    return table.table(
        names[0],
        pathlib.Path(values.workdir),
        scale=values.scale,
        rows=[row.strip() for row in values.rows.split(",") if row.strip()],
        seeds=values.seeds,
        runner=make_runner(values.parallel, values.slurm.split()),
        record=record,
        dataset=values.data,
        force=values.force,
        dry_run=values.dry_run,
        publish=values.publish,
    )


def _report(argv: list[str]) -> pathlib.Path:
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "runs", "Folder to look through.", flag_values=values)
    _no_more(values(argv))
    from experiments.reports.overview.build import build

    return build(pathlib.Path(values.workdir))


def _no_more(words: list[str]) -> None:
    if words[1:]:
        raise flags.Error(f"{words[1]!r} is no flag: fields of the config are set as --config.some.field=value.")


def _given(argv: list[str], name: str, command: str) -> str:
    """The value of a flag that a command cannot do without."""
    for i, word in enumerate(argv):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            value = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
            if value:
                return value
    raise flags.Error(f"--{name} is missing. Usage: launch.py {command} {COMMANDS[command]}")


def _check_config_file(value: str) -> None:
    path = value.partition(":")[0]
    if not os.path.exists(path):
        there = ", ".join(sorted(str(p) for p in pathlib.Path("configs").glob("*.py") if p.name != "__init__.py"))
        raise flags.Error(f"--config={value} is no file; configs here: {there}.")


def _usage(command: str) -> str:
    lines = [
        f"{command!r} is no command."
        if command and command not in ("-h", "--help", "help")
        else __doc__.splitlines()[0]
    ]
    lines += [f"  python launch.py {name:8}{text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, USAGE])


if __name__ == "__main__":
    from experiments.runs import multihost

    multihost.leave(main(sys.argv))
