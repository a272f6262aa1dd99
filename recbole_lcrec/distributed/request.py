"""How many processes a command asks for, and where they meet: RecBole's options. Read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_lcrec.utils.errors import Mistakes, UserError

OPTIONS = ("nproc", "world_size", "ip", "port", "group_offset")
"""Options that say where processes run; only their total number affects the result."""


@dataclass(frozen=True)
class Processes:
    """Processes to start on this machine.

    Attributes:
        here: Their number.
        everywhere: Number of processes on all machines.
        ip: Address of the machine with process 0; None if there is one machine.
        port: Its port; None takes a free one.
        offset: Number of this machine's first process.

    Raises:
        UserError: For inconsistent numbers.
    """

    here: int = 1
    everywhere: int = 1
    ip: str | None = None
    port: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        mistakes.expect(
            self.everywhere >= self.here,
            f"option world_size is {self.everywhere}, less than nproc={self.here}: it counts the processes of all "
            "machines. Leave it out if there is one machine.",
        )
        mistakes.expect(
            0 <= self.offset <= max(self.everywhere - self.here, 0),
            f"option group_offset is {self.offset}; expected the number of the first of this machine's "
            f"{self.here} processes among {self.everywhere}, 0 to {self.everywhere - self.here}.",
        )
        mistakes.expect(
            self.everywhere <= self.here or (self.ip is not None and self.port is not None),
            f"world_size={self.everywhere} with nproc={self.here} takes several machines: give --ip and --port of "
            "the machine with group_offset=0 to each of them.",
        )
        mistakes.finish()

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return self.everywhere > 1


def processes_of(options: Mapping[str, Any]) -> Processes:
    """Return the processes that the options ask for.

    Args:
        options: Checked options, with those of the command line taking precedence over those of files.

    Raises:
        UserError: For inconsistent numbers or a wrong port.
    """
    here, everywhere = options.get("nproc") or 1, options.get("world_size")
    everywhere = here if everywhere in (None, -1) else everywhere  # -1 is RecBole's default
    port = options.get("port")
    if port is not None and not (str(port).isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"option port is {port}; expected a number from 1 to 65535.")
    return Processes(
        here, int(everywhere), options.get("ip"), None if port is None else int(port), options.get("group_offset") or 0
    )
