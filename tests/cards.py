"""A data sheet of one's own, as `visionbench.predicting.targets` shows it."""

from __future__ import annotations

import re

from visionbench.predicting import targets

[TOML] = re.findall(r"```toml\n(.*?)```", targets.__doc__ or "", re.DOTALL)
