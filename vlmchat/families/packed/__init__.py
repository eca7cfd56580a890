"""Linear layers whose weights stay as a quantized checkpoint stores them: one module per format."""
