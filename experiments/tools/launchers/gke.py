"""Runs one training on many nodes of a Kubernetes cluster, as a JobSet, made for GKE's TPUs and GPUs."""

import math
import re
import shlex
import subprocess
from typing import Any

import yaml

from experiments.runs.jobs import last_line
from experiments.runs.multihost import TRY_AGAIN
from experiments.tools.launchers import Training, need, read_options
from world_models.core.errors import UserError

OPTIONS = {
    "image": "",
    "volume": "",
    "mount": "",
    "name": "",
    "namespace": "",
    "repository": "/world_models",
    "python": "python",
    "tpu": "",
    "tpu_accelerator": "",
    "tpu_topology": "",
    "gpu": "",
    "gpu_accelerator": "",
    "cpu": "",
    "memory": "",
    "spot": "",
    "max_restarts": "100",
}
PORT = 8476

# The shell is process 1 of its container, where SIGTERM arrives when the pod is moved; it forwards it once. A training
# that was stopped ends with exit status 0: it is finished only if the last checkpoint exists.
_SHELL = """\
{command} &
child=$!
trap 'kill -TERM $child' TERM
wait $child
status=$?
while kill -0 $child 2>/dev/null; do
  wait $child
  status=$?
done
[ $status -ne 0 ] || [ -d {last} ] || status={try_again}
exit $status
"""


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines in block style."""


_Dumper.add_representer(
    str, lambda self, text: self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


def launch(training: Training, *, dry_run: bool) -> str:
    """Applies a JobSet to the cluster of kubectl's context, or only prints its manifest.

    When a pod is preempted, dies or hangs, all are started again, at most `max_restarts` times, and go on from the
    newest checkpoint; one that fails by its input (exit status 1 or 2) ends the JobSet. The cluster needs the JobSet
    controller.

    Args:
      training: its nodes are the pods, one by default; its options are `image` (that holds this code), `volume` (a
        claim that many pods may write to), `mount` (where it appears; the first folder of the workdir by default),
        `name` and `namespace` of the JobSet, `repository` and `python` (in the image), `tpu` (chips a node) with
        `tpu_accelerator` and `tpu_topology`, or `gpu` (a node) with `gpu_accelerator`, `cpu` and `memory` (a node),
        `spot=true`, and `max_restarts`.
      dry_run: print only.

    Returns:
      What was applied, in words.

    Raises:
      UserError: if options are missing, unknown or contradict each other, there is no kubectl, or it fails.
    """
    options = read_options(training.options, OPTIONS, ("image", "volume"), "gke")
    manifest = _manifest(training, options)
    text = yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=1000)
    if dry_run:
        print(text, end="")
        return ""
    need("kubectl", "install it and choose a context, or print the manifest with --dry_run")
    answer = subprocess.run(["kubectl", "apply", "-f", "-"], input=text, capture_output=True, text=True)
    if answer.returncode:
        raise UserError(f"kubectl failed on the JobSet: {last_line(answer.stderr)}")
    return last_line(answer.stdout)


def _manifest(training: Training, options: dict[str, str]) -> dict[str, Any]:
    """The JobSet."""
    nodes = training.nodes or 1
    name = options["name"] or re.sub("[^a-z0-9]+", "-", training.workdir.name.lower()).strip("-")[:40].strip("-")
    if not re.fullmatch("[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise UserError(
            f"{name!r} is no name for a JobSet: give one of at most 40 small letters, digits and hyphens that begins "
            "with a letter, as name=… in --launch_options."
        )
    job = {
        "parallelism": nodes,
        "completions": nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a pod cannot rejoin the others alone: all start again
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": "train", "operator": "In", "values": [1, 2]}}
            ]
        },
        "template": {"spec": _pod(training, options, name, nodes)},
    }
    metadata = {"name": name, **({"namespace": options["namespace"]} if options["namespace"] else {})}
    if options["tpu"]:  # all pods on one slice
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {
                "maxRestarts": _count(options, "max_restarts"),
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "hosts", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _pod(training: Training, options: dict[str, str], name: str, nodes: int) -> dict[str, Any]:
    """The pod of a node."""
    selector, limits = _hardware(options, nodes)
    words = [options["python"], "launch.py", *training.words, f"--workdir={training.workdir}"]
    command = shlex.join(words)
    if not options["tpu"]:  # GKE configures the pods of a TPU
        command += f" --coordinator={name}-hosts-0-0.{name}:{PORT} --num_processes={nodes}"
        command += ' --process_id="$JOB_COMPLETION_INDEX"'
    shell = _SHELL.format(command=command, last=shlex.quote(training.last_checkpoint), try_again=TRY_AGAIN)
    container = {
        "name": "train",
        "image": options["image"],
        "workingDir": options["repository"],
        "command": ["/bin/bash", "-c", shell],
        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
        "ports": [{"containerPort": PORT}],
        **({"resources": {"limits": limits}} if limits else {}),
        "volumeMounts": [
            {"name": "shared", "mountPath": options["mount"] or "/" + training.workdir.parts[1]},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }
    spot = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        **({"nodeSelector": selector} if selector else {}),
        **({"tolerations": [spot]} if options["spot"] == "true" else {}),
        "containers": [container],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": options["volume"]}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }


def _hardware(options: dict[str, str], nodes: int) -> tuple[dict[str, str], dict[str, Any]]:
    """(labels that a node must have, resource limits of a pod)."""
    labels, limits = {}, {}
    if options["tpu"] and options["gpu"]:
        raise UserError("--launch_options has tpu=… and gpu=…: a node has one of them.")
    if options["tpu"]:
        limits["google.com/tpu"] = _count(options, "tpu")
        labels["cloud.google.com/gke-tpu-accelerator"] = options["tpu_accelerator"]
        labels["cloud.google.com/gke-tpu-topology"] = options["tpu_topology"]
        if not options["tpu_accelerator"] or not re.fullmatch(r"\d+(x\d+)+", options["tpu_topology"]):
            raise UserError("tpu=… needs tpu_accelerator=… and tpu_topology=… such as 4x4 in --launch_options.")
        chips = math.prod(map(int, options["tpu_topology"].split("x")))
        if chips != nodes * limits["google.com/tpu"]:
            raise UserError(
                f"tpu_topology={options['tpu_topology']} has {chips} chips; --nodes={nodes} with tpu={options['tpu']} "
                f"have {nodes * limits['google.com/tpu']}: all of a slice must be used."
            )
    if options["gpu"]:
        limits["nvidia.com/gpu"] = _count(options, "gpu")
        if options["gpu_accelerator"]:
            labels["cloud.google.com/gke-accelerator"] = options["gpu_accelerator"]
    if options["spot"] == "true":
        labels["cloud.google.com/gke-spot"] = "true"
    limits |= {kind: options[kind] for kind in ("cpu", "memory") if options[kind]}
    return labels, limits


def _count(options: dict[str, str], name: str) -> int:
    if not re.fullmatch("[1-9][0-9]*", options[name]):
        raise UserError(f"{name}={options[name]} in --launch_options must be a whole number from 1.")
    return int(options[name])
