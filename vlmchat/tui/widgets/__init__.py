"""What the screens are made of: widgets draw and report, they keep nothing on disk."""
