"""Remedies against massive activations, as thin modules on transformers' own classes."""
