"""The full-screen app: screens over a desk, fed by one bridge from the engine's thread."""
