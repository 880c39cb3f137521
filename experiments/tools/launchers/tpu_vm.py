"""Runs one training on all hosts of a TPU VM, through gcloud."""

import shlex
import subprocess

from experiments.tools.launchers import Training, need, read_options
from world_models.core.errors import UserError

OPTIONS = {"name": "", "zone": "", "project": "", "repository": "world_models", "python": ".venv/bin/python"}


def launch(training: Training, *, dry_run: bool) -> str:
    """Starts the training on every host, or only prints the gcloud command.

    It continues when the connection ends. The output of a host is appended to <workdir>/logs/<host>.log, and <host>.pid
    beside it holds the number of its process: SIGTERM to all of them saves and ends the training. The hosts find each
    other through the TPU's metadata. After a preemption create the TPU again and repeat the command.

    Args:
      training: its options are `name` and `zone` of the TPU, `project`, `repository` (this code's folder on the hosts,
        from the home folder), `python` (from there), and words that begin with "--", for gcloud, such as
        "--tunnel-through-iap". Its hosts are those of the TPU, so `nodes` must be None.
      dry_run: print only.

    Returns:
      What was started, in words.

    Raises:
      UserError: if an option is missing or unknown, there is no gcloud, or it fails.
    """
    if training.nodes is not None:
        raise UserError(f"--nodes={training.nodes} is not for --launch=tpu_vm: it runs on all hosts of the TPU.")
    own = [word for word in training.options if not word.startswith("--")]
    options = read_options(own, OPTIONS, ("name", "zone"), "tpu_vm")
    command = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", options["name"], f"--zone={options['zone']}"]
    command += [f"--project={options['project']}"] if options["project"] else []
    command += [word for word in training.options if word.startswith("--")]
    command += ["--worker=all", f"--command={_remote(training, options)}"]
    if dry_run:
        print(shlex.join(command))
        return ""
    need("gcloud", "install the Google Cloud CLI, or print the command with --dry_run")
    status = subprocess.run(command).returncode
    if status:
        raise UserError(f"gcloud ended with exit status {status}: its output is above.")
    return f"the training on TPU {options['name']}, logs: {training.workdir}/logs"


def _remote(training: Training, options: dict[str, str]) -> str:
    """What a host's shell runs."""
    logs = shlex.quote(str(training.workdir / "logs"))
    command = shlex.join([options["python"], "launch.py", *training.words, f"--workdir={training.workdir}"])
    return (
        f"cd {shlex.quote(options['repository'])} && mkdir -p {logs} && "
        f"{{ setsid nohup {command} >> {logs}/$(hostname).log 2>&1 < /dev/null & echo $! > {logs}/$(hostname).pid; }}"
    )
