"""What a model's activations see while it trains, counted by bit pattern."""
