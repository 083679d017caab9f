"""What is read from /proc/cpuinfo, and the variables that it sets."""

import os
import subprocess
import sys

import pytest

from zoo import processor

AVX512 = "fma avx2 avx512f avx512dq avx512bw avx512vl avx512cd"


@pytest.mark.parametrize(
    ("vendor", "flags", "mkl", "openblas"),
    [
        ("AuthenticAMD", AVX512, "7", None),
        ("AuthenticAMD", "fma avx2 avx512f", "5", None),
        ("HygonGenuine", "fma avx2", "5", None),
        ("AuthenticAMD", "avx", None, None),
        ("GenuineIntel", AVX512, None, "SkylakeX"),
        ("GenuineIntel", "fma avx2", None, "Haswell"),
        ("GenuineIntel", "avx", None, None),
    ],
)
def test_the_kernels_that_libraries_are_told_to_take(tmp_path, vendor, flags, mkl, openblas):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\nprocessor : 1\n")
    assert processor.flags(cpuinfo) == {"fpu", *flags.split()}
    assert processor.mkl_kernels(cpuinfo) == mkl
    assert processor.openblas_kernels(cpuinfo) == openblas


def test_nothing_is_known_where_there_is_no_such_file(tmp_path):
    assert processor.facts(tmp_path / "none") == {}
    assert processor.mkl_kernels(tmp_path / "none") is processor.openblas_kernels(tmp_path / "none") is None


@pytest.mark.skipif(not processor.openblas_kernels(), reason="OpenBLAS needs no help on this processor")
@pytest.mark.parametrize("chosen", [None, "Nehalem"])
def test_numpy_uses_them_unless_the_user_has_chosen(chosen):
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    code = "import zoo, numpy, threadpoolctl; print(*(i['architecture'] for i in threadpoolctl.threadpool_info()))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | ({"OPENBLAS_CORETYPE": chosen} if chosen else {}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (chosen or processor.openblas_kernels()) in output.split()
