"""Recording experience from a simulator, a folder of videos or a source of images as a TFDS data set. No JAX here."""

import concurrent.futures
import contextlib
import errno
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from experiments.runs.files import read_json, write_json
from experiments.runs.progress import Progress
from experiments.runs.workdir import differences
from world_models.core.errors import ConfigError, UserError, config_error, is_disk_full
from world_models.core.options import from_dict, to_dict
from world_models.data import sources
from world_models.data.episodes import Episode, Source
from world_models.data.options import RECORDING, GymnasiumRecording, VideosRecording

NOT_PART_OF_THE_DATA = ("num_workers",)
NOT_PART_OF_AN_EPISODE = ("splits", "skip")  # may change while a recording is unfinished
GRACE = 5.0  # seconds from asking a worker to end until it is killed


def record(config: ml_collections.ConfigDict, output: pathlib.Path) -> pathlib.Path:
    """Records the data of `config.record`.

    Finished episodes are kept in `<output>.partial`; a second call goes on from there, and `output` appears in one
    rename once all of it is on disk. The sources of `world_models.data.sources` take seconds and start anew instead.

    Args:
      config: the whole config.
      output: directory of the data set.

    Returns:
      `output`.

    Raises:
      UserError: if the config is invalid, `output` holds another recording, an episode fails or the disk is full.
      KeyboardInterrupt: on Ctrl-C or SIGTERM; finished episodes stay.
    """
    if not config.record:
        raise ConfigError(
            "config.record", "config.record is empty: this config takes its data from config.data.dataset."
        )
    options = read_options(config.record)
    block = to_dict(options, RECORDING)
    resolved = json.loads(json.dumps({k: v for k, v in block.items() if k not in NOT_PART_OF_THE_DATA}))
    if output.exists():
        found = _recorded(output / "metadata.json").get("record", {})
        _check_same(found, resolved, f"{output} holds another recording", "choose another --workdir")
        print(f"{output} is recorded already.")
        return output
    partial = output.with_name(output.name + ".partial")
    if partial.exists():
        remedy = f"delete {partial} or choose another --workdir"
        begun, now = (_of_episodes(found) for found in (_recorded(partial / "record.json"), resolved))
        _check_same(begun, now, f"{partial} was begun with another config", remedy)
    if hasattr(options, "splits"):
        _check_splits(options.splits)
    if not isinstance(options, GymnasiumRecording | VideosRecording):
        _make_at_once(block, resolved, partial, output)
        return output
    source = make_source(config.record)
    print(source.summary)
    from world_models.data import rlds  # imports TFDS, which the workers do not need

    rlds.split_episodes(range(source.num_units), options.splits, options.seed)  # raises before anything is recorded
    with _explaining(partial, f"Finished episodes are kept in {partial}; the same command goes on from there."):
        write_json(partial / "record.json", resolved)
        episodes = partial / "episodes"
        episodes.mkdir(exist_ok=True)
        _make_all(source, episodes, options.num_workers or os.cpu_count())
        _finish(source, options, resolved, partial, output)
    return output


def read_options(block: Mapping[str, Any]) -> Any:
    """The options of `config.record`, of the dataclass of its source."""
    return from_dict(
        RECORDING, block.to_dict() if isinstance(block, ml_collections.ConfigDict) else block, "config.record"
    )


