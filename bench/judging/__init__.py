"""Verdicts: two sides in, one of five words out. Exact where structure is compared, statistical where time is.

`verdict` judges comparisons, `duet` makes them (the only module here that reaches into `visionbench.measuring`),
`structure` compares exact counts with a baseline in git.
"""
