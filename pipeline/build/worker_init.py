"""Settings of every process that makes masks, set once at its start."""

import cv2
import torch

from ..io.images import ignore_decoder_warnings


def prepare_process() -> None:
    """One thread each for torch and OpenCV: N processes would run N x cores of them, and last bits would differ."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    ignore_decoder_warnings()
