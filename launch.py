"""The entry point of all commands: `python launch.py COMMAND --help` prints the flags of one."""

import argparse
import importlib
import sys
import traceback

from experiments.commands.common import Parser, explained, split_overrides
from experiments.runs import multihost

COMMANDS = ("record", "train", "eval", "imagine", "plan", "play", "table", "report", "config")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each module of `experiments/commands/` declares its own flags."""
    parser = Parser(prog="launch.py", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"experiments.commands.{name}")
        about = {"help": module.__doc__.partition("\n")[0], "description": module.__doc__}
        command = commands.add_parser(name, **about, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit status. Of several processes only the first prints the path of the result."""
    (words, overrides), parser, sys.argv = split_overrides(argv[1:]), make_parser(), argv  # for provenance
    if not words or words[0] not in (*COMMANDS, "-h", "--help"):
        print(f"{words[0]!r} is no command.\n" if words else "", parser.format_help(), sep="", file=sys.stderr)
        return 2
    try:
        path = (args := parser.parse_args(words)).run(args, overrides)
    except KeyboardInterrupt as error:
        print(f"launch.py {words[0]}: interrupted. {error}", file=sys.stderr)
        return 130
    except Exception as error:
        if text := explained(error):
            sys.stderr.write(f"launch.py {words[0]}: {text}\n")  # one write: other processes write to the same place
            return multihost.TRY_AGAIN if isinstance(error, multihost.JoinError) else 1
        if not multihost.is_distributed():
            raise
        traceback.print_exc()  # most often another process died
        return multihost.TRY_AGAIN
    if path is not None and multihost.is_main():
        print(path)
    return 0


if __name__ == "__main__":
    multihost.leave(main(sys.argv))
