"""A stand-in for the NVIDIA driver's library, built from C, for the real pynvml bindings.

stub = build_stub(tmp_path)
stub.devices("GPU-a H100 81920 500 37 350000 45 ok")
subprocess.run(..., env={**os.environ, **stub.environment})
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "nvml_stub" / "nvml_stub.c"


@dataclass(frozen=True)
class NvmlStub:
    """The built library, and the file that says what the machine has."""

    library: Path
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the stub instead of a driver."""
        path = os.pathsep.join(filter(None, [str(self.library.parent), os.environ.get("LD_LIBRARY_PATH")]))
        return {"LD_LIBRARY_PATH": path, "NVML_STUB_STATE": str(self.state)}

    def devices(self, *lines: str, driver: str = "ok") -> None:
        """Say what the machine has from now on: UUID NAME TOTAL_MIB USED_MIB UTIL POWER_MW TEMP STATUS."""
        draft = self.state.with_suffix(".draft")
        draft.write_text("\n".join([f"driver {driver}", *(f"device {line}" for line in lines)]) + "\n")
        draft.replace(self.state)  # a reader sees all of it or nothing


def build_stub(directory: Path) -> NvmlStub:
    """Build the library in *directory*; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build the stub of libnvidia-ml.so")
    library = directory / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE], check=True
    )
    stub = NvmlStub(library, directory / "devices")
    stub.devices()
    return stub
