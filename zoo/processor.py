"""What this processor can do, and the variables that make libraries which do not know it use its fast kernels.

Facts are read from /proc/cpuinfo, so they are known on Linux only; elsewhere nothing is set.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def facts(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """The fields of the first processor in `cpuinfo`, empty where there is no such file."""
    try:
        with cpuinfo.open("rb") as file:
            first = file.read(16384).decode(errors="replace").partition("\n\n")[0]  # one processor takes 1 to 3 KB
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The instruction sets, by Linux's names: "avx2", "avx512f", "avx512_bf16", ..."""
    return frozenset(facts(cpuinfo).get("flags", "").split())


def description() -> str:
    """The processor's name and number of cores."""
    name = facts().get("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def mkl_kernels(cpuinfo: Path = CPUINFO) -> str | None:
    """The value of MKL_DEBUG_CPU_TYPE for Paddle on an AMD or Hygon processor: "7" (AVX-512) or "5" (AVX2), else None.

    Paddle bundles an old MKL that uses its slowest kernels there, at a quarter of the speed (benchmarks/training.py).
    """
    if facts(cpuinfo).get("vendor_id") not in ("AuthenticAMD", "HygonGenuine"):
        return None
    if flags(cpuinfo) >= {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}:
        return "7"
    return "5" if flags(cpuinfo) >= {"avx2", "fma"} else None


def openblas_kernels(cpuinfo: Path = CPUINFO) -> str | None:
    """The value of OPENBLAS_CORETYPE for NumPy on an Intel processor: "SkylakeX" (AVX-512), "Haswell" (AVX2), None.

    MindSpore needs NumPy 1.26, whose OpenBLAS 0.3.23 uses SSE3 kernels on every Intel processor that is newer than
    itself (https://github.com/OpenMathLib/OpenBLAS/issues/4267). On Emerald Rapids a product of matrices of float64
    takes 3.7 times as long with these.
    """
    if facts(cpuinfo).get("vendor_id") != "GenuineIntel":
        return None
    if flags(cpuinfo) >= {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}:
        return "SkylakeX"
    return "Haswell" if flags(cpuinfo) >= {"avx2", "fma"} else None


def prepare_numpy() -> None:
    """Make NumPy's OpenBLAS use the right kernels, unless the user has chosen some; call it before importing NumPy."""
    kernels = openblas_kernels()
    if kernels:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernels)
