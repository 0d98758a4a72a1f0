"""The datum that passes between measuring and reporting: no torch.

`spec` says what is measured and how, `record` what came out and where, `store` keeps it in JSON Lines, `files` reads
every file by type and writes it whole, `metrics` and `flags` say what names mean, `devices` knows the GPUs' data
sheets, `statistics` computes what is shown from what is stored, `units` writes it.
"""
