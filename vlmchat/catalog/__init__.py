"""Which models there are: rows as data, and nothing that costs more than reading them."""
