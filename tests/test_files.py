import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paths import REPOSITORY

from src.errors import UserError
from src.files import Process, atomic_files, atomic_write, check_output, make_output_dir, write_json_lines


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_make_output_dir_makes_parents_and_leaves_nothing_behind(tmp_path):
    path = make_output_dir(tmp_path / "a b" / "c", "--output_dir")
    assert path.is_dir() and names(path) == []
    assert make_output_dir(path, "--output_dir") == path, "an existing directory is fine"


def test_make_output_dir_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"--output_dir: cannot write to the directory {path}"):
            make_output_dir(path, "--output_dir")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that not even root may write to")
def test_make_output_dir_refuses_a_directory_without_permission():
    with pytest.raises(UserError, match="--save_checkpoint_path: cannot write to the directory /proc/self"):
        make_output_dir("/proc/self", "--save_checkpoint_path")


def test_atomic_write_shows_nothing_until_the_end(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["result"]


def test_atomic_write_keeps_the_old_file_on_errors(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["result"]


def test_atomic_write_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot write .*result: No such file"), atomic_write(tmp_path / "result"):
        pass
    assert names(tmp_path) == []


def test_atomic_write_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    order = []
    real_fsync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), real_replace(self, target)))
    with atomic_write(tmp_path / "result") as temporary:
        temporary.write_text("new")
    assert order == ["fsync", "rename"]


def test_atomic_files_moves_all_or_nothing(tmp_path):
    with atomic_files(tmp_path) as temporary:
        for name in ("a.mindrecord", "a.mindrecord.db"):
            (temporary / name).write_text(name)
        assert names(tmp_path) == [temporary.name]
    assert names(tmp_path) == ["a.mindrecord", "a.mindrecord.db"]
    with pytest.raises(RuntimeError), atomic_files(tmp_path) as temporary:
        (temporary / "a.mindrecord").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["a.mindrecord", "a.mindrecord.db"]
    assert (tmp_path / "a.mindrecord").read_text() == "a.mindrecord"


def test_json_lines_keep_characters_readable(tmp_path):
    write_json_lines(tmp_path / "out.jsonl", [{"label": "体育"}, {"label": "b"}])
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == '{"label": "体育"}\n{"label": "b"}\n'


# ---------------------------------------------------------------- links, pipes, devices

def test_links_are_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(Path("far") / "result")  # which need not exist yet
    (tmp_path / "chain").symlink_to("link")
    for content in ("first", "second"):
        with atomic_write(tmp_path / "chain") as temporary:
            temporary.write_text(content)
            assert temporary.parent == tmp_path / "far", "on the same file system"
        assert (tmp_path / "far" / "result").read_text() == content
    with atomic_files(tmp_path) as temporary:
        (temporary / "link").write_text("third")
    assert (tmp_path / "far" / "result").read_text() == "third"
    assert (tmp_path / "chain").is_symlink() and (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["chain", "far", "link"] and names(tmp_path / "far") == ["result"]


@pytest.mark.parametrize("several", [False, True], ids=["atomic_write", "atomic_files"])
def test_pipes_are_written_to(tmp_path, several):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert check_output(pipe, "--output_file") == pipe
    with atomic_files(tmp_path) if several else atomic_write(pipe) as temporary:
        (temporary / "pipe" if several else temporary).write_bytes(b"content" * 100_000)
    reader.join(timeout=10)
    assert read == [b"content" * 100_000] and stat.S_ISFIFO(pipe.stat().st_mode) and names(tmp_path) == ["pipe"]


@pytest.mark.parametrize(("minor", "reason"), [(3, ""), (7, "No space left on device")], ids=["null", "full"])
def test_devices_are_written_to(tmp_path, minor, reason):
    device = tmp_path / "device"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        device.open("wb").close()
    except OSError:
        pytest.skip("making devices is not permitted here")
    try:
        with atomic_write(device) as temporary:
            temporary.write_text("content")
        assert not reason
    except UserError as error:
        assert reason and str(error).startswith(f"cannot write {device}: {reason}; ")
    assert stat.S_ISCHR(device.stat().st_mode) and names(tmp_path) == ["device"]


def test_standard_output_by_its_name_is_added_to(tmp_path):
    program = ("from src.files import atomic_write\n"
               "with atomic_write('/dev/stdout') as temporary: temporary.write_text('content')")
    for redirection, expected in ((">", "content"), (">>", "contentcontent")):
        subprocess.run(["bash", "-c", f'{sys.executable} -c "$PROGRAM" {redirection} {tmp_path / "out"}'], check=True,
                       cwd=REPOSITORY, env={"PROGRAM": program})
        assert (tmp_path / "out").read_text() == expected


# ---------------------------------------------------------------- checked before the work

def test_outputs_are_checked_before_the_work(tmp_path):
    assert check_output(tmp_path / "new" / "out", "--output_file") == tmp_path / "new" / "out"
    assert names(tmp_path / "new") == []
    (tmp_path / "file").write_text("kept")
    check_output(tmp_path / "file", "--output_file")
    assert (tmp_path / "file").read_text() == "kept"
    for path, reason in ((tmp_path, f"--output_file: {tmp_path} is a directory; "),
                         (tmp_path / "file" / "out", "--output_file: cannot write to the directory "),
                         (tmp_path / ("x" * 250), "--output_file: cannot write .*: File name too long")):
        with pytest.raises(UserError, match=reason):
            check_output(path, "--output_file")


def test_files_that_cannot_all_be_moved_are_not_moved_at_all(tmp_path):
    (tmp_path / "b.mindir").mkdir()
    with pytest.raises(UserError, match="b.mindir: it is a directory"), atomic_files(tmp_path) as temporary:
        for name in ("a.json", "b.mindir"):
            (temporary / name).write_text(name)
    assert names(tmp_path) == ["b.mindir"]


# ---------------------------------------------------------------- what killed processes leave

KILLED = """
import sys, time
from src.files import atomic_files, atomic_write
with atomic_write(sys.argv[1] + "/result") as one, atomic_files(sys.argv[1]) as several:
    one.write_text("half"); (several / "inner").write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout.readline() == b"written\n"
    being_written = names(tmp_path)
    assert len(being_written) == 2
    check_output(tmp_path / "result", "--output_file")
    with atomic_files(tmp_path):
        pass
    assert names(tmp_path) == being_written

    process.send_signal(signal.SIGKILL)
    process.communicate()
    check_output(tmp_path / "other", "--output_file")
    assert names(tmp_path) == being_written, "another output's are left to its next writer"
    check_output(tmp_path / "result", "--output_file")
    with atomic_files(tmp_path):
        pass
    assert names(tmp_path) == []


def test_what_was_left_on_another_host_is_removed_after_a_day(tmp_path):
    elsewhere = tmp_path / f".result.{'0' * 8}-{os.getpid()}-1.tmp"
    for age, left in ((23 * 3600, [elsewhere.name]), (25 * 3600, [])):
        elsewhere.write_text("half")
        os.utime(elsewhere, (time.time() - age,) * 2)
        check_output(tmp_path / "result", "--output_file")
        assert names(tmp_path) == left


def test_a_number_that_was_given_again_is_another_process():
    this = Process.this()
    assert this.has_ended() is False
    assert this._replace(started=this.started + 1).has_ended() is True
    assert this._replace(place="0" * 8).has_ended() is None
