"""From whatever a user brings to an `Implementation`."""
