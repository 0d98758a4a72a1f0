"""Tables of what one has measured: runs, effects, predictions, verdicts."""
