"""Original hub checkpoints as native models: one folder per family, the same files in each."""
