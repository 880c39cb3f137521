"""The setup of every command that computes: flags of the compiler, the cache of compiled programs, memory."""

import ctypes
import importlib.metadata
import importlib.util
import os
import pathlib
import sys

import jax
from absl import logging

from world_models.core.errors import ConfigError


def setup(xla_flags: str = "") -> None:
    """Sets flags of XLA and the cache of compiled programs in the user's cache folder, and silences libraries.

    JAX_COMPILATION_CACHE_DIR chooses another folder. Several processes may share it: JAX lets only the first write.

    Args:
      xla_flags: `config.runtime.xla_flags`, space-separated. They are added to those in the environment, before any
        backend starts: to XLA_FLAGS, or to LIBTPU_INIT_ARGS for those with --xla_tpu, which XLA itself does not know.

    Raises:
      UserError: if a word is no flag of XLA. One that XLA does not know ends the process with its name.
    """
    for flag in xla_flags.split():
        if not flag.startswith("--xla_"):
            raise ConfigError(
                "config.runtime.xla_flags",
                f"config.runtime.xla_flags has {flag!r}, which is no flag of XLA: each begins with --xla_.",
            )
        name = "LIBTPU_INIT_ARGS" if flag.startswith("--xla_tpu") else "XLA_FLAGS"
        before = os.environ.get(name, "").split()
        if flag not in before:
            os.environ[name] = " ".join([*before, flag])
    disable_malloc_trim()
    logging.set_verbosity(logging.FATAL)  # what libraries log as an error they raise as well
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "world_models" / "xla"))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def disable_malloc_trim() -> bool:
    """Keeps memory that a training step frees in the process for the next step, if JAX can only run on CPUs.

    By default glibc returns large buffers to the system at once and faults them in again, page by page, at every step.
    Call it before JAX starts a backend: it does not affect threads that have allocated before. It does nothing if the
    environment configures malloc (MALLOC_ARENA_MAX, ...).

    Returns:
      whether trimming is off now.
    """
    accelerators = importlib.metadata.entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    only_cpus = os.environ.get("JAX_PLATFORMS") == "cpu" or not accelerators
    if not sys.platform.startswith("linux") or not only_cpus or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):  # another C library
        return False
    one_arena, no_mmap, never_trim = (-8, 1), (-4, 0), (-1, 2**31 - 1)  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD
    return all(library.mallopt(*option) for option in (one_arena, no_mmap, never_trim))
