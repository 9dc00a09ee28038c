"""The processes that train together: one per GPU, on all hosts; usually it is one alone.

Ranks are numbered from 0; the first one alone writes files and tells of metrics.
"""

import logging
import os
import re
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

log = logging.getLogger("train")

# A peer may decode longer than another, or test and export alone.
TIMEOUT = timedelta(minutes=30)
MEET = timedelta(minutes=5)
WORD_OF_A_PEER = timedelta(seconds=3)


class PeerLost(Exception):
    """Another process of this training ended; the sentence says which and, if known, why."""


class Ranks(Protocol):
    """What the loop needs of the processes; every one of them calls it at the same point."""

    rank: int
    size: int

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over all processes."""

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag: whether it is true in any process."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Gives all processes the first one's values, in place."""

    def share_object(self, value: Any) -> Any:
        """The first process's value, which may be anything that can be pickled."""

    def finish(self) -> None:
        """At the end the others wait for the first one, which needs nobody any more."""


class Alone:
    """One process."""

    rank = 0
    size = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        return module

    def any(self, *flags: bool) -> list[bool]:
        return list(flags)

    def sum(self, values: Tensor) -> Tensor:
        return values

    def share(self, tensors: Sequence[Tensor]) -> None:
        pass

    def share_object(self, value: Any) -> Any:
        return value

    def finish(self) -> None:
        pass


class Together:
    """One of several processes, as torchrun's variables describe it."""

    def __init__(self, host: str, hosts: Sequence[str]) -> None:
        self._host, self._hosts = host, tuple(hosts)
        # Names of hosts that have ended may no longer be known.
        self._names = {socket.gethostbyname(name): name for name in hosts}
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        self._store, self.rank, self.size = next(iter(rendezvous("env://", timeout=MEET)))
        self._meet()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=PrefixStore("training", self._store),
            rank=self.rank,
            world_size=self.size,
            timeout=TIMEOUT,
        )

    def wrap(self, module: nn.Module) -> nn.Module:
        return DistributedDataParallel(module, gradient_as_bucket_view=True)

    def any(self, *flags: bool) -> list[bool]:
        values = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return [bool(value) for value in values]

    def sum(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    def share(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

    def share_object(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def finish(self) -> None:
        try:
            self.any(False)
        except RuntimeError:
            if self.rank:
                raise
            log.warning("Another process ended early; all results are written.")

    def _meet(self) -> None:
        """Waits for the others, who have been started by now."""
        keys = [f"here/{rank}" for rank in range(self.size)]
        self._store.set(keys[self.rank], "")
        try:
            self._store.wait(keys, MEET)
        except RuntimeError:
            raise PeerLost(
                f"Not all {self.size} processes on {', '.join(self._hosts)} met within "
                f"{MEET.total_seconds():.0f} s. See the logs of the other hosts."
            ) from None

    def tell(self, sentence: str) -> None:
        """Leaves word of why this process ends, for the others' failure files."""
        self._store.set("failure", f"{self._host}: {sentence}")

    def lost_peer(self, error: Exception) -> PeerLost | None:
        """What the error means if it is of the connection to other processes, else None."""
        if not (isinstance(error, dist.DistError) or _of_connection(error)):
            return None
        try:
            self._store.wait(["failure"], WORD_OF_A_PEER)
            return PeerLost(f"Another process failed. {self._store.get('failure').decode()}")
        except RuntimeError:  # nobody left word, or the first host is gone and the store with it
            return PeerLost(
                f"Lost {self._peer(str(error))}, which ended without a word (killed, out of "
                "memory, or its instance is gone). See its log; the next start goes on from the "
                "last checkpoint."
            )

    def _peer(self, message: str) -> str:
        for address in re.findall(r"\d+\.\d+\.\d+\.\d+", message):
            if address in self._names and self._names[address] != self._host:
                return f"host '{self._names[address]}'"
        others = [name for name in self._hosts if name != self._host]
        return f"host '{others[0]}'" if len(others) == 1 else "another process"


def _of_connection(error: Exception) -> bool:
    """gloo's and NCCL's errors are plain ones of torch; others' words may speak of an igloo."""
    pattern = r"gloo|nccl|connection (closed|reset|refused)|broken pipe"
    return type(error) is RuntimeError and bool(re.search(pattern, str(error), re.IGNORECASE))
