"""A data sheet of one's own, as `bench.predict.targets` shows it."""

from __future__ import annotations

import re

from bench.predict import targets

[TOML] = re.findall(r"```toml\n(.*?)```", targets.__doc__ or "", re.DOTALL)
