"""What recording costs on top of the simulator: frames per second of both, on one core each.

    python -m experiments.tools.benchmarks record --config=configs/car_unet.py [--episodes=6]

The bare simulator steps, and renders where the config records rendered frames; recording also resizes, encodes and
writes. One worker each, in turns; both count the start of the simulator, which is made anew for each episode.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence

from experiments.runs.recording import make_source
from experiments.tools.benchmarks import common
from world_models.core.errors import UserError
from world_models.environments.gymnasium import GymnasiumSource


def simulate(source: GymnasiumSource, unit: int) -> tuple[int, float]:
    """(frames, seconds) of an episode that is not recorded; the same seed and actions as the recorded one."""
    start = time.perf_counter()
    with source.opened() as environment:
        observed, act = source.begin(environment, unit)
        frames, ended = 0, False
        while not ended and frames < source.skip_steps + source.max_episode_steps - 1:
            source.pixels(environment, observed)
            held = source.hold(environment, act(observed))
            observed, ended = held.observed, held.terminated or held.truncated
            frames += held.whole
    return frames - source.skip_steps, time.perf_counter() - start


def record(source: GymnasiumSource, unit: int, folder: pathlib.Path) -> tuple[int, float]:
    """(frames, seconds) of an episode that is made, encoded and written."""
    start = time.perf_counter()
    (episode,) = source.episodes(unit)
    episode.save(folder / str(unit))
    return len(episode.images) - 1, time.perf_counter() - start


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--config", default="configs/car_unet.py", help="config file that says what to record")
    parser.add_argument("--episodes", type=common.integer, default=6, help="to record")
    options, overrides = parser.parse_known_args(argv)
    config = common.load_config(options.config, overrides)
    source = make_source(config.record)
    if not isinstance(source, GymnasiumSource):
        raise UserError(f"config.record.source={config.record.source!r} is no simulator: there is nothing to compare.")
    ratios, rates = [], {"simulator": [], "recorded": []}
    simulate(source, 0)
    with tempfile.TemporaryDirectory() as folder:
        for unit in range(options.episodes):
            frames, bare = simulate(source, unit)
            same, full = record(source, unit, pathlib.Path(folder))
            assert same == frames
            ratios.append(full / bare)
            rates["simulator"].append(frames / bare)
            rates["recorded"].append(frames / full)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = statistics.median(ratios)
    print(f"{config.record.environment}: simulator {medians['simulator']:.0f} frames/s, recorded "
          f"{medians['recorded']:.0f}; time ratio {ratio:.3f} (median of {options.episodes} pairs)")  # fmt: skip
    common.finish({"environment": config.record.environment, **medians, "time_ratio": ratio}, options.output)