def make_source(block: Mapping[str, Any]) -> Source:
    """The simulator or folder of videos of `config.record`, checked.

    Raises:
      UserError: if a field is invalid, or the source is another one.
    """
    options = read_options(block)
    if min(options.image_size) < 1:
        raise config_error("config.record.image_size", options.image_size, "be (height, width), both at least 1")
    if isinstance(options, VideosRecording):
        from world_models.data.videos import VideoSource

        _check_least(options, frame_stride=1, max_episode_steps=0)
        _check_least(options, fps=0)
        return VideoSource(
            folder=options.videos,
            skip=options.skip,
            image_size=options.image_size,
            fit=options.fit,
            fps=options.fps,
            frame_stride=options.frame_stride,
            max_episode_steps=options.max_episode_steps,
        )
    if not isinstance(options, GymnasiumRecording):
        raise config_error("config.record.source", block["source"], "be 'gymnasium' or 'videos' here")
    if options.observation not in ("render", "observation"):
        raise config_error("config.record.observation", options.observation, "be 'render' or 'observation'")
    _check_least(options, action_repeat=1, num_episodes=1, max_episode_steps=2, skip_steps=0)
    from world_models.environments.gymnasium import GymnasiumSource

    return GymnasiumSource(
        environment=options.environment,
        kwargs=dict(options.environment_kwargs),
        modules=options.modules,
        observation=options.observation,
        observation_key=options.observation_key,
        image_size=options.image_size,
        fit=options.fit,
        action_repeat=options.action_repeat,
        policy=options.policy,
        repeat_probability=options.repeat_probability,
        num_units=options.num_episodes,
        max_episode_steps=options.max_episode_steps,
        skip_steps=options.skip_steps,
        base_seed=options.seed,
        reuse_environment=options.reuse_environment,
        reset_options=dict(options.reset_options),
        instances=options.instances,
    )


def _check_least(options: Any, **least: int) -> None:
    for name, value in least.items():
        if getattr(options, name) < value:
            raise config_error(f"config.record.{name}", getattr(options, name), f"be at least {value}")


def _check_splits(splits: Mapping[str, float]) -> None:
    unknown = sorted(set(splits) - {"train", "validation", "test"})
    if unknown or min(splits.values()) < 0 or abs(sum(splits.values()) - 1) > 1e-6:
        valid = "give train, validation and test shares of at least 0 that add up to 1"
        raise config_error("config.record.splits", dict(splits), valid)


def _check_same(found: dict[str, Any], resolved: dict[str, Any], problem: str, remedy: str) -> None:
    changed = differences(found, resolved)
    if changed:
        fields = "; ".join(f"config.record.{name} is {new!r}, there it is {old!r}" for name, old, new in changed[:8])
        raise UserError(f"{problem} ({fields}): {remedy}.")


def _of_episodes(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in NOT_PART_OF_AN_EPISODE}


def _recorded(path: pathlib.Path) -> dict[str, Any]:
    """The notes of a finished or begun recording."""
    return read_json(path, f"{path.parent} is no recording of this program; move it away")


