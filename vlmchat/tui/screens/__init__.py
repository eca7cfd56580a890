"""One module per screen, its style beside it."""
