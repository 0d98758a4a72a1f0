"""The pytest plugin: a marker and a fixture that gate models in anybody's test suite."""
