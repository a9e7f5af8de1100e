"""Worker processes: each does the jobs that it is sent, one after another, and sends back what they yield."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from src.errors import UserError


class Mark(Enum):
    """What a worker sends that is no result."""

    END = "end"  # of a job


class Worker:
    """A process for jobs.

    What is sent first are the arguments of `set_up`, as a tuple, and then jobs, one at a time. So several processes can
    start before any of them is waited for.

    Args:
        set_up: gives, in the process, the function that does a job and yields its results; a function of a module.
        name_of: what a job is called in messages; None for no name.
    """

    def __init__(self, set_up: Callable[..., Callable[[Any], Iterable[Any]]],
                 name_of: Callable[[Any], str] | None = None) -> None:
        # Not forked: MindSpore's threads may run in this process, and a fork would copy their locks as they are.
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self._name_of = name_of
        self._name = ""
        self._process = context.Process(target=_serve, args=(other_end, set_up), daemon=True)
        self._process.start()
        other_end.close()  # the worker has the only one now, so that its death is noticed here, and ours there

    def send(self, message: object) -> None:
        """Send the arguments of `set_up`, later a job; there must be none under way."""
        with suppress(OSError):  # it died; `receive` will tell
            self.connection.send(message)

    def begin(self, job: object) -> None:
        """Send a job."""
        self._name = f"{self._name_of(job)}: " if self._name_of else ""
        self.send(job)

    def receive(self) -> Any:  # noqa: ANN401
        """The next result of the job under way, `Mark.END` behind the last.

        Raises:
            UserError: the process died, or the job raised one.
            RuntimeError: the job failed otherwise; the message holds the traceback.
        """
        try:
            result = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise UserError(f"{self._name}a worker process ended too early (exit code {self._process.exitcode}; -9 "
                            f"often means out of memory); try a smaller --num_workers") from error
        if isinstance(result, UserError):
            raise result
        if isinstance(result, Exception):
            raise RuntimeError(f"{self._name}in a worker process:\n{result}")
        return result

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, set_up: Callable[..., Callable[[Any], Iterable[Any]]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent stops this one
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        do = set_up(*connection.recv())
        while True:
            job = connection.recv()
            try:
                for result in do(job):
                    connection.send(result)
                connection.send(Mark.END)
            except UserError as error:
                connection.send(error)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception:
                connection.send(RuntimeError(traceback.format_exc()))
