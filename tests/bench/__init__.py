"""Measurements beside peers, as ratios within one run; nothing here is asserted or collected by pytest."""
