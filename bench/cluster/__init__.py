"""A column per card, from a queue: a request becomes shifts, a queue runs them, and their records are the state.

`shifts` is pure, `site` reads what cards are called here, `slurm` and `ray` speak to a queue, `drive` is the loop,
and `job` is what a node runs.
"""
