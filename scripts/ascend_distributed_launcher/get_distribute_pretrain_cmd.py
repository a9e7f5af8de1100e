"""Write distributed_cmd.sh, which pre-trains on the Ascend devices that a rank table gives to this host.

    python scripts/ascend_distributed_launcher/get_distribute_pretrain_cmd.py --data_dir /path/data_dir/ \
        --hccl_config /path/hccl.json --cmd_file ./distributed_cmd.sh

README.md beside this file describes the options and what is written.
"""

import argparse
import re
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY))

from scripts.start_ranks import Rank, share_cores  # noqa: E402
from src.errors import UserError, run_script  # noqa: E402
from src.files import atomic_write, check_output  # noqa: E402
from src.model_utils.config import Config, load_config  # noqa: E402
from src.model_utils.rank_table import Server, find_this_host, logical_id, read_hccn, read_rank_table  # noqa: E402
from src.model_utils.switch import SWITCH  # noqa: E402
from src.text_files import check_path  # noqa: E402

FOLLOW_FROM_THE_TABLE = ("device_id", "device_num", "data_dir")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the rank table and the settings, write the commands and say what they will do."""
    args = parse_arguments(argv)
    check_output(args.cmd_file, "--cmd_file")
    table = existing(args.hccl_config, "--hccl_config")
    servers = read_rank_table(table)
    hccn = read_hccn(Path(args.hccn_config_file) if args.hccn_config_file else None)
    host = find_this_host(servers, args.server_id, hccn)
    cores = share_cores(len(host.devices)) if args.bind_cores else [""] * len(host.devices)
    ranks = [Rank(device.rank, logical_id(device, hccn), share)
             for device, share in zip(host.devices, cores, strict=True)]
    rank_size = sum(len(server.devices) for server in servers)
    ini = existing(args.hyper_parameter_config_dir, "--hyper_parameter_config_dir")
    options = training_options(args, read_settings(ini), ini, ranks, rank_size)
    script = training_script(args.run_script_dir)

    link = link_options(servers, servers.index(host), args.master_port)
    text = commands(table, host.names[0], ranks, rank_size, args.hccl_time_out, link, [str(script), *options])
    write_executable(Path(args.cmd_file), text)
    for rank in ranks:
        print(f"rank {rank.number} of {rank_size}: device {rank.device}, "
              f"{f'cores {rank.cores}' if rank.cores else 'all cores'}, log LOG{rank.device}/pretraining_log.txt")
    print(f"wrote {args.cmd_file} for host {host.names[0]}, one of {len(servers)}")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_script_dir", default=str(REPOSITORY / "run_pretrain.py"),
                        help="training script; a launcher (.sh) stands for run_pretrain.py, the default")
    parser.add_argument("--hyper_parameter_config_dir", default=str(HERE / "hyper_parameter_config.ini"),
                        help="ini file whose [config] section holds settings; default: the one beside this program")
    parser.add_argument("--data_dir", required=True, help="directory with the pre-training records")
    parser.add_argument("--hccl_config", "--hccl_config_dir", required=True, help="rank table, hccl.json")
    parser.add_argument("--cmd_file", default="distributed_cmd.sh", help="file to write")
    parser.add_argument("--hccl_time_out", type=int, default=600, help="HCCL_CONNECT_TIMEOUT, in seconds")
    parser.add_argument("--hccn_config_file", default="", help="this host's devices; default: /etc/hccn.conf")
    parser.add_argument("--master_port", type=int, default=8118,
                        help="with several hosts: the port after it serves to tell of failures")
    parser.add_argument("--server_id", default="", help="this host's entry in the table; default: by its addresses")
    parser.add_argument("--bind_cores", default=True, **SWITCH,
                        help="give each rank cores of its own, by taskset")
    return parser.parse_args(argv)


def training_script(given: str) -> Path:
    """The Python script that a rank runs."""
    path = existing(given, "--run_script_dir")
    return REPOSITORY / "run_pretrain.py" if path.suffix == ".sh" else path


def read_settings(ini: Path) -> Config:
    """Read the ini file over the defaults of pre-training, so that a mistake in it shows before anything starts."""
    config = load_config("", "pretrain_config.yaml", ["--ini_path", str(ini)])
    for key in FOLLOW_FROM_THE_TABLE:
        if config.was_given(key):
            raise UserError(f"{ini}: {key}: not to be set here, as it follows from --hccl_config and --data_dir; "
                            f"remove it")
    return config


def training_options(args: argparse.Namespace, config: Config, ini: Path, ranks: list[Rank], rank_size: int
                     ) -> list[str]:
    """The options that all ranks have; checkpoints go to the first rank's directory unless the ini file says where."""
    options = ["--device_target", "Ascend", "--distribute", "true", "--device_num", str(rank_size),
               "--data_dir", str(existing(args.data_dir, "--data_dir")), "--ini_path", str(ini)]
    if not config.save_checkpoint_path:
        options += ["--save_checkpoint_path", f"LOG{ranks[0].device}"]
    return options


def link_options(servers: list[Server], number: int, port: int) -> str:
    """The options by which several hosts tell each other of failures; none where the table has no address of host 0."""
    address = next((name for name in servers[0].names if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", name)), None)
    if len(servers) == 1 or address is None:
        return ""
    return f" --nodes {len(servers)} --node_rank {number} --master_addr {address} --master_port {port}"


def commands(table: Path, host: str, ranks: list[Rank], rank_size: int, time_out: int, link: str,
             command: list[str]) -> str:
    """The text of distributed_cmd.sh."""
    lines = [
        "#!/usr/bin/env bash",
        f"# Starts {len(ranks)} of {rank_size} ranks, those of host {host}, and stays until they end.",
        "# Options given to it go to the training script and overrule those below.",
        f"# rank table: {table}",
        "",
        f"default_python={shlex.quote(sys.executable)}",
        f"export RANK_TABLE_FILE={shlex.quote(str(table))} RANK_SIZE={rank_size} HCCL_CONNECT_TIMEOUT={time_out}",
        f'exec "${{PYTHON:-$default_python}}" {shlex.quote(str(REPOSITORY / "scripts/start_ranks.py"))} '
        f"--log pretraining_log.txt{link} \\",
        *(f"    --rank {rank.number},{rank.device}{f',{rank.cores}' if rank.cores else ''} \\" for rank in ranks),
        f'    -- {shlex.join(command)} "$@"',
    ]
    return "\n".join(lines) + "\n"


def write_executable(path: Path, text: str) -> None:
    """Write a script that may be run."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(temporary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def existing(path: str, option: str) -> Path:
    """The absolute form of a path that must exist, and whose name a line of a script can hold."""
    if not Path(check_path(path, option)).exists():
        raise UserError(f"{option}: no file or directory {path!r}")
    return Path(check_path(str(Path(path).resolve()), option))


if __name__ == "__main__":
    run_script(main)
