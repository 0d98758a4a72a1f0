"""One file per metric, one constant per file that names it. Values are raw, in base units, in the order taken."""
