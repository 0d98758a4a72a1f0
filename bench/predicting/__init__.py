"""Predicting the time and the memory of a step on a GPU that is not here: a model, always with its interval."""
