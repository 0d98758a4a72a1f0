"""The verbs of the command line, one file each: `add` says what a user may ask; `run` does it and returns the exit
code.

Each imports what it needs when it runs, and nothing heavy before.
"""
