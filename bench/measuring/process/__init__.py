"""The processes that measure: a fork server and its launches, and the two live sides of a paired run."""
