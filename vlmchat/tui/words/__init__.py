"""What the app says, one table per language, all with the same keys and placeholders."""
