"""PPD, the baseline LocLoc compares itself with: a linear classifier and a deconvolution decoder on a frozen ViT."""

from torch import Tensor, nn

LAST_CLS = 4  # the linear classifier takes the normed CLS tokens of the last 4 blocks


class LinearClassifier(nn.Linear):
    """Normed CLS tokens of the last 4 blocks, concatenated, `(B, 4 D) float` > logits `(B, K)`."""

    def __init__(self, channels: int, classes: int):
        super().__init__(LAST_CLS * channels, classes)


class Decoder(nn.Module):
    """Normed patch tokens `(B, D, h, w) float` > unbounded maps `(B, 1, 4h, 4w)`.

    14 x 14 tokens > max-pool, 7 x 7 > three transposed convolutions, 56 x 56. An odd grid is rounded up: 15 > 8 > 64.
    """

    def __init__(self, channels: int, hidden: int = 2048, width: int = 256):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(inputs, width, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            for inputs in (hidden, width, width)
        )
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.stem(tokens)
        for step in self.up:
            features = step(features)
        return self.head(features)
