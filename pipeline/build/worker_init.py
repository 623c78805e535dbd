"""Settings of every process that makes masks, set once at its start."""

import cv2
import torch

from ..backbones.tf32 import set_tf32
from ..io.images import ignore_decoder_warnings


def prepare_process() -> None:
    """One thread each for torch and OpenCV: N processes would run N x cores of them, and last bits would differ.

    Float32 is IEEE's on GPUs too.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    set_tf32(False)  # a backbone sets its own
    ignore_decoder_warnings()
