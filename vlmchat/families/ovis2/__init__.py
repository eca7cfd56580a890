"""Ovis2: AIMv2, a vocabulary of visual words, and Qwen2.5 reading them beside text."""
