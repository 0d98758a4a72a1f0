"""Predict the time and the memory of a step on a GPU that you don't have, with error bars."""
