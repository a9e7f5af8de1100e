"""A line between the hosts of a run: when the ranks of one host fail or are stopped, the others learn of it.

Ranks whose peers on another host are gone wait in a reduction, on Ascend for half an hour. So host 0 listens, each
other host connects to it, both greet with `host NUMBER`, and whoever ends sends one line: `done`, `failed TEXT` or
`stopped TEXT`. A connection that breaks without one counts as a failure. Nothing blocks: `poll` is to be called every
moment.
"""

import socket
from contextlib import suppress

from src.errors import UserError

CONNECT_SECONDS = 1
_KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a host without power is noticed in 35 s
_LONGEST_LINE = 10_000


class HostLink:
    """One host's end of the line."""

    def __init__(self, address: str, port: int, node_rank: int) -> None:
        self.place, self.node_rank = (address, port), node_rank
        self.peers: list[_Peer] = []
        self._met = False  # another host has greeted this one
        self.listener = self._listen() if node_rank == 0 else None

    def poll(self) -> tuple[str, str] | None:
        """Return what another host reported, ("failed" or "stopped", text), or None while all is well."""
        self._connect()
        for peer in list(self.peers):
            for line in peer.lines():
                kind, _, text = line.partition(" ")
                if kind == "host" and text.isdigit():
                    peer.name, self._met = f"host {text}", True
                elif kind in ("failed", "stopped") and peer.name:
                    return kind, text if text.startswith("host ") else f"{peer.name}: {text}"  # or passed on
                elif kind == "done":
                    peer.done = True
            if peer.closed:
                self.peers.remove(peer)
                if peer.name and not peer.done:  # without a greeting it was none of ours, such as a scan of ports
                    return "failed", f"{peer.name}: the connection was lost"
        return None

    def report(self, kind: str, text: str = "") -> None:
        """Tell the other hosts how this one ended; host 0 passes on what it heard."""
        self._connect()
        for peer in self.peers:
            peer.send(f"{kind} {text}")

    def close(self) -> None:
        """Hang up."""
        for peer in self.peers:
            peer.socket.close()
        if self.listener is not None:
            self.listener.close()

    def _listen(self) -> socket.socket:
        try:
            listener = socket.create_server(("", self.place[1]))
        except OSError as error:
            raise UserError(f"--master_port {self.place[1] - 1}: the port after it, which the hosts use too, cannot be "
                            f"opened: {error.strerror}; give another") from error
        listener.setblocking(False)
        return listener

    def _connect(self) -> None:
        with suppress(OSError):  # nobody there yet
            if self.listener is not None:
                while True:
                    self._greet(self.listener.accept()[0])
            elif self.node_rank and not self._met and not self.peers:
                self._greet(socket.create_connection(self.place, CONNECT_SECONDS))

    def _greet(self, connection: socket.socket) -> None:
        self.peers.append(_Peer(connection))
        self.peers[-1].send(f"host {self.node_rank}")


class _Peer:
    """A connection to another host."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.name = connection, ""
        self.done = self.closed = False
        self._received = b""
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def lines(self) -> list[str]:
        """The complete lines that came since the last call."""
        try:
            while len(self._received) < _LONGEST_LINE:
                received = self.socket.recv(_LONGEST_LINE)
                if not received:
                    self.closed = True
                    break
                self._received += received
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        *lines, self._received = self._received.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def send(self, line: str) -> None:
        with suppress(OSError):  # gone: `lines` notices
            self.socket.sendall(line.replace("\n", " ").encode()[:_LONGEST_LINE - 1] + b"\n")
