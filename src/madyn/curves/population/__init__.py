"""Runs as a population: what the logarithm of a trajectory does over a run, and what that says of a young one."""
