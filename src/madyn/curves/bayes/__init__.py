"""Posteriors of curves without sampling: priors, evidence on an adaptive grid, mixtures; priors learned from runs."""
