"""Decoders: what a file says about its samples, and rgb from them. `io.images` is their front."""
