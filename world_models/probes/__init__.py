"""How good frozen features are: probes over arrays, their floors, and the augmentations of fine-tuning."""
