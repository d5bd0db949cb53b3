"""The curves that a trajectory may follow, one file each: its formula, basis, derivative, peak, limit and entry."""
