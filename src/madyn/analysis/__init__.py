"""What is done to a dataset with curves: fit it, hold hypotheses against one another, forecast what goes on."""
