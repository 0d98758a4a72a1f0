"""Measuring: a spec becomes a workload, is timed in a fresh process, and comes back as a record.

`workload` builds what is run, `timing` runs it against a clock, `metrics` say what the values are, `environment` says
where. `worker` puts these steps in order inside the `child`, which the `fork_server` makes and `launch` watches;
`sweep` launches many and keeps their records. One record is one launch.
"""
