"""One conversation: a model opened, questions asked, answers kept."""