@contextlib.contextmanager
def _explaining(partial: pathlib.Path, interrupted: str) -> Iterator[None]:
    """Turns a full disk into a UserError, and Ctrl-C and SIGTERM into KeyboardInterrupt(interrupted)."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(interrupted) from None
    except Exception as error:
        if not is_disk_full(error):
            raise
        episodes = partial / "episodes"
        done = len([p for p in episodes.iterdir() if _is_unit(p)]) if episodes.is_dir() else 0
        kept = f"{done} finished recordings are kept there; " if done else ""
        raise UserError(
            f"No space left on the disk of {partial}: {kept}free some space and run the same command again."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _make_at_once(
    block: Mapping[str, Any], resolved: dict[str, Any], partial: pathlib.Path, output: pathlib.Path
) -> None:
    """Makes a data set of `world_models.data.sources`, in this process."""
    collection = sources.open_source(block)
    print(collection.summary or f"Frames are made at {'x'.join(map(str, block['image_size']))}.")
    from world_models.data.sources.collection import write

    progress = Progress(sum(split.size for split in collection.splits.values()), unit="example")
    with _explaining(partial, f"{output} was not made; the same command starts anew."):
        write_json(partial / "record.json", resolved)
        try:
            write(output, partial / "scratch", collection, resolved, lambda done: progress.show(done, collection.name))
        except BaseException:
            shutil.rmtree(partial)
            raise
        finally:
            progress.close()
    for name, split in collection.splits.items():
        print(f"{name:12}{split.size:8} examples")
    print(f"{collection.source} (licence: {collection.licence})")
    shutil.rmtree(partial)


def _is_unit(path: pathlib.Path) -> bool:
    return path.is_dir() and path.suffix != ".tmp"


def _make_all(source: Source, folder: pathlib.Path, num_workers: int) -> None:
    """Makes all missing units, in worker processes."""
    for leftover in folder.glob("*.tmp"):
        shutil.rmtree(leftover)
    missing = [unit for unit in range(source.num_units) if not (folder / source.key(unit)).is_dir()]
    done = source.num_units - len(missing)
    if not missing:
        return
    progress = Progress(source.num_units, done, unit="episode")
    frames, start = 0, time.monotonic()
    pool = concurrent.futures.ProcessPoolExecutor(
        min(num_workers, len(missing)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(source, folder, os.getpid()),
    )
    try:
        jobs = {pool.submit(_make_unit, unit): unit for unit in missing}
        for job in concurrent.futures.as_completed(jobs):
            frames += _result(job, source, jobs[job])
            done += 1
            progress.show(done, f"{frames / (time.monotonic() - start):.0f} frames/s")
        pool.shutdown()
    except BaseException:
        workers = multiprocessing.active_children()
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(GRACE)
            worker.kill()  # one that ignores SIGTERM
        raise
    finally:
        progress.close()


def _result(job: concurrent.futures.Future, source: Source, unit: int) -> int:
    """Frames of a finished job; raises UserError if its worker died."""
    try:
        return job.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            f"A worker process died while making {source.describe(unit)} or one beside it (killed, out of memory, or a "
            "crash in the simulator): finished episodes are kept, the same command goes on from there."
        ) from error


_worker: dict[str, Any] = {}


def _start_worker(source: Source, folder: pathlib.Path, parent: int) -> None:
    """Initializes a worker process: it leaves Ctrl-C to its parent and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _worker.update(source=source, folder=folder)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_unit(unit: int) -> int:
    """Makes the episodes of one unit; returns the number of frames.

    Raises:
      UserError: naming the unit, if its simulator or video fails with any exception, which may not be picklable.
      OSError: if the disk is full.
    """
    source, folder = _worker["source"], _worker["folder"]
    try:
        return _save_unit(source, unit, folder)
    except ConfigError:
        raise
    except UserError as error:
        raise UserError(str(error)) from None  # a class of its own may need other arguments to be sent back
    except (Exception, SystemExit) as error:
        if is_disk_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        failed = f"{source.describe(unit)} failed with {type(error).__name__}: {error}"
        raise UserError(f"{failed}; finished episodes are kept.") from None


def _save_unit(source: Source, unit: int, folder: pathlib.Path) -> int:
    """Saves the episodes of one unit, whose folder appears when all are on disk; returns the number of frames."""
    key = source.key(unit)
    temporary = folder / f"{key}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    frames = 0
    for index, episode in enumerate(source.episodes(unit)):
        episode.save(temporary / f"{index:06}")
        frames += len(episode.images)
    temporary.rename(folder / key)
    return frames


def _finish(
    source: Source,
    options: GymnasiumRecording | VideosRecording,
    resolved: dict[str, Any],
    partial: pathlib.Path,
    output: pathlib.Path,
) -> None:
    """Turns the finished episodes into the data set."""
    from world_models.data import rlds

    files = [
        (unit, path)
        for unit in range(source.num_units)
        for path in sorted((partial / "episodes" / source.key(unit)).glob("[0-9]*"))
    ]
    dealt = rlds.split_episodes([unit for unit, _ in files], options.splits, options.seed)
    stored = lambda i: rlds.Stored(i, files[i][1], source.metadata(files[i][0]))
    splits = {name: [stored(i) for i in chosen] for name, chosen in dealt.items()}
    if isinstance(options, GymnasiumRecording):
        from world_models.environments.gymnasium import known_module

        text = f"Episodes of {options.environment} under the policy {options.policy}."
        modules = ["gymnasium", known_module(options.environment)[0] or "", *options.modules]
    else:
        text, modules = "Episodes of video files.", ["av"]
    versions = rlds.versions(modules)
    masks = resolved.get("instances", False)
    description = rlds.Description(options.image_size, source.action, text, resolved, versions, masks)
    rlds.write(output, partial / "scratch", description, splits)
    for name, chosen in splits.items():
        frames = sum(len(Episode.load(each.path).images) for each in chosen)
        print(f"{name:12}{len(chosen):6} episodes {frames:8} frames")
    shutil.rmtree(partial)
