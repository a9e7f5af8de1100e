"""The rank table of an Ascend cluster (hccl.json): which rank runs on which device of which host.

Three forms are read: `server_list` of versions 1.0 and 1.2, and the older `group_list` with one instance a rank.
"""

import fcntl
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.json_files import json_shown, read_json_object
from src.text_files import read_text

HCCN_CONFIG = Path("/etc/hccn.conf")
_SIOCGIFADDR = 0x8915
_LARGEST_HCCN = 1 << 20  # bytes
_NUMBER = "[0-9]{1,9}"  # of a rank or a device
_HOST_KEYS = ("server_id", "host_ip", "server_ip", "container_ip")  # by whichever of these a host may be known


@dataclass(frozen=True)
class Device:
    """One device of the table: its rank, its number on the host, the address of its network port ("" if not given)."""

    rank: int
    device_id: int
    device_ip: str


@dataclass(frozen=True)
class Server:
    """A host of the table: the names by which it may be known, the first one its `server_id`, and its devices."""

    names: tuple[str, ...]
    devices: tuple[Device, ...]


def read_rank_table(path: Path, option: str = "--hccl_config") -> list[Server]:
    """Read the rank table that `option` names.

    Raises:
        UserError: no such file, not JSON, none of the known forms, not complete, or its ids are not whole numbers,
            occur twice or leave a gap.
    """
    table = read_json_object(path, "the rank table that hccl_tools wrote", option)
    if not {"server_list", "group_list"} & table.keys():
        raise UserError(f'{option}: {path}: no "server_list" in it; give the rank table that hccl_tools wrote')
    if table.get("status", "completed") != "completed":
        raise UserError(f'{option}: {path}: status: expected "completed", found {json_shown(table["status"])}; '
                        f'wait until the table is complete')
    try:
        servers = [_server(entry, where) for entry, where in _server_entries(table)]
        _check_ids(servers)
        count = _whole_number(table.get("server_count", len(servers)), "server_count")
        if count != len(servers):
            raise UserError(f"server_count: {count}, but {len(servers)} are listed; merge the tables of all hosts")
    except UserError as error:
        raise UserError(f"{option}: {path}: {error}") from error
    return servers


def find_this_host(servers: list[Server], server_id: str = "", hccn: Mapping[int, str] | None = None) -> Server:
    """Return the entry of this machine: the one named `server_id`, or else by its addresses, or those of its devices.

    Raises:
        UserError: no entry fits, or several do.
    """
    listed = ", ".join(server.names[0] for server in servers)
    if server_id:
        found = [server for server in servers if server_id in server.names]
        tried = f"--server_id {server_id}"
    else:
        names, device_ips = local_names(), set((hccn or {}).values())
        found = [server for server in servers if set(server.names) & set(names)]
        found = found or [server for server in servers if {device.device_ip for device in server.devices} & device_ips]
        tried = f"this machine ({', '.join([*names, *sorted(device_ips)])})"
    if len(found) != 1:
        raise UserError(f"--hccl_config: {len(found) or 'none'} of its hosts ({listed}) fits {tried}; name this "
                        f"machine's entry: --server_id {servers[0].names[0]}, or SERVER_ID={servers[0].names[0]} "
                        f"before run_distributed_pretrain_ascend.sh")
    return found[0]


def local_names() -> list[str]:
    """This machine's IPv4 addresses and its name."""
    names = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, interface in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
            except OSError:  # an interface without an address
                continue
            names.append(socket.inet_ntoa(answer[20:24]))
    return [*names, socket.gethostname()]


def read_hccn(path: Path | None) -> dict[int, str]:
    """Read the `address_N=IP` lines of a host's hccn.conf; None means the usual place, where it may be absent.

    Raises:
        UserError: the file that was named cannot be read, or has no such line.
    """
    if path is None and not HCCN_CONFIG.exists():
        return {}
    path = path or HCCN_CONFIG
    text = read_text(path, "--hccn_config_file", largest=_LARGEST_HCCN)
    lines = re.findall(rf"^\s*address_({_NUMBER})\s*=\s*(\S+)", text, re.M)
    found = {int(number): address for number, address in lines}
    if not found:
        raise UserError(f"--hccn_config_file {path}: no line such as address_0=192.168.100.101 in it")
    return found


