"""What this machine is, what it did meanwhile, and whether it is fit to measure."""
