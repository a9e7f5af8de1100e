import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY

from scripts.ascend_distributed_launcher import get_distribute_pretrain_cmd as launcher
from src.errors import UserError
from src.model_utils.config import load_config

DEFAULT_INI = REPOSITORY / "scripts/ascend_distributed_launcher/hyper_parameter_config.ini"
ENTRY = REPOSITORY / "scripts/ascend_distributed_launcher/get_distribute_pretrain_cmd.py"

# Stands for run_pretrain.py: prints where it is in the run and its options.
STAND_IN = """
import json, os, sys
keys = ("RANK_TABLE_FILE", "RANK_SIZE", "RANK_ID", "DEVICE_ID", "HCCL_CONNECT_TIMEOUT", "MS_ROLE")
print(json.dumps([{key: os.environ.get(key) for key in keys}, sorted(os.sched_getaffinity(0)), sys.argv[1:]]))
if os.environ.get("DEED") == os.environ["RANK_ID"]:
    sys.exit("error: --data_dir: nothing there")
"""


def table(*hosts: str, devices: int = 2) -> str:
    servers = [{"server_id": host, "device": [{"device_id": str(index), "device_ip": f"192.{host_index}.{index}.6",
                                               "rank_id": str(host_index * devices + index)}
                                              for index in range(devices)]}
               for host_index, host in enumerate(hosts)]
    return json.dumps({"version": "1.0", "server_count": str(len(hosts)), "status": "completed",
                       "server_list": servers})


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A directory with a space in its name: data, a stand-in for the training, a rank table of two hosts."""
    directory = tmp_path / "a place"
    (directory / "my data").mkdir(parents=True)
    (directory / "stand in.py").write_text(STAND_IN)
    (directory / "hccl.json").write_text(table("10.0.0.7", "127.0.0.1"))
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PYTHON", sys.executable)
    return directory


def make(*arguments: str) -> None:
    launcher.main(["--run_script_dir", "stand in.py", "--data_dir", "my data", "--hccl_config", "hccl.json",
                   *arguments])


def run(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return run("bash", str(REPOSITORY / "scripts/run_distributed_pretrain_ascend.sh"), *arguments, **environment)


def what_ran(log: Path) -> tuple[dict, list[int], dict]:
    environment, cores, options = json.loads(log.read_text())
    return environment, cores, dict(zip(options[::2], options[1::2], strict=True))  # the last of an option counts


def test_the_second_of_two_hosts(place, capsys):
    make()
    cores = sorted(os.sched_getaffinity(0))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("rank 2 of 4: device 0, ") and said[0].endswith("log LOG0/pretraining_log.txt")
    assert said[2] == "wrote distributed_cmd.sh for host 127.0.0.1, one of 2"
    done = run("./distributed_cmd.sh", "--epoch_size", "3")
    assert done.returncode == 0, done.stderr
    for device in range(2):
        environment, bound_to, options = what_ran(place / f"LOG{device}/pretraining_log.txt")
        assert environment == {"RANK_TABLE_FILE": str(place / "hccl.json"), "RANK_SIZE": "4",
                               "RANK_ID": str(2 + device), "DEVICE_ID": str(device), "HCCL_CONNECT_TIMEOUT": "600",
                               "MS_ROLE": None}
        half = len(cores) // 2
        assert bound_to == ([cores[:half], cores[half:]][device] if len(cores) > 1 else cores)
        assert options == {"--device_target": "Ascend", "--distribute": "true", "--device_num": "4",
                           "--data_dir": str(place / "my data"), "--ini_path": str(DEFAULT_INI),
                           "--save_checkpoint_path": "LOG0", "--epoch_size": "3"}


def test_options_of_the_command_line(place):
    (place / "my.ini").write_text("[config]\nepoch_size = 7\nsave_checkpoint_path = there\n")
    (place / "hccn.conf").write_text("address_0=192.0.0.6\naddress_1=192.0.1.6\n")
    (place / "hccl.json").write_text(table("10.0.0.7", "10.0.0.8", devices=1))
    make("--hyper_parameter_config_dir", "my.ini", "--hccn_config_file", "hccn.conf", "--hccl_time_out", "1200",
         "--bind_cores", "false", "--cmd_file", "other.sh", "--master_port", "9000")
    text = (place / "other.sh").read_text()
    assert "HCCL_CONNECT_TIMEOUT=1200" in text and "--rank 0,0 \\" in text
    assert "--nodes 2 --node_rank 0 --master_addr 10.0.0.7 --master_port 9000" in text
    options = shlex.split(text.split(" -- ")[1])
    assert options[options.index("--ini_path") + 1] == str(place / "my.ini")
    assert "--save_checkpoint_path" not in options, "the ini file says where"
    assert subprocess.run(["bash", "-n", "other.sh"]).returncode == 0

    make("--server_id", "10.0.0.8")
    assert "--rank 1,0" in (place / "distributed_cmd.sh").read_text()


def test_one_host_needs_no_line_to_others(place):
    (place / "hccl.json").write_text(table("127.0.0.1"))
    make()
    assert "--nodes" not in (place / "distributed_cmd.sh").read_text()


def test_the_documented_command(place):
    done = run(sys.executable, str(ENTRY), "--run_script_dir",
               str(REPOSITORY / "scripts/run_distributed_pretrain_ascend.sh"), "--hyper_parameter_config_dir",
               str(DEFAULT_INI), "--data_dir", "my data", "--hccl_config", "hccl.json", "--cmd_file",
               "./distributed_cmd.sh")
    assert done.returncode == 0, done.stderr
    assert f"-- {REPOSITORY / 'run_pretrain.py'} --device_target" in (place / "distributed_cmd.sh").read_text()


def test_settings_come_from_command_line_then_ini_then_yaml(place):
    (place / "my.ini").write_text("[config]\nepoch_size = 7\nLamb.learning_rate = 1e-4\n")
    config = load_config("", "pretrain_config.yaml", ["--ini_path", "my.ini", "--epoch_size", "9"])
    assert (config.epoch_size, config.Lamb.learning_rate, config.save_checkpoint_num) == (9, 1e-4, 1)


@pytest.mark.parametrize(("ini", "message"), [
    ("[config]\nepoch_sise = 7\n", "unknown key 'epoch_sise'; did you mean epoch_size"),
    ("[config]\nepoch_size = many\n", "epoch_size: expected a whole number"),
    ("[config]\ndevice_num = 8\n", "device_num: not to be set here"),
    ("[settings]\n", r"expected one section, \[config\]")])
def test_mistakes_in_the_ini_file(place, ini, message):
    (place / "my.ini").write_text(ini)
    with pytest.raises(UserError, match=message) as raised:
        make("--hyper_parameter_config_dir", "my.ini")
    assert "my.ini" in str(raised.value) and not (place / "distributed_cmd.sh").exists()


@pytest.mark.parametrize(("option", "value", "message"), [
    ("--data_dir", "no data", "--data_dir: no file or directory 'no data'"),
    ("--run_script_dir", "no.py", "--run_script_dir: no file or directory 'no.py'"),
    ("--hyper_parameter_config_dir", "no.ini", "--hyper_parameter_config_dir: no file or directory 'no.ini'"),
    ("--cmd_file", ".", "--cmd_file: . is a directory")])
def test_absent_files(place, option, value, message):
    with pytest.raises(UserError, match=message):
        make(option, value)


# --- the script that runs what was written ---

def test_the_script_runs_the_commands(place):
    make()
    done = launch("my data", "hccl.json", "--epoch_size", "3")
    assert done.returncode == 0 and "finished" in done.stdout, done.stderr
    _, _, options = what_ran(place / "pretraining_log.txt")
    assert (options["--data_dir"], options["--epoch_size"]) == ("my data", "3")
    assert what_ran(place / "LOG1/pretraining_log.txt")[0]["RANK_ID"] == "3"


@pytest.mark.parametrize("foreground", [[], ["--foreground"]])
def test_the_script_reports_the_rank_that_failed(place, foreground):
    make()
    done = launch("my data", "hccl.json", *foreground, DEED="3")
    assert done.returncode == 1
    assert (f"error: rank 3 (device 1) ended with exit status 1: --data_dir: nothing there; its output is in "
            f"{place / 'LOG1/pretraining_log.txt'}") in done.stderr
    assert (place / "pretraining_log.txt").exists() == (not foreground)


def test_commands_of_another_table_are_not_run(place):
    make()
    (place / "other.json").write_text(table("127.0.0.1"))
    done = launch("my data", "other.json")
    assert done.returncode == 2 and f"was made for {place / 'hccl.json'}, not for {place / 'other.json'}" in done.stderr
    later = (place / "distributed_cmd.sh").stat().st_mtime + 10
    os.utime(place / "hccl.json", (later, later))
    done = launch("my data", "hccl.json")
    assert done.returncode == 2 and "hccl.json is newer than" in done.stderr
    assert not (place / "LOG0").exists()


def test_without_commands_the_script_makes_them(place):
    """Here the real training starts, and finds no Ascend."""
    done = launch("my data", "hccl.json", BIND_CORES="false", SERVER_ID="10.0.0.7", START_SECONDS="100")
    assert done.returncode == 2 and "rank 0 of 4: device 0, all cores" in done.stdout
    assert done.stderr.startswith("error: rank ") and "device_target Ascend" in done.stderr.splitlines()[0]
    assert (place / "distributed_cmd.sh").exists()

    (place / "distributed_cmd.sh").unlink()
    done = launch("my data", "hccl.json", SERVER_ID="10.0.0.9")
    assert done.returncode == 2 and "none of its hosts (10.0.0.7, 127.0.0.1) fits --server_id 10.0.0.9" in done.stderr
    assert not (place / "distributed_cmd.sh").exists()
