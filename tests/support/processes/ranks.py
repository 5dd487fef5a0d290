"""Runs one command in the processes of a data-parallel training, forked and with the variables that torchrun sets."""

import functools
import os
import socket

from support.processes.commands import Command, Finished


def run_ranks(count: int, *arguments: object) -> list[Finished]:
    """Run a command in `count` processes; what each printed, by rank."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    commands = [Command(*arguments, prepare=functools.partial(_join, rank, count, port)) for rank in range(count)]
    for command in commands:
        command.go()
    return [command.finished() for command in commands]


def _join(rank: int, count: int, port: int) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
    os.environ.update({name: str(value) for name, value in (ranks | address).items()})
