import shutil
import stat
import zipfile
from types import SimpleNamespace

import pytest

from src.errors import UserError
from src.model_utils import zip_packages
from src.model_utils.zip_packages import unpack_packages


def package(folder, *entries):
    """Write package.zip of (name or ZipInfo, content) entries."""
    path = folder / "package.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_packages_are_unpacked_in_place_and_removed(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"kept")
    (tmp_path / "tnews").mkdir()
    (tmp_path / "tnews" / "dev.mindrecord").write_bytes(b"dev")
    first = package(tmp_path, ("train.mindrecord", b"new"), ("tnews/", b""), ("tnews/labels.txt", b"labels"))
    first.rename(tmp_path / "a mindrecord.ZIP")
    package(tmp_path, ("tnews/deep/er.txt", b"deeper"))
    assert [path.name for path in unpack_packages(tmp_path)] == ["a mindrecord.ZIP", "package.zip"]
    assert contents(tmp_path) == {"notes.txt": b"kept", "tnews/dev.mindrecord": b"dev", "train.mindrecord": b"new",
                                  "tnews/labels.txt": b"labels", "tnews/deep/er.txt": b"deeper"}
    assert not list(tmp_path.glob(".*")), "no temporary folder is left"


def link(name, kind=stat.S_IFLNK):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(("entry", "message"), [
    ("../outside", "'../outside' may lead out of the folder"),
    ("a/../../outside", "may lead out"),
    ("/outside", "may lead out"),
    ("..\\outside", "may lead out"),
    (link("inside"), "'inside' is a link or device"),
    (link("pipe", stat.S_IFIFO), "'pipe' is a link or device"),
])
def test_an_entry_that_leads_out_stops_everything(tmp_path, entry, message):
    folder = tmp_path / "data"
    folder.mkdir()
    path = package(folder, ("good.txt", b"good"), (entry, b"../../outside"))
    with pytest.raises(UserError, match=message):
        unpack_packages(folder)
    assert list(tmp_path.rglob("*")) == [folder, path], "nothing is unpacked, inside or outside"


def test_too_much_for_the_disk(tmp_path, monkeypatch):
    path = package(tmp_path, ("zeros", bytes(10_000_000)))
    assert path.stat().st_size < 100_000, "it looks small"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9_999_999))
    with pytest.raises(UserError, match="holds 0.0 GB, but 0.0 GB are free"):
        unpack_packages(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    unpack_packages(tmp_path)
    assert (tmp_path / "zeros").stat().st_size == 10_000_000


def test_too_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_packages, "MAX_ENTRIES", 2)
    package(tmp_path, *[(str(number), b"") for number in range(3)])
    with pytest.raises(UserError, match="3 entries, expected at most 2"):
        unpack_packages(tmp_path)


def test_a_damaged_package_leaves_nothing(tmp_path):
    path = package(tmp_path, ("first", b"first" * 1000), ("second", bytes(range(256)) * 50))
    data = bytearray(path.read_bytes())
    middle = data.index(b"second") + 60  # inside the compressed bytes of the second entry
    data[middle:middle + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(UserError, match="package.zip: cannot be unpacked"):
        unpack_packages(tmp_path)
    assert contents(tmp_path).keys() == {"package.zip"}
    path.write_bytes(b"not a package")
    with pytest.raises(UserError, match="package.zip: cannot be unpacked: File is not a zip file"):
        unpack_packages(tmp_path)


def test_a_package_with_a_password(tmp_path):
    path = package(tmp_path, ("secret", b"content"))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says so, in both headers
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="password"):
        unpack_packages(tmp_path)


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "tnews").write_bytes(b"a file")
    package(tmp_path, ("tnews/train.txt", b""))
    with pytest.raises(UserError, match="cannot be unpacked into"):
        unpack_packages(tmp_path)
