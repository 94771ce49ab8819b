"""Unpacks the headers and libraries of libtorch from wheels, and deletes the wheels.

Arguments: the folder of the wheels, the folder to unpack to, and `cpu` or `cuda`.

PyTorch's wheels for Linux are built for NVIDIA GPUs. `cpu` leaves out the libraries that only GPUs need, two thirds of the size. The
remaining libraries are still linked with two of NVIDIA's, which are therefore put into the same folder.
"""

import pathlib
import re
import shutil
import signal
import sys
import zipfile

wheels, into, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]

FOR_PYTHON = re.compile(r"lib(torch_python|torch_global_deps|shm)\.")
FOR_GPUS = re.compile(r"cuda|nvrtc|nvshmem")
NEEDED_BY_CPU = ("libcudart.so.13", "libcupti.so.13")


def is_library(name):
    """Returns whether a file of a wheel is a library to unpack."""
    folder, _, file = name.rpartition("/")
    if folder == "torch/lib":
        return not FOR_PYTHON.match(file) and (build == "cuda" or not FOR_GPUS.search(file))
    if not folder.startswith("nvidia/") or not folder.endswith("/lib"):
        return False
    return ".so" in file if build == "cuda" else file in NEEDED_BY_CPU


def unpack():
    archives = {path: zipfile.ZipFile(path) for path in sorted(wheels.glob("*.whl"))}
    members = [
        (path, info)
        for path, archive in archives.items()
        for info in archive.infolist()
        if not info.is_dir() and (info.filename.startswith("torch/include/") or is_library(info.filename))
    ]
    total, done, printed = sum(info.file_size for _, info in members), 0, -1
    for path, info in members:
        archives[path].extract(info, into)  # Verifies the checksum.
        done += info.file_size
        if done * 100 // total > printed and sys.stderr.isatty():
            printed = done * 100 // total
            print(f"\r  {printed:3} % of {total / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
    if printed >= 0:
        print(file=sys.stderr)
    for path, archive in archives.items():
        archive.close()
        path.unlink()
    if build == "cpu":
        for file in into.glob("nvidia/*/lib/*"):
            shutil.move(file, into / "torch" / "lib" / file.name)
        shutil.rmtree(into / "nvidia", ignore_errors=True)


signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    unpack()
except (OSError, zipfile.BadZipFile) as error:
    sys.exit(f"  {error}")
