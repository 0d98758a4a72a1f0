"""The datum that passes between measuring and reporting: standard library only, no torch.

`spec` says what is measured and how, `record` what came out and where, `store` keeps it in JSON Lines,
`devices` knows the GPUs' data sheets, `derived` computes what is shown from what is stored, `units` writes it.
"""
