"""Calibrations of the time model, one JSON file each, written by `calibrate` (`visionbench.predicting.calibration`)."""
