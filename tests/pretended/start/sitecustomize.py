"""Python runs this before anything else where its folder is on PYTHONPATH: torch is a pretended card's from the start.

Nothing happens unless the environment names a card (`tests.pretended.card.VARIABLE`).
"""

import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path

if os.environ.get("PRETENDED_CARD"):
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.pretended import card as cards

    CARD = cards.chosen()

    def _torch(module):
        for owner, name, value in cards.answers(module, CARD):
            setattr(owner, name, value)
        sys.meta_path.remove(FIRST)  # pytest, whose hook loads its plugins' modules, has put it in front meanwhile
        sys.meta_path.insert(0, FIRST)

    def _workload(module):
        module.build = cards.on_the_cpu(module.build, CARD)

    CHANGES = {"torch": _torch, "visionbench.measuring.workload": _workload}

    class AfterLoading(importlib.abc.MetaPathFinder):
        """Changes a module as soon as it is loaded."""

        def find_spec(self, name, path=None, target=None):
            change = CHANGES.get(name)
            spec = importlib.machinery.PathFinder.find_spec(name, path) if change else None
            if spec is None or spec.loader is None:
                return None
            execute = spec.loader.exec_module

            def load(module):
                execute(module)
                change(module)

            spec.loader.exec_module = load
            return spec

    FIRST = AfterLoading()
    sys.meta_path.insert(0, FIRST)
    sys.modules["pynvml"] = cards.nvml(CARD)
