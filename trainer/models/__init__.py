"""The models: GEG, LFDM and PPD's baseline; their checkpoints; and `Localizer`, a trained run at inference."""

BN_MOMENTUM = 0.1  # the published UNet's 0.01 spoils short runs: its statistics lag behind (IoU .44 against .66)
"""Here, because recipes take it and import no torch."""
