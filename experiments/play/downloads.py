"""What a player takes home: an MP4 of the frames, or an RLDS data set that `train` and `imagine` read."""

import asyncio
import io
import pathlib
import shutil
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from world_models.core.types import ActionSpec
from world_models.data.writing import write_episodes

if TYPE_CHECKING:
    from experiments.play.session import Session
    from experiments.play.tree import Node

KINDS = {"mp4": ("play.mp4", "video/mp4"), "rlds": ("play_rlds.zip", "application/zip")}
LEAST_SIDE = 256  # pixels of a video's frames, so that players show them well


def recorded(session: "Session") -> "list[Node]":
    """The moments to write: since the recording began, or all that are kept of the present branch."""
    path = session.tree.now.path()
    begins = [i for i, node in enumerate(path) if node is session.recording]
    return path[begins[0] :] if begins else path


async def respond(session: "Session", kind: str, headers: dict[str, str]) -> Response:
    """The file, which is deleted once it has been sent."""
    nodes, (name, media) = recorded(session), KINDS[kind]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="play."))
    try:
        frames = [node.frame for node in nodes]
        if kind == "mp4":
            truths = [node.truth and node.truth.frame for node in nodes]
            work = (write_mp4, folder / name, frames, truths, float(session.settings["fps"]))
        else:
            rewards = [node.reward or 0.0 for node in nodes[1:]]
            work = (
                write_rlds,
                folder / name,
                frames,
                [node.action for node in nodes[1:]],
                rewards,
                session.scene.actions,
            )
        await asyncio.to_thread(*work)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(folder / name, media_type=media, filename=name, headers=headers, background=done)


def write_mp4(path: pathlib.Path, frames: list[np.ndarray], truths: list[np.ndarray | None], fps: float) -> None:
    """Writes H.264 of frames uint8 [h, w, c], with the simulator's on their right if there are any."""
    height, width, _ = frames[0].shape
    scale = max(1, -(-LEAST_SIDE // min(height, width)))
    beside = any(truth is not None for truth in truths)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=max(1, round(fps)))
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = (2 if beside else 1) * width * scale // 2 * 2, height * scale // 2 * 2
        stream.options = {"crf": "16"}
        for frame, truth in zip(frames, truths):
            shown = [frame] if not beside else [frame, np.zeros_like(frame) if truth is None else truth]
            image = np.concatenate([np.repeat(part, 3 // part.shape[-1], axis=-1) for part in shown], axis=1)
            image = image.repeat(scale, axis=0).repeat(scale, axis=1)[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_rlds(
    path: pathlib.Path, frames: list[np.ndarray], actions: list[np.ndarray], rewards: list[float], spec: ActionSpec
) -> None:
    """Writes one episode as a data set, zipped: unpack it and name the folder in `config.data.dataset`."""
    empty = np.zeros((0, *spec.shape), np.int64 if spec.kind == "discrete" else np.float32)
    episode: dict[str, Any] = {
        "frames": np.stack(frames),
        "actions": np.stack(actions).astype(empty.dtype) if actions else np.zeros((1, *spec.shape), empty.dtype),
        "rewards": np.float32(rewards) if rewards else np.zeros(1, np.float32),
    }
    folder = path.parent / "play_rlds"
    bounds = (spec.low, spec.high) if spec.kind == "continuous" else None
    options = {"num_actions": spec.size} if spec.kind == "discrete" else {"bounds": bounds}
    write_episodes(folder, [episode], splits={"train": 1.0}, text="Played in a model's web page.", **options)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, pathlib.Path("play_rlds") / file.relative_to(folder))


def read_back(data: bytes, folder: pathlib.Path) -> pathlib.Path:
    """Unpacks a download of the kind "rlds"; returns the folder of the data set."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
    return folder / "play_rlds"
