"""Evaluations that take hours: their state after every epoch, and stopping when asked to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from e2mc.progress import Interrupted, stop_requested
from e2mc.state import save_atomically


@dataclass(frozen=True)
class EpochState:
    """The state of one evaluation in a file that is either whole or absent.

    Attributes:
        path: the file.
        identity: of the evaluation; a state of another one is not taken up.
    """

    path: Path
    identity: str

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; None when there is nothing of this evaluation."""
        if not self.path.exists():
            return None
        content = torch.load(self.path, map_location="cpu", weights_only=True)
        return content["state"] if content["identity"] == self.identity else None

    def save(self, state: dict[str, Any]) -> None:
        save_atomically({"identity": self.identity, "state": state}, self.path)


def interruption_point(what: str) -> None:
    """Raises Interrupted when a stop was asked for."""
    if stop_requested():
        raise Interrupted(
            f"{what} stopped because it was asked to; the same call goes on from its last state"
        )
