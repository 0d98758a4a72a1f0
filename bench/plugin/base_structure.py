"""The structure of a model as the base has it, counted in the base's tree by another process."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.comparison import structure
from visionbench.record.errors import BenchError
from visionbench.record.spec import Spec

if TYPE_CHECKING:
    from visionbench.comparison.structure import Structures
    from visionbench.measuring.process.side import Source

SECONDS = 300.0
"""How long the base's rows may take to count."""

_CHILD = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path[:] = request['path'] + sys.path * request['own']; "
    "from visionbench.plugin.base_structure import count_here; count_here(request)"
)


def count_base(source: Source, specs: Sequence[Spec]) -> Structures:
    """The rows of `specs` in the tree of `source`. Raises `BenchError` where they cannot be counted there."""
    if source.tree is None:
        raise BenchError("the base has no tree to count in: name a git revision.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "structure.json"
        request = source.request("cpu") | {"specs": [asdict(spec) for spec in specs], "file": str(file)}
        try:
            done = subprocess.run(
                [source.python, "-P", "-c", _CHILD, json.dumps(request)], check=False, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise BenchError(
                f"the base's structure was not counted in {SECONDS:g} s: make the model smaller."
            ) from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise BenchError(f"the base's structure cannot be counted ({last}): mend the base.")
        return structure.read(file)


def count_here(request: dict[str, Any]) -> None:
    """What the process does: count the rows from the base's tree, and write them to the file."""
    from visionbench.measuring.process.side_process import check_origin, origin_of, settle_in
    from visionbench.tracing.structure import structures  # the engine's own, before the tree comes first on the path

    settle_in(request)
    specs = [Spec(**spec) for spec in request["specs"]]
    counted = structures(specs)
    origin = origin_of(request)
    assert origin is not None, "count_base names a tree"
    for spec in specs:
        check_origin(spec.model, origin)
    structure.write(Path(request["file"]), counted)
