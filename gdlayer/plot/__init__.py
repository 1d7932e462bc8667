"""Pictures of layers and the schematic of Figure 1. They need matplotlib, which the extra ``report`` installs."""
