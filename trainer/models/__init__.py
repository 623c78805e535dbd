"""The models: GEG, LFDM and PPD's baseline; their checkpoints, and a run at inference."""
