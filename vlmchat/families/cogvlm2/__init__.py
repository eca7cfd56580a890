"""CogVLM2: an EVA2-CLIP tower behind post-norms, and Llama 3 with a second set of weights for picture positions."""
