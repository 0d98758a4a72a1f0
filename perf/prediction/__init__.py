"""The workshop of predictions: how the shipped calibrations were fitted, and how we know how wrong they are.

Nothing here is installed. It fits on timm's result tables and on printed rows, and checks predictions against printed
throughput and memory; `python -m perf.prediction --help` lists the commands, docs/predictions.md shows what they print.
"""
