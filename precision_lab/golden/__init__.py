"""The golden tables of `reference/tables`: which inputs, written and checked."""
