"""InternVL2: InternViT, a projector behind a pixel shuffle, and a language model of another family."""
