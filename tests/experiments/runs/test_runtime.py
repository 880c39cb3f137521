"""What is set up once a process."""

import os
import subprocess
import sys

import pytest

# Faults of pages when a buffer is filled for the second time: none if the C library has kept it.
CODE = """
import ctypes, resource
from experiments.runs import runtime
print(runtime.disable_malloc_trim())
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.memset.argtypes, library.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = library.malloc(2**26)
    library.memset(buffer, 1, 2**26)
    library.free(buffer)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_ARENA_TEST": "8"}, False)])
def test_freed_memory_is_kept_unless_the_user_has_set_malloc(variables, kept):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment = clean | {"JAX_PLATFORMS": "cpu"} | variables
    out = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    said, faults = out.stdout.split()
    assert said == str(kept)
    assert (int(faults) < 100) == kept
