"""Both tiers of the gate for one model of a test suite: what the pytest plugin asks and tells, without pytest.

The structure (`plugin_structure`) is counted in this process, the timing (`plugin_timing`) is done in others. Both
start from the suite's root directory, from where a user's factory is imported, and leave directory and import path as
they were.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionbench.models import ModelError
from visionbench.plugin.structure import counted, structural
from visionbench.plugin.words import Asked, Found, Wanted, Word
from visionbench.record.errors import BenchError
from visionbench.record.files import typed
from visionbench.record.spec import Spec

WORST: tuple[Word, ...] = ("failed", "error", "skipped", "passed")
"""Of two tiers, the outcome that is told."""


def look(model: str, settings: Mapping[str, Any], asked: Asked) -> Found:
    """Both tiers, as far as they are asked for."""
    with _in(asked.folder):
        try:
            wanted = _wanted(model, settings)
            now = counted(wanted)
            found = [structural(now, asked)]
            if asked.base is not None:
                from visionbench.plugin.timing import timed

                found.append(timed(wanted, now, asked))
        except (BenchError, ModelError) as error:
            return Found(word="failed", text=f"{model}: {error}")
    return _together(found)


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Work in `folder`; what is imported from there stays imported, the import path does not stay changed."""
    path = list(sys.path)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path[:] = path


def _wanted(model: str, settings: Mapping[str, Any]) -> Wanted:
    """The spec of a model's name and the marker's settings. Raises `BenchError` for a setting that is none."""
    from visionbench import models

    card, left = models.resolve(model), dict(settings)
    models.load(card.name)  # here, where what the import warns of is the suite's to see
    training, device, threads = left.pop("training", True), left.pop("device", None), left.pop("threads", None)
    try:
        spec = typed({"image_size": card.image_size} | left | {"model": card.name}, Spec, "spec")
    except ValueError as error:
        told = str(error).replace("a spec is wrong: ", "").replace("in a spec", "of the marker visionbench")
        raise BenchError(f"{told.rstrip('.')}: mend the marker.") from error
    return Wanted(spec=spec, batch_size=left.get("batch_size"), training=training, device=device, threads=threads)


def _together(found: Iterable[Found]) -> Found:
    """The worst outcome, and all that was said."""
    found = sorted(found, key=lambda one: WORST.index(one.word))
    return Found(
        word=found[0].word,
        text="\n\n".join(one.text for one in found if one.text),
        properties=tuple(pair for one in found for pair in one.properties),
    )
