"""Files to pixels: pictures checked, measured and hashed."""
