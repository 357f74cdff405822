"""What a recipe's rounding does to an activation and its gradients, before any training."""
