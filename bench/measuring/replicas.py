"""A network as one of the replicas that train together, and its step in three ways: synchronised, without, and alone.

All three are one loop over the same weights and the same optimizer: `synchronised` calls the network through torch's
DistributedDataParallel; `unsynchronised` does so under `no_sync`, so gradients stay where they are; `alone` calls the
network itself, on rank 0, while the others wait: what one process without any of this does. The last two let replicas
drift apart, so whether they are equal is asked before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from visionbench.machine.support import UnsupportedError
from visionbench.measuring.ranks import Ranks
from visionbench.models.outputs import trained
from visionbench.record.spec import Spec

Step = Callable[[], Tensor]

NAMES_SHOWN = 3
"""Parameters that are named in a message; of the others their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InTurns:
    """What is timed beside the synchronised step, and whether replicas are equal (to be asked on every rank).

    `alone` does nothing on a rank other than 0.
    """

    ranks: Ranks
    unsynchronised: Step
    alone: Callable[[], object]
    equal: Callable[[], bool]


def wrapped(model: nn.Module, spec: Spec, ranks: Ranks, device: str) -> DistributedDataParallel:
    """The network as torch's DistributedDataParallel. Raises `UnsupportedError` where that refuses it."""
    trained(model)  # says better than torch that there is nothing to train
    place = torch.device(device)
    try:
        return DistributedDataParallel(
            model,
            device_ids=[place] if place.type == "cuda" else None,
            process_group=ranks.gradients,
            gradient_as_bucket_view=spec.parallel == "ddp_views",
        )
    except (ValueError, TypeError) as error:
        raise UnsupportedError(f"DistributedDataParallel refuses it: {error}") from error


def checked_at_first(step: Step, model: nn.Module) -> Step:
    """The step, whose first call raises `UnsupportedError` if it gave a parameter no gradient: the second would say so
    less clearly.
    """
    checked = False

    def checked_step() -> Tensor:
        nonlocal checked
        loss = step()
        if checked:  # no step that is timed walks through the parameters
            return loss
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        if without:
            names = ", ".join(without[:NAMES_SHOWN]) + (", ..." if len(without) > NAMES_SHOWN else "")
            raise UnsupportedError(
                f"{len(without)} parameters get no gradient ({names}), and DDP says 'Expected to have finished "
                "reduction in the prior iteration': let them take part in the loss, or freeze them by "
                "requires_grad_(False)"
            )
        checked = True
        return loss

    return checked_step
