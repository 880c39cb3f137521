"""Masked autoencoders of images and video."""
