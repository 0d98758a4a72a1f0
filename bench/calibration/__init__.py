"""Calibrations of the time model, one JSON file each, written by `calibrate` (`bench.predict.calibration`)."""
