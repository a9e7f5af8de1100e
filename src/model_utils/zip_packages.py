"""Unpack zip packages that somebody else made: nothing leaves the folder, and no package is left half unpacked."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from src.errors import UserError
from src.files import temporary_directory

MAX_ENTRIES = 100_000  # more files than any data set here has by far


def unpack_packages(folder: Path) -> list[Path]:
    """Unpack every zip package in `folder`, not those in folders below it, and remove it; return the packages.

    Raises:
        UserError: as for `unpack_package`.
    """
    packages = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".zip" and path.is_file())
    for package in packages:
        unpack_package(package, folder)
        package.unlink()
    return packages


def unpack_package(package: Path, folder: Path) -> None:
    """Unpack a zip package into `folder`; its files replace those of the same names.

    Everything is unpacked into a temporary folder first and moved when it is whole.

    Raises:
        UserError: the package is damaged or encrypted, does not fit on the disk, has more than `MAX_ENTRIES` entries,
            or one that is a link or whose name leads out of the folder; nothing is unpacked then.
    """
    try:
        with temporary_directory(folder) as temporary, zipfile.ZipFile(package) as archive:
            _check(package, archive.infolist(), shutil.disk_usage(folder).free)
            archive.extractall(temporary)
            _move_up(temporary, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{package}: cannot be unpacked: {error}; pack it again, without a password") from error
    except OSError as error:
        raise UserError(f"{package}: cannot be unpacked into {folder}: {error.strerror or error}") from error


def _check(package: Path, entries: list[zipfile.ZipInfo], free: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UserError(f"{package}: {len(entries)} entries, expected at most {MAX_ENTRIES}; pack fewer, larger files")
    # An entry cannot become larger than this: the reader stops at the stated size and checks the sum of the bytes.
    size = sum(entry.file_size for entry in entries)
    if size > free:
        raise UserError(f"{package}: holds {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free on the disk")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 when packed on a system without such kinds
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{package}: entry {entry.filename!r} is a link or device; pack files and folders only")
        name = entry.orig_filename  # `filename` is what is left of it before a zero byte
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
            raise UserError(f"{package}: entry {name!r} may lead out of the folder; pack with relative names, their "
                            f"folders parted by /")


def _move_up(temporary: Path, folder: Path) -> None:
    """Move every file to the same place below `folder`."""
    for path in sorted(temporary.rglob("*")):  # a folder comes before what it holds
        target = folder / path.relative_to(temporary)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            path.replace(target)
