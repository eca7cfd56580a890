"""InternVL2: InternViT, a two-layer projector behind a pixel shuffle, and a language model of another family."""
