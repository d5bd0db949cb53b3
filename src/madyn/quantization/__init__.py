"""What massive activations cost when hidden states are quantized: simulated, and estimated from statistics alone."""
