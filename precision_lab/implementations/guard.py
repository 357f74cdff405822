"""The one place where what a kernel under test does is caught.

Everything that runs a stranger's code runs it in here. Whatever goes wrong outside is the lab's own trouble.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from precision_lab.devices import context_is_lost
from precision_lab.exceptions import InternalError, KernelError, kernel_error, raise_if_users
from precision_lab.implementations.switches import switches_kept

T = TypeVar("T")


def guarded(work: Callable[[], T], before: str = "") -> T:
    """What a kernel's code gives; torch's switches are afterwards as they were.

    Args:
        before: put before what an exception says, such as "backward: ".

    Raises:
        KernelError: it raised; its author's code may raise anything.
        InternalError: the lab's own trouble, met where an emulated GPU executes the kernel.
        torch.OutOfMemoryError: the device's memory is too small, which is no fault of its own.
        RuntimeError: it destroyed the device's context; `running.placement.raise_if_lost` names it.
        KeyboardInterrupt: the user's, in a process that is not the kernel's own.
    """
    try:
        with switches_kept():
            return work()
    except (KernelError, InternalError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise KernelError("missing_dependency", str(error)) from error
    except BaseException as error:
        raise_if_users(error)
        if context_is_lost(error):
            raise
        raise kernel_error(error, before) from error
