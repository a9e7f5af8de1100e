import json
import socket

import pytest

from src.errors import UserError
from src.model_utils.rank_table import Device, Server, find_this_host, logical_id, read_hccn, read_rank_table

TWO_HOSTS = {"version": "1.0", "server_count": "2", "status": "completed", "server_list": [
    {"server_id": "10.0.0.7", "device": [{"device_id": "1", "device_ip": "192.2.1.6", "rank_id": "1"},
                                         {"device_id": "0", "device_ip": "192.1.1.6", "rank_id": "0"}]},
    {"server_id": "10.0.0.8", "device": [{"device_id": "4", "device_ip": "192.1.2.6", "rank_id": "2"},
                                         {"device_id": "5", "device_ip": "192.2.2.6", "rank_id": "3"}]}]}
SERVERS = [Server(("10.0.0.7",), (Device(0, 0, "192.1.1.6"), Device(1, 1, "192.2.1.6"))),
           Server(("10.0.0.8",), (Device(2, 4, "192.1.2.6"), Device(3, 5, "192.2.2.6")))]


def write(tmp_path, table: object) -> object:
    path = tmp_path / "hccl.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return path


def changed(*place: object, value: object) -> dict:
    """The table with another value at a place; None removes it."""
    table = json.loads(json.dumps(TWO_HOSTS))
    entry = table
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    if value is None:
        del entry[place[-1]]
    return table


def test_two_hosts(tmp_path):
    assert read_rank_table(write(tmp_path, TWO_HOSTS)) == SERVERS


def test_the_older_form(tmp_path):
    instances = [{"devices": [{"device_id": str(device.device_id), "device_ip": device.device_ip}],
                  "rank_id": str(device.rank), "server_id": server.names[0]}
                 for server in SERVERS for device in server.devices]
    table = {"board_id": "0x0020", "chip_info": "910", "deploy_mode": "lab", "group_count": "1", "status": "completed",
             "group_list": [{"device_num": "4", "server_num": "2", "group_name": "", "instance_count": "4",
                             "instance_list": instances}]}
    assert read_rank_table(write(tmp_path, table)) == SERVERS


def test_version_1_2_names_a_host_by_its_address_too(tmp_path):
    table = {"version": "1.2", "status": "completed", "server_count": "1", "server_list": [
        {"server_id": "node_0", "host_ip": "10.0.0.7",
         "device": [{"device_id": 0, "super_device_id": "0", "rank_id": 0}]}]}
    assert read_rank_table(write(tmp_path, table)) == [Server(("node_0", "10.0.0.7"), (Device(0, 0, ""),))]


FIRST = ("server_list", 0, "device", 0)


@pytest.mark.parametrize(("table", "message"), [
    ("{'a': 1}", "column 2: no JSON"),
    ([1], "found no JSON object; expected the rank table"),
    ({"servers": []}, 'no "server_list" in it'),
    (changed("status", value="initializing"), 'status: expected "completed", found "initializing"'),
    (changed("server_count", value="3"), "server_count: 3, but 2 are listed; merge the tables"),
    (changed("server_list", value={}), "server_list: expected a list of objects"),
    (changed("server_list", 0, "server_id", value=None), r"server_list\[0\]: no server_id"),
    (changed("server_list", 1, "device", value=[]), r"server_list\[1\].device: expected a list of objects"),
    (changed(*FIRST, "rank_id", value="x"), r'device\[0\].rank_id: expected a whole number, found "x"'),
    (changed(*FIRST, "rank_id", value=None), r"device\[0\].rank_id: expected a whole number, found null"),
    (changed(*FIRST, "device_id", value=-1),
     r"server_list\[0\].device\[0\].device_id: expected a whole number, found -1"),
    (changed(*FIRST, "rank_id", value="2"), "rank_id 2 occurs 2 times"),
    (changed(*FIRST, "rank_id", value="4"), "rank_id: found 0, 2, 3, 4; expected 0 to 3"),
    (changed(*FIRST, "device_id", value="0"), "host 10.0.0.7: device_id 0 occurs 2 times"),
])
def test_mistakes_in_the_table(tmp_path, table, message):
    path = write(tmp_path, table)
    with pytest.raises(UserError, match=message) as raised:
        read_rank_table(path, "--option")
    assert str(raised.value).startswith(f"--option: {path}") and "\n" not in str(raised.value)


def test_no_table(tmp_path):
    with pytest.raises(UserError, match="cannot read .*: No such file"):
        read_rank_table(tmp_path / "hccl.json")


def test_a_host_is_found_by_address_name_device_or_option():
    def host(*names: str, device_ip: str = "") -> Server:
        return Server(names, (Device(0, 0, device_ip),))

    elsewhere = host("203.0.113.1")
    assert find_this_host([elsewhere, host("127.0.0.1")]).names == ("127.0.0.1",)
    assert find_this_host([elsewhere, host("node_0", "127.0.0.1")]).names[0] == "node_0"
    assert find_this_host([elsewhere, host(socket.gethostname())]).names[0] == socket.gethostname()
    assert find_this_host(SERVERS, "10.0.0.8") is SERVERS[1]
    assert find_this_host(SERVERS, hccn={0: "192.1.2.6"}) is SERVERS[1]


@pytest.mark.parametrize(("server_id", "hccn", "tried"), [
    ("", {}, "127.0.0.1"), ("", {0: "192.9.9.9"}, "192.9.9.9"), ("10.0.0.9", {}, "--server_id 10.0.0.9")])
def test_a_host_that_is_not_in_the_table(server_id, hccn, tried):
    with pytest.raises(UserError, match=r"none of its hosts \(10.0.0.7, 10.0.0.8\) fits .*name this") as raised:
        find_this_host(SERVERS, server_id, hccn)
    assert tried in str(raised.value) and "--server_id 10.0.0.7" in str(raised.value)


def test_hccn_config(tmp_path):
    path = tmp_path / "hccn.conf"
    path.write_text("netmask_0=255.255.255.0\naddress_4 = 192.1.2.6\naddress_10=192.2.2.6\n")
    assert read_hccn(path) == {4: "192.1.2.6", 10: "192.2.2.6"}
    path.write_text("netmask_0=255.255.255.0\n")
    with pytest.raises(UserError, match="no line such as address_0="):
        read_hccn(path)
    with pytest.raises(UserError, match="--hccn_config_file: cannot read .*absent.conf"):
        read_hccn(tmp_path / "absent.conf")


def test_devices_are_counted_among_those_of_the_host():
    assert logical_id(Device(2, 4, ""), {}) == 4
    assert [logical_id(Device(2, number, ""), {10: "a", 4: "b"}) for number in (4, 10)] == [0, 1]
    with pytest.raises(UserError, match="device_id 5 of rank 2: this host has 4, 10 by its hccn.conf"):
        logical_id(Device(2, 5, ""), {10: "a", 4: "b"})
