"""How good frozen features are: probes over arrays, their baselines, and the augmentations of fine-tuning."""
