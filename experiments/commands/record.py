"""The command `record`: experience from a simulator, a folder of videos or a source of images, as a TFDS data set."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import ml_collections

from experiments.runs.progress import Progress
from experiments.runs.sources import make_source
from experiments.runs.workdir import differences, write_json
from world_models.core.errors import UserError, is_disk_full
from world_models.data import sources
from world_models.data.episodes import Episode, Source

NOT_PART_OF_THE_DATA = ("num_workers",)


def record(config: ml_collections.ConfigDict, output: pathlib.Path) -> pathlib.Path:
    """Records what `config.record` asks for.

    Finished episodes gather in `<output>.partial`; a second call goes on from there, and `output` appears in one
    rename once all of it is on disk. The sources of `world_models.data.sources` take seconds and start anew instead.

    Args:
      config: the whole config.
      output: directory of the data set.

    Returns:
      `output`.

    Raises:
      UserError: if the config cannot work, `output` holds another recording, an episode fails or the disk is full.
      KeyboardInterrupt: on Ctrl-C or SIGTERM; finished episodes stay.
    """
    options = config.record
    wanted = json.loads(json.dumps({k: v for k, v in options.to_dict().items() if k not in NOT_PART_OF_THE_DATA}))
    if output.exists():
        _check_same(_recorded(output), wanted, f"{output} holds another recording", "choose another --workdir")
        print(f"{output} is recorded already.")
        return output
    partial = output.with_name(output.name + ".partial")
    if partial.exists():
        remedy = f"delete {partial} or choose another --workdir"
        _check_same(_read_json(partial / "record.json"), wanted, f"{partial} was begun with another config", remedy)
    if "splits" in options:
        _check_splits(options.splits)
    if options.source in sources.FIELDS:
        _make_at_once(options, wanted, partial, output)
        return output
    source = make_source(options)
    with _explaining(partial, f"Finished episodes are safe in {partial}; the same command goes on from there."):
        write_json(partial / "record.json", wanted)
        episodes = partial / "episodes"
        episodes.mkdir(exist_ok=True)
        _make_all(source, episodes, options.num_workers or os.cpu_count())
        _finish(source, options, wanted, partial, output)
    return output


def _check_splits(splits: Any) -> None:
    unknown = sorted(set(splits) - {"train", "validation", "test"})
    if unknown or min(splits.values()) < 0 or abs(sum(splits.values()) - 1) > 1e-6:
        raise UserError(
            f"config.record.splits={dict(splits)} must share out 1 among train, validation and test, none below 0."
        )


def _check_same(there: dict[str, Any], wanted: dict[str, Any], problem: str, remedy: str) -> None:
    changed = differences(there, wanted)
    if changed:
        fields = "; ".join(f"config.record.{name} is {new!r}, there it is {old!r}" for name, old, new in changed[:8])
        raise UserError(f"{problem} ({fields}): {remedy}.")


def _recorded(output: pathlib.Path) -> dict[str, Any]:
    """The record config of a finished data set."""
    return _read_json(output / "metadata.json").get("record", {})


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path.parent} was not made by launch.py record ({path.name}: {error}): move it away."
        ) from error


@contextlib.contextmanager
def _explaining(partial: pathlib.Path, interrupted: str) -> Iterator[None]:
    """Turns a full disk into a sentence, and Ctrl-C and SIGTERM into a KeyboardInterrupt that says `interrupted`."""

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
        done = len(_finished(partial / "episodes"))
        kept = f"{done} finished recordings are safe there; " if done else ""
        raise UserError(
            f"No space left on the disk of {partial}: {kept}free some space and run the same command again."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _make_at_once(
    options: ml_collections.ConfigDict, wanted: dict[str, Any], partial: pathlib.Path, output: pathlib.Path
) -> None:
    """Makes a data set of `world_models.data.sources`, in this process."""
    collection = sources.open_source(options)
    from world_models.data.sources.collection import write

    progress = Progress(sum(split.size for split in collection.splits.values()))
    with _explaining(partial, f"Nothing was made of {output}; the same command starts anew."):
        write_json(partial / "record.json", wanted)
        try:
            write(output, partial / "scratch", collection, wanted, lambda done: progress.show(done, collection.name))
        except BaseException:
            shutil.rmtree(partial)
            raise
        finally:
            progress.close()
    for name, split in collection.splits.items():
        print(f"{name:12}{split.size:8} examples")
    print(f"{collection.source} (licence: {collection.licence})")
    shutil.rmtree(partial)


def _finished(folder: pathlib.Path) -> list[int]:
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _make_all(source: Source, folder: pathlib.Path, num_workers: int) -> None:
    """Makes all units that are not there yet, in worker processes."""
    for leftover in folder.glob("*.tmp"):
        shutil.rmtree(leftover)
    done = _finished(folder)
    missing = sorted(set(range(source.num_units)) - set(done))
    if not missing:
        return
    progress = Progress(source.num_units, len(done))
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
            done.append(jobs[job])
            progress.show(len(done), f"{frames / (time.monotonic() - start):.0f} frames/s")
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        progress.close()


def _result(job: concurrent.futures.Future, source: Source, unit: int) -> int:
    """Frames of a finished job, or a sentence on why it failed."""
    try:
        return job.result()
    except UserError:
        raise
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            f"A worker process died while making {source.describe(unit)} or one beside it (killed, out of memory, or a "
            "crash in the simulator): finished episodes are kept, the same command goes on from there."
        ) from error
    except Exception as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"{source.describe(unit)} failed with {type(error).__name__}: {error}; finished episodes are kept."
        ) from error


_worker: dict[str, Any] = {}


def _start_worker(source: Source, folder: pathlib.Path, parent: int) -> None:
    """Readies a worker process: it leaves signals to its parent and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _worker.update(source=source, folder=folder)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_unit(unit: int) -> int:
    """Makes the episodes of one unit; its folder appears when all of them are on disk. Returns the frames."""
    source, folder = _worker["source"], _worker["folder"]
    temporary = folder / f"{unit}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    frames = 0
    for index, episode in enumerate(source.episodes(unit)):
        episode.save(temporary / f"{index:06}")
        frames += len(episode.images)
    temporary.rename(folder / str(unit))
    return frames


def _finish(
    source: Source,
    options: ml_collections.ConfigDict,
    wanted: dict[str, Any],
    partial: pathlib.Path,
    output: pathlib.Path,
) -> None:
    """Turns the finished episodes into the data set."""
    from world_models.data import rlds  # after the workers are gone: it imports TFDS

    files = [
        (unit, path)
        for unit in range(source.num_units)
        for path in sorted((partial / "episodes" / str(unit)).iterdir())
    ]
    dealt = rlds.split_episodes([unit for unit, _ in files], dict(options.splits), options.seed)
    splits = {name: [(i, files[i][1]) for i in chosen] for name, chosen in dealt.items()}
    description = rlds.Description(
        image_size=tuple(options.image_size),
        action=source.action,
        environment=options.environment if options.source == "gymnasium" else options.videos,
        policy=options.policy if options.source == "gymnasium" else "",
        record=wanted,
        versions=rlds.versions(options.environment if options.source == "gymnasium" else ""),
    )
    rlds.write(output, partial / "scratch", description, splits)
    for name, chosen in splits.items():
        frames = sum(len(Episode.load(path).images) for _, path in chosen)
        print(f"{name:12}{len(chosen):6} episodes {frames:8} frames")
    shutil.rmtree(partial)
