"""What the tests of whole daemons share."""

from __future__ import annotations

import pytest
from nvml import NvmlStub, build_stub


@pytest.fixture(scope="session")
def two_gpus(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    """The stub of NVML on a machine with two devices."""
    stub = build_stub(tmp_path_factory.mktemp("nvml"))
    stub.devices(
        "GPU-11111111-0000-0000-0000-000000000000 Stub-80GB 81920 512 37 250000 61 ok",
        "GPU-22222222-0000-0000-0000-000000000000 Stub-80GB 81920 512 5 90000 40 ok",
    )
    return stub
