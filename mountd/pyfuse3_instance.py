"""One copy of pyfuse3 a mount.

pyfuse3 keeps its session in C globals, so an imported pyfuse3 can hold one mount only. Its shared
object loaded from another path is another library to the dynamic linker, with globals of its own.
"""

import importlib.machinery
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType


def load() -> ModuleType:
    """A pyfuse3 that shares no state with any other. It stays loaded until the process ends."""
    found = importlib.util.find_spec("pyfuse3")
    if found is None or found.origin is None:
        raise ImportError("pyfuse3 is not installed")
    origin = Path(found.origin)
    with tempfile.TemporaryDirectory(prefix="dittofs-") as directory:
        copy = Path(directory) / origin.name
        shutil.copy(origin, copy)
        spec = importlib.util.spec_from_file_location(
            "pyfuse3", copy, submodule_search_locations=[str(origin.parent)]
        )
        assert spec is not None
        assert spec.loader is not None
        others = _take_modules()
        try:
            module = importlib.util.module_from_spec(spec)
            sys.modules["pyfuse3"] = module
            spec.loader.exec_module(module)
        finally:
            _take_modules()
            sys.modules.update(others)
    return module


def _take_modules() -> dict[str, ModuleType]:
    """Remove and return what is loaded under pyfuse3's name."""
    names = [name for name in sys.modules if name == "pyfuse3" or name.startswith("pyfuse3.")]
    return {name: sys.modules.pop(name) for name in names}
