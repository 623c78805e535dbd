"""The models: GEG, LFDM and PPD's baseline; their checkpoints; and `Localizer`, a trained run at inference."""
