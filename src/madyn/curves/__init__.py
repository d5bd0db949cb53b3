"""Curves of a trajectory: hypotheses, fits by the published method, exact maps and peaks. Never imports torch."""
