"""Networks counted in parts, over all cores. Counts are kept by the versions of visionbench, torch and timm.

A user's network is counted each time: what it is may change with any file that its module imports.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

from visionbench.command import progress
from visionbench.record.files import text_of
from visionbench.record.profile import Profile, Profiles, by_network, format_lines, parse
from visionbench.record.program import release
from visionbench.record.spec import ImageSize
from visionbench.record.units import plural
from visionbench.reports.paper import profiles

Network = tuple[str, ImageSize]
"""A model's qualified name, and the side of its input in pixels; 0 is the model's own size."""

Form = tuple[str, ImageSize, str]
"""A network and the form of it that is wanted: "" as it is built, with its fused form where it has one."""

SOME = 6
"""Fewer networks than this are counted in this process: to start another takes longer."""


def versions() -> tuple[str, str]:
    """Torch's and timm's, "" for one that is not installed; neither is imported."""
    found = []
    for package in ("torch", "timm"):
        try:
            found.append(version(package).partition("+")[0])
        except PackageNotFoundError:
            found.append("")
    return found[0], found[1]


def cache_file() -> Path:
    """Where counts are kept: one file for each visionbench, torch and timm, in the user's cache (`XDG_CACHE_HOME`)."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visionbench"
    torch, timm = versions()
    return folder / f"counts-{release() or 'checkout'}-torch{torch}-timm{timm}.csv"


def known() -> Profiles:
    """Everything counted with this torch and this timm, or shipped; what is counted here wins."""
    path, own = cache_file(), []
    try:
        own = parse(text_of(path))
    except ValueError as error:
        progress.say(f"{path} holds no counts ({error}): they are made anew; remove it to keep new ones.")
    except OSError:
        pass
    return {**_usable(profiles.shipped()), **by_network(own)}


def _usable(shipped: Profiles) -> Profiles:
    """Shipped counts hold for the timm that they were made with; without one here there are no better ones."""
    _, timm = versions()
    return {key: profile for key, profile in shipped.items() if not timm or profile.timm == timm}


def count(networks: Iterable[Network | Form], *, again: bool = True, processes: int | None = None) -> Profiles:
    """The profiles of those networks, counted where they are not known; one that fails has an `error`.

    Appends each to the cache as it comes, so that an interrupted count goes on where it stopped. A user's own is not
    kept. What failed here is counted `again`: its cause may be gone.
    """
    counted = known()
    shipped = profiles.shipped()
    wanted: dict[Form, None] = {(network[0], network[1], "".join(network[2:])): None for network in networks}
    missing = [
        form
        for form in wanted
        if form not in counted or (again and counted[form].error and not (form in shipped and shipped[form].error))
    ]
    if missing and all(versions()):
        progress.say(f"Counting {plural(len(missing), 'network')} exactly, on no hardware ...")
        counted |= by_network(_kept(_counted(missing, processes or os.cpu_count() or 1)))
    return counted


def _kept(counted: Iterable[Profile]) -> Iterator[Profile]:
    """The same profiles, each appended to the cache first; a cache that cannot be written is said once."""
    path, writable = cache_file(), True
    torch, timm = versions()
    for profile in counted:
        stamped = replace(profile, torch=torch, timm=timm)
        try:
            if writable and not profile.model.startswith("user:"):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(format_lines([stamped], head=file.tell() == 0))
        except OSError as error:
            writable = False
            progress.say(f"{path} cannot be written ({error.strerror}): these counts are not kept.")
        yield stamped


def _counted(missing: Sequence[Form], processes: int) -> Iterator[Profile]:
    if len(missing) < SOME or processes < 2:
        for network in missing:
            yield from count_one(network)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_quietly) as pool:
        tasks = [pool.submit(count_one, network) for network in missing]
        try:
            for done, task in enumerate(as_completed(tasks), 1):
                yield from task.result()
                if done % 50 == 0:
                    progress.say(f"counted {done} of {len(tasks)}")
        except BrokenProcessPool:
            progress.say("A counting process died (out of memory?): the same command goes on from there.")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _quietly() -> None:
    """A worker uses one thread and says nothing."""
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def count_one(network: Network | Form) -> list[Profile]:
    """The profiles of one network, or one that says why they are missing."""
    from visionbench.tracing import profile
    from visionbench.tracing.apart import guarded

    model, size = network[:2]
    variant = network[2] if len(network) == 3 else ""
    try:
        with warnings.catch_warnings(action="ignore"):
            return guarded(model, _profiles, model, size, variant)
    except Exception as error:  # one network of a thousand may fail in any way, and the others are wanted
        return [replace(profile.failed(model, size, error), variant=variant)]


def _profiles(model: str, size: ImageSize, variant: str) -> list[Profile]:
    from visionbench.models import resolve
    from visionbench.tracing import profile

    own = resolve(model).image_size
    size = size or own
    counted = [profile.profile_of(model, size, variant)] if variant else profile.profiles(model, size)
    return [replace(each, own_size=own) for each in counted]
