"""The verbs of the command line, one file each.

`add` gives a parser the verb's options and says how they become a request; `run` does what a request asks and returns
the exit code. Between the two is a function that the Python API (`visionbench.api`) calls, too. Each verb imports
what it needs when it runs, and nothing heavy before.
"""
