"""Published weights, found like data."""

from gdlayer.datasets.files import DataFile

VGG16_IMAGENET = DataFile(
    "vgg16/vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
"""What torchvision calls ``VGG16_Weights.IMAGENET1K_V1``; 553,433,881 bytes."""
