"""What a massive activation does: where it stands, what happens without it, what writes it and what attends to it."""