def logical_id(device: Device, hccn: Mapping[int, str]) -> int:
    """The number by which MindSpore knows a device: its place among the host's devices.

    It is the table's number where the host has all its devices; in a container with some of them, hccn.conf tells.

    Raises:
        UserError: hccn.conf does not know the device.
    """
    if not hccn:
        return device.device_id
    if device.device_id not in hccn:
        raise UserError(f"--hccl_config: device_id {device.device_id} of rank {device.rank}: this host has "
                        f"{', '.join(map(str, sorted(hccn)))} by its hccn.conf; correct the table")
    return sorted(hccn).index(device.device_id)


def _server_entries(table: dict) -> Iterator[tuple[dict, str]]:
    """Give each host's entry in the form of `server_list`, with its place in the file."""
    if "server_list" in table:
        for index, entry in enumerate(_list_of_objects(table, "server_list", "")):
            yield entry, f"server_list[{index}]"
        return
    hosts: dict[str, list[dict]] = {}
    for group_index, group in enumerate(_list_of_objects(table, "group_list", "")):
        where = f"group_list[{group_index}]"
        for index, instance in enumerate(_list_of_objects(group, "instance_list", where)):
            for device in _list_of_objects(instance, "devices", f"{where}.instance_list[{index}]"):
                hosts.setdefault(_name(instance.get("server_id", ""), f"{where}.server_id"), []).append(
                    device | {"rank_id": instance.get("rank_id")})
    for server_id, devices in hosts.items():
        yield {"server_id": server_id, "device": devices}, f"group_list, host {server_id}"


def _server(entry: dict, where: str) -> Server:
    names = tuple(dict.fromkeys(_name(entry[key], f"{where}.{key}") for key in _HOST_KEYS if entry.get(key)))
    if not names:
        raise UserError(f"{where}: no server_id")
    devices = tuple(
        Device(_whole_number(device.get("rank_id"), f"{where}.device[{index}].rank_id"),
               _whole_number(device.get("device_id"), f"{where}.device[{index}].device_id"),
               _name(device.get("device_ip", ""), f"{where}.device[{index}].device_ip"))
        for index, device in enumerate(_list_of_objects(entry, "device", where)))
    return Server(names, tuple(sorted(devices, key=lambda device: device.rank)))


def _check_ids(servers: list[Server]) -> None:
    for server in servers:
        _refuse_repeated([device.device_id for device in server.devices], f"host {server.names[0]}: device_id")
    ranks = sorted(device.rank for server in servers for device in server.devices)
    _refuse_repeated(ranks, "rank_id")
    if ranks != list(range(len(ranks))):
        raise UserError(f"rank_id: found {', '.join(map(str, ranks))}; expected 0 to {len(ranks) - 1}")


def _refuse_repeated(numbers: list[int], what: str) -> None:
    for number in numbers:
        if numbers.count(number) > 1:
            raise UserError(f"{what} {number} occurs {numbers.count(number)} times")


def _list_of_objects(entry: dict, key: str, where: str) -> list[dict]:
    value = entry.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise UserError(f"{where}{'.' if where else ''}{key}: expected a list of objects, with at least one")
    return value


def _name(value: object, where: str) -> str:
    """The name or address of a host, or of a port, which stands in a script and in options later."""
    if not isinstance(value, str | int) or not re.fullmatch(r"[\w.:%-]*", str(value)):
        raise UserError(f"{where}: expected a name or an address, found {json_shown(value)}")
    return str(value)


def _whole_number(value: object, where: str) -> int:
    if not isinstance(value, str | int) or not re.fullmatch(_NUMBER, str(value)):
        raise UserError(f"{where}: expected a whole number, found {json_shown(value)}")
    return int(value)
