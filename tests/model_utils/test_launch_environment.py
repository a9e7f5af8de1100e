"""The place of a process in a distributed run, from the variables of each kind of launcher."""

import json
import os
from pathlib import Path

import pytest

from src.errors import UserError
from src.model_utils.launch_environment import Launch, read_launch

SCHEDULER = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "16", "MS_SCHED_HOST": "10.0.0.1", "MS_SCHED_PORT": "8118"}
MPI = {"OMPI_COMM_WORLD_RANK": "9", "OMPI_COMM_WORLD_SIZE": "16", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
TABLE = {"version": "1.0", "server_count": "2", "status": "completed", "server_list": [
    {"server_id": "10.0.0.1", "device": [{"device_id": "4", "device_ip": "192.1.0.1", "rank_id": "0"},
                                         {"device_id": "5", "device_ip": "192.1.0.2", "rank_id": "1"}]},
    {"server_id": "10.0.0.2", "device": [{"device_id": "0", "device_ip": "192.1.0.3", "rank_id": "2"}]}]}


@pytest.fixture
def environment(monkeypatch):
    """A function that sets the variables of a launcher; without it there is none."""
    for variable in os.environ:
        if variable.startswith(("MS_", "OMPI_", "RANK_", "DEVICE_", "LOCAL_RANK")):
            monkeypatch.delenv(variable)

    def set_variables(variables: dict[str, str], **others: str) -> None:
        for variable, value in (variables | others).items():
            monkeypatch.setenv(variable, value)
    return set_variables


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "rank_table.json"
    path.write_text(json.dumps(TABLE))
    return str(path)


@pytest.mark.parametrize(("target", "variables", "expected"), [
    ("Ascend", SCHEDULER | {"MS_NODE_ID": "9", "DEVICE_ID": "1"}, Launch(9, 16, 1)),
    ("GPU", SCHEDULER | {"MS_NODE_ID": "9", "LOCAL_RANK": "1"}, Launch(9, 16, 1)),
    ("Ascend", SCHEDULER | {"DEVICE_ID": "3"}, Launch(None, 16, 3)),  # several hosts, ranks given by the scheduler
    ("CPU", SCHEDULER | {"MS_NODE_ID": "9"}, Launch(9, 16, 0)),
    ("Ascend", SCHEDULER | {"MS_ROLE": "MS_SCHED"}, Launch(None, 16, 0)),
    ("GPU", MPI, Launch(9, 16, 1)),
    ("Ascend", MPI | {"DEVICE_ID": "7"}, Launch(9, 16, 7)),
    ("GPU", SCHEDULER | MPI | {"MS_NODE_ID": "3", "DEVICE_ID": "3"}, Launch(3, 16, 3)),  # msrun inside an MPI job
])
def test_each_launcher_names_rank_and_device(environment, target, variables, expected):
    environment(variables)
    assert read_launch(target) == expected


def test_rank_table_names_the_device(environment, table):
    environment({"RANK_TABLE_FILE": table, "RANK_ID": "1"})
    assert read_launch("Ascend") == Launch(1, 3, 5)
    environment({"RANK_SIZE": "3", "DEVICE_ID": "1"})  # in a container with the devices 4 and 5 of its host
    assert read_launch("Ascend") == Launch(1, 3, 1)


@pytest.mark.parametrize(("target", "variables", "message"), [
    ("CPU", {}, "no launcher started this process; .*--worker_num.*--distribute false"),
    ("CPU", {"MS_ROLE": "MS_WORKER"}, "did not set MS_WORKER_NUM, the number of processes"),
    ("CPU", {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2"}, "MS_ROLE is set, but not MS_SCHED_HOST"),
    ("CPU", SCHEDULER | {"MS_NODE_ID": "16"}, "rank 16, but the launcher says that there are 16;.* last one 15"),
    ("CPU", SCHEDULER | {"MS_NODE_ID": "first"}, "MS_NODE_ID: expected a whole number, found 'first'"),
    ("Ascend", SCHEDULER | {"MS_NODE_ID": "1"}, "did not set LOCAL_RANK, DEVICE_ID, the device of this process"),
    ("CPU", MPI, "does not meet over mpirun on CPU"),
    ("GPU", {"OMPI_COMM_WORLD_RANK": "0"}, "did not set OMPI_COMM_WORLD_SIZE"),
    ("GPU", {"RANK_TABLE_FILE": "TABLE", "RANK_ID": "0"}, "describes Ascend devices, but device_target is GPU"),
    ("Ascend", {"RANK_TABLE_FILE": "TABLE"}, "did not set RANK_ID"),
    ("Ascend", {"RANK_TABLE_FILE": "TABLE", "RANK_ID": "3"}, "RANK_ID: found 3, but .* only the ranks 0 to 2"),
    ("Ascend", {"RANK_TABLE_FILE": "TABLE", "RANK_ID": "0", "RANK_SIZE": "8"}, "RANK_SIZE: found 8, but .* 3 devices"),
    ("Ascend", {"RANK_TABLE_FILE": "/no/table.json", "RANK_ID": "0"}, "RANK_TABLE_FILE: cannot read /no/table.json"),
])
def test_what_is_wrong_is_one_line(environment, table, target, variables, message):
    environment({name: table if value == "TABLE" else value for name, value in variables.items()})
    with pytest.raises(UserError, match=message) as caught:
        read_launch(target)
    assert "\n" not in str(caught.value)
