"""What every verb that computes sets up once: where compiled programs are kept."""

import os
import pathlib

import jax
from absl import logging


def setup() -> None:
    """Keeps compiled programs in the user's cache folder, so that second runs start at once, and libraries quiet.

    JAX_COMPILATION_CACHE_DIR chooses another folder.
    """
    logging.set_verbosity(logging.ERROR)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "world_models" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
