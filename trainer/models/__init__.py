"""The models: GEG, LFDM and PPD's baseline; their checkpoints; and `Localizer`, a trained run at inference."""

BN_MOMENTUM = 0.1  # the published UNet's 0.01 spoils short runs: its statistics lag behind (IoU .44 against .66)
"""Here, because recipes take it and import no torch."""


def is_guided(share: float) -> bool:
    """Whether a share of patch tokens leaves any out; 0 and 1 both mean all of them. Here for the same reason."""
    return 0 < share < 1
