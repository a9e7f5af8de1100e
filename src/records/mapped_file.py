"""A record file in memory: mapped, not loaded."""

import mmap
import os
from pathlib import Path

from src.errors import UserError
from src.text_files import check_regular


class MappedFile:
    """The bytes of a file that must not become shorter while they are read.

    Raises:
        UserError: the file cannot be read, or is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with check_regular(path).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def check_size(self) -> None:
        """To be called before content is read: at a byte that is gone the system would end the process by SIGBUS.

        It takes 0.5 us. Reading records by themselves (pread), which would close the gap between check and use, takes
        1.1 us more for each, of 5.

        Raises:
            UserError: the file became shorter.
        """
        if isinstance(self.content, mmap.mmap) and (size := self.content.size()) < len(self.content):
            raise UserError(f"{self.path}: was cut from {len(self.content)} to {size} bytes while it was in use; make "
                            f"it anew, under another name while a run reads it")
