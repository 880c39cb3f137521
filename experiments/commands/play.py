"""Opens a web page where you steer a trained model in real time, beside the true simulator under the same keys."""

import argparse
from collections.abc import Sequence

from experiments.commands import common
from world_models.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_run(parser, required=False)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="Instead of --workdir: play the world that this config records in, as a perfect model.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="Address to serve at; another than 127.0.0.1 lets others in who have the token that is printed.",
    )
    parser.add_argument("--port", type=int, default=8765, metavar="N", help="Port; 0 for any that is free.")
    parser.add_argument("--fps", type=float, default=15.0, metavar="N", help="Frames a second, at most.")
    parser.add_argument("--max_players", type=int, default=8, metavar="N", help="How many may play at once.")


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Serves the page until it is interrupted."""
    from experiments.play import address

    if (args.workdir is None) == (args.config is None):
        raise UserError("play takes either --workdir=DIR, a trained run, or --config=FILE, a world without a model.")
    options = address.check(args.host, args.port, args.fps, args.max_players)  # before anything is loaded
    if args.workdir is not None:
        opened = common.open_run(args, overrides)
        opened.experiment.capability("play").write(opened, options)
        return
    config = common.load_config(args, overrides)
    from experiments.runs import runtime

    runtime.setup()
    from experiments.play.perfect import of_world
    from experiments.play.server import serve

    serve(of_world(config), options)
