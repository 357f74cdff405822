"""Runs Gappa on a script and says what it proved."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

# Bits of Gappa's own intervals: the bounds of the second tier stand at 2^-106 of what they bound.
PRECISION = 250
MISSING = "Gappa is not installed: apt install gappa"


@dataclass(frozen=True)
class Answer:
    """What Gappa made of a script.

    Attributes:
        proved: every conclusion follows, and Gappa has seen that every hint is an identity.
        said: its messages, each once.
    """

    proved: bool
    said: str


def installed() -> bool:
    return shutil.which("gappa") is not None


def ask(script: str, *, dichotomies: int = 100, seconds: float = 300) -> Answer:
    """Gappa's answer to a script.

    Args:
        dichotomies: how often it may halve the interval of a variable that a script splits.

    Raises:
        FileNotFoundError: there is no Gappa.
        RuntimeError: it could not read the script.
        subprocess.TimeoutExpired: it took longer than `seconds`.
    """
    if not installed():
        raise FileNotFoundError(MISSING)
    command = ["gappa", f"-Eprecision={PRECISION}", f"-Edichotomy={dichotomies}", "-Eno-auto-dichotomy"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=seconds, check=False)
    said = "\n".join(dict.fromkeys((done.stderr + done.stdout).splitlines()))
    if "syntax error" in said or done.returncode not in (0, 1):
        raise RuntimeError(f"Gappa could not read a script: {said}\n{script}")
    # A hint that it cannot see to be an identity would be an axiom that nobody states.
    return Answer(done.returncode == 0 and "Warning" not in said, said)


__all__ = ["MISSING", "Answer", "ask", "installed"]
