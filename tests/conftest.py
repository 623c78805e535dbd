"""For all tests."""

import torch

torch.set_num_threads(1)  # as a worker has it; two threads on two busy cores only wait for each other
